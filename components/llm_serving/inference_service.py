"""One model behind one address in the cluster: pods of its runtime, with weights from the model bucket."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from llm_serving import _checks, _iam, _scaling, _values, observability
from llm_serving.runtimes import RUNTIMES, tensorrt_llm
from llm_serving.runtimes.launch import PORT, Adapter, ServiceSpec, refuse

MOST_NODES = 16
"""The most that a replica may span: no model of the catalog needs more."""
CHART = Path(__file__).parent / "charts" / "inference-service"


class ScalingArgs(TypedDict):
    """How KEDA scales a model by its queue and the use of its KV caches."""

    max_replicas: int
    """Most pods."""
    prometheus_url: pulumi.Input[str]
    """Address of the Prometheus that scrapes the pods: `Monitoring.prometheus_url`."""
    min_replicas: NotRequired[int]
    """Fewest pods, 1 at least: the gateway holds no request for a model that has none. Default: 1."""
    queue_target: NotRequired[int]
    """Requests that may wait for each pod, 1 to 16; more call for another pod. Default: 8."""
    kv_cache_target_percent: NotRequired[int]
    """Use of the KV caches, in percent on average, that pods are kept for; more call for another one, where the
    runtime exports it. Default: 80."""
    scale_up_stabilization_seconds: NotRequired[int]
    """For how long more pods must be wanted before there are more. Default: 30."""
    scale_down_stabilization_seconds: NotRequired[int]
    """For how long fewer pods must do before there are fewer. Default: 300."""


class AdapterArgs(TypedDict):
    """A LoRA adapter of a model."""

    revision: str
    """Revision of its weights: the folder models/<model>/<revision> of the bucket."""
    rank: int
    """As `r` in its adapter_config.json."""
    weight_gb: float
    """Size of its files in GB (10^9 bytes)."""
    model: NotRequired[str]
    """What the model bucket knows it by. Default: its name."""


class InferenceServiceArgs(TypedDict):
    """Arguments of `InferenceService`."""

    cluster_name: pulumi.Input[str]
    """EKS cluster to run in."""
    namespace: pulumi.Input[str]
    """Kubernetes namespace, which exists already."""
    model: str
    """Name of the model: requests and the model bucket know it by this."""
    service_name: NotRequired[str]
    """Name that the service, its pods and its service account share. Default: the model's."""
    revision: str
    """Revision of the weights: the folder models/<model>/<revision> of the bucket."""
    weight_gb: float
    """Size of the model's files in GB (10^9 bytes)."""
    bucket_name: pulumi.Input[str]
    """Model bucket."""
    bucket_arn: pulumi.Input[str]
    """ARN of the model bucket: `ModelBucket.bucket_arn`."""
    bucket_key_arn: pulumi.Input[str]
    """ARN of the KMS key that the bucket's objects are encrypted with: `ModelBucket.kms_key_arn`."""
    image: pulumi.Input[str]
    """Image of the runtime, by digest."""
    loader_image: pulumi.Input[str]
    """Image of the model loader, by digest."""
    pool: str
    """GPU pool to run in."""
    max_input_tokens: int
    """Longest prompt in tokens."""
    max_total_tokens: int
    """Longest prompt and answer together in tokens."""
    runtime: NotRequired[str]
    """What serves the model. Default: tgi."""
    replicas: NotRequired[int]
    """Pods, or groups of them where a replica spans nodes. Default: 1. Not together with `autoscaling`."""
    autoscaling: NotRequired[ScalingArgs]
    """What decides the number of pods instead; KEDA must be in the cluster already. Default: it is fixed."""
    gpus: NotRequired[int]
    """GPUs of each pod, 1 to 8. Default: 1."""
    nodes: NotRequired[int]
    """Nodes that one replica spans, 1 to 16, with a pod of `gpus` GPUs on each; more than 1 on vllm only, in a cluster
    that has the controller of LeaderWorkerSets, without `autoscaling`. Default: 1."""
    max_concurrent_requests: NotRequired[int]
    """Requests in a pod at once; the next is refused with 429. Default: 128."""
    cpu_millicores: NotRequired[int]
    """CPU that a pod asks for, in thousandths of a core. Default: 2000."""
    memory_mib: NotRequired[int]
    """Memory of a pod in MiB, asked for and limited to. Default: 8192."""
    dtype: NotRequired[str]
    """Type to compute in, as the runtime spells it. Default: the checkpoint's own."""
    quantization: NotRequired[str]
    """How weights are quantized, as the runtime spells it. Default: the checkpoint's own, if any."""
    kv_cache_dtype: NotRequired[str]
    """Type of the cached keys and values, as the runtime spells it. Default: the compute type."""
    gpu_memory_utilization: NotRequired[float]
    """Fraction of each GPU's memory that the runtime may use. Default: the runtime's own."""
    max_batch_prefill_tokens: NotRequired[int]
    """Prompt tokens that are read in one step. Default: the runtime's own."""
    weights: NotRequired[str]
    """`copy` has the loader copy and verify the weights first; `stream` has vLLM read them from the bucket itself.
    Default: stream for vllm, copy for the others."""
    engine: NotRequired[bool]
    """Whether the revision is an engine that TensorRT-LLM has built, rather than a checkpoint. Default: false."""
    gpu_architecture: NotRequired[str]
    """Architecture of the pool's GPUs, as in sm90, that an engine's revision must be for."""
    pods_service: NotRequired[bool]
    """Whether a headless Service has the addresses of the pods, for the gateway to choose among: what `pods_url` names.
    Default: false."""
    adapters: NotRequired[Mapping[str, AdapterArgs]]
    """LoRA adapters by the name that requests give, on top of the model; of tgi and vllm only."""


