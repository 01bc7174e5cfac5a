"""One embedding model behind one address in the cluster: texts in, vectors out, on CPUs or on a GPU."""

from pathlib import Path
from typing import NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from llm_serving import _checks, _values, taints
from llm_serving.inference_service import service_url
from llm_serving.runtimes import embedder

CHART = Path(__file__).parent / "charts" / "inference-service"
DEVICES = ("cpu", "gpu")


class EmbeddingServiceArgs(TypedDict):
    """Arguments of `EmbeddingService`."""

    namespace: pulumi.Input[str]
    """Kubernetes namespace, which exists already."""
    model: str
    """Name of the model and of its service: requests give it."""
    image: pulumi.Input[str]
    """Image of the embedder, by digest: the CPU one, or the CUDA one with the device gpu."""
    device: NotRequired[str]
    """What it computes on: cpu, or gpu for one GPU. Default: cpu."""
    pool: NotRequired[str]
    """Node pool to run in. Default: system, which has no GPUs."""
    replicas: NotRequired[int]
    """Pods. Default: 2."""
    cpu_millicores: NotRequired[int]
    """CPU that a pod asks for, in thousandths of a core; on CPUs, a thread for each that is begun. Default: 1000."""
    memory_mib: NotRequired[int]
    """Memory of a pod in MiB, asked for and limited to, from 512. Default: 1024, and 4096 with the device gpu."""
    timeout_seconds: NotRequired[int]
    """Longest time for a request, 1 to 900. Default: 60."""
    truncate: NotRequired[bool]
    """Whether an input that is too long for the model is cut rather than refused. Default: false."""


class EmbeddingService(pulumi.ComponentResource):
    """The embedder's pods: weights in the image, no role, no way out of the cluster.

    Raises ValueError at construction for an unknown device, a number out of range, or a GPU in the system pool.
    """

    url: pulumi.Output[str]
    """Base address in the cluster, known when the service answers."""

    def __init__(self, name: str, args: EmbeddingServiceArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:EmbeddingService", name, {}, opts)
        pool = args.get("pool", taints.SYSTEM_POOL)
        gpu = _checks.one_of("device", args.get("device", "cpu"), DEVICES) == "gpu"
        if gpu and pool == taints.SYSTEM_POOL:
            raise ValueError("pool: the system pool has no GPUs; nearest valid value: a pool with GPUs")
        spec = embedder.EmbedderSpec(
            model=args["model"],
            gpu=gpu,
            cpu_millicores=_checks.whole("cpu_millicores", args.get("cpu_millicores", 1000), low=10, high=192_000),
            timeout_seconds=_checks.whole(
                "timeout_seconds", args.get("timeout_seconds", 60), low=1, high=900, unit="s"
            ),
            truncate=args.get("truncate", False),
        )
        memory_mib = args.get("memory_mib", embedder.GPU_POOL_MIB if gpu else embedder.SYSTEM_POOL_MIB)
        chart = kubernetes.helm.v4.Chart(
            name,
            chart=str(CHART),
            name=args["model"],
            namespace=args["namespace"],
            values=_values.embedding_service(
                spec=spec,
                launch=embedder.launch(spec),
                image=args["image"],
                replicas=_checks.whole("replicas", args.get("replicas", 2), low=1, high=1000),
                memory_mib=_checks.whole("memory_mib", memory_mib, low=embedder.LEAST_MIB, high=1_048_576, unit="MiB"),
                pool=pool,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.url = pulumi.Output.all(args["namespace"], chart.resources).apply(
            lambda known: service_url(args["model"], known[0])
        )
        self.register_outputs({"url": self.url})