class InferenceService(pulumi.ComponentResource):
    """A model served by an inference runtime on GPU nodes, with a role that reads its and its adapters' weights only.

    Raises ValueError at construction for an unknown runtime, limits that the runtime would refuse at its start, a
    number out of range, or autoscaling on what the runtime does not export.
    """

    url: pulumi.Output[str]
    """Base address in the cluster, known when the service answers."""
    role_arn: pulumi.Output[str]
    """ARN of the pods' role."""

    def __init__(self, name: str, args: InferenceServiceArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:InferenceService", name, {}, opts)
        self._name = name
        runtime = RUNTIMES[_checks.one_of("runtime", args.get("runtime", "tgi"), RUNTIMES)]
        spec = _spec(args)
        if args["model"] in args.get("adapters", {}):
            raise ValueError(
                f"adapters.{args['model']}: is the model's own name, and requests couldn't tell them apart;"
                f" nearest valid value: {args['model']}-lora"
            )
        launch = runtime.launch(spec)
        if "gpu_architecture" in args:
            refuse(tensorrt_llm.engine_problems(spec, args["revision"], {args["gpu_architecture"]}))
        prefix = weights_prefix(args["model"], args["revision"])
        adapters = {
            adapter: weights_prefix(given.get("model", adapter), given["revision"])
            for adapter, given in args.get("adapters", {}).items()
        }
        values = _values.inference_service(
            spec=spec,
            launch=launch,
            image=args["image"],
            loader_image=args["loader_image"],
            weights=pulumi.Output.concat("s3://", args["bucket_name"], "/", prefix),
            adapters={
                adapter: pulumi.Output.concat("s3://", args["bucket_name"], "/", at) for adapter, at in adapters.items()
            },
            replicas=_checks.whole("replicas", args.get("replicas", 1), low=1, high=1000),
            autoscaling=_autoscaling(args),
            cpu_millicores=int(args.get("cpu_millicores", 2000)),
            memory_mib=int(args.get("memory_mib", 8192)),
            pool=args["pool"],
            release=self._release(args),
            pods_service=args.get("pods_service", False),
        )
        association = self._identity(args, [prefix, *adapters.values()])
        chart = kubernetes.helm.v4.Chart(
            name,
            chart=str(CHART),
            name=self._release(args),
            namespace=args["namespace"],
            values=values,
            # A pod gets its role's credentials when it starts, or never.
            opts=self._child(association),
        )
        self.url = pulumi.Output.all(args["namespace"], chart.resources).apply(
            lambda known: service_url(self._release(args), known[0])
        )
        self.register_outputs({"url": self.url, "roleArn": self.role_arn})

    @staticmethod
    def _release(args: InferenceServiceArgs) -> str:
        return args.get("service_name", args["model"])

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on))

    def _identity(self, args: InferenceServiceArgs, prefixes: Sequence[str]) -> aws.eks.PodIdentityAssociation:
        role = aws.iam.Role(
            f"{self._name}-pods",
            description=f"Pods that serve {self._release(args)}",
            assume_role_policy=_iam.pod_identity_trust(),
            opts=self._child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-weights",
            role=role.name,
            policy=pulumi.Output.all(args["bucket_arn"], args["bucket_key_arn"]).apply(
                lambda arns: _iam.model_read(arns[0], prefixes, arns[1])
            ),
            opts=self._child(),
        )
        self.role_arn = role.arn
        return aws.eks.PodIdentityAssociation(
            f"{self._name}-pods",
            cluster_name=args["cluster_name"],
            namespace=args["namespace"],
            service_account=self._release(args),
            role_arn=role.arn,
            opts=self._child(policy),
        )


def _autoscaling(args: InferenceServiceArgs) -> pulumi.Output[Mapping[str, Any]] | None:
    given = args.get("autoscaling")
    if given is None:
        return None
    if "replicas" in args:
        raise ValueError(
            f"replicas: {args['replicas']:g} is fixed, and autoscaling decides it; nearest valid value: none, and"
            f" autoscaling.min_replicas {args['replicas']:g}"
        )
    numbers = {key: value for key, value in given.items() if key != "prometheus_url"}
    scaling = _scaling.checked(**cast(dict[str, Any], numbers))
    service, runtime = args.get("service_name", args["model"]), args.get("runtime", "tgi")
    observability.runtime(runtime).require_queue()
    if (nodes := args.get("nodes", 1)) > 1:
        raise ValueError(
            f"autoscaling: a replica spans {nodes:g} nodes, and KEDA may scale Deployments only;"
            f" nearest valid value: none, and replicas {max(1, scaling.min_replicas)}"
        )
    return pulumi.Output.all(args["namespace"], given["prometheus_url"]).apply(
        lambda known: _scaling.chart_values(
            scaling, namespace=known[0], model=service, runtime=runtime, prometheus_url=known[1]
        )
    )


def _spec(args: InferenceServiceArgs) -> ServiceSpec:
    prefill = args.get("max_batch_prefill_tokens")
    return ServiceSpec(
        model=args["model"],
        weight_gb=args["weight_gb"],
        gpus=_checks.whole("gpus", args.get("gpus", 1), low=1, high=8),
        nodes=_checks.whole("nodes", args.get("nodes", 1), low=1, high=MOST_NODES),
        max_input_tokens=int(args["max_input_tokens"]),
        max_total_tokens=int(args["max_total_tokens"]),
        max_concurrent_requests=int(args.get("max_concurrent_requests", 128)),
        dtype=args.get("dtype"),
        quantization=args.get("quantization"),
        kv_cache_dtype=args.get("kv_cache_dtype"),
        gpu_memory_utilization=args.get("gpu_memory_utilization"),
        max_batch_prefill_tokens=None if prefill is None else int(prefill),
        weights=args.get("weights"),
        engine=args.get("engine", False),
        adapters=tuple(
            Adapter(name, int(given["rank"]), given["weight_gb"]) for name, given in args.get("adapters", {}).items()
        ),
    )


def weights_prefix(model: str, revision: str) -> str:
    """Return where a model's revision lies in the model bucket.

    Raises ValueError where either isn't one part of a key: the pods' role would read more than it says.
    """
    for field, value in (("model", model), ("revision", revision)):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
            nearest = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("._-") or "1"
            raise ValueError(
                f"{field}: {value!r} must be one part of a key, of letters, digits, dots, dashes and underscores;"
                f" nearest valid value: {nearest}"
            )
    return f"models/{model}/{revision}"


def service_url(service_name: str, namespace: str) -> str:
    """Return the address of a model's service in the cluster. It is known before the service is there."""
    return f"http://{service_name}.{namespace}.svc.cluster.local:{PORT}"


def pods_url(service_name: str, namespace: str) -> str:
    """Return the address of a model's headless Service, behind which DNS has its pods."""
    return service_url(f"{service_name}-pods", namespace)
