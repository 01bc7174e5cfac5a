"""The LLM gateway: its pods, the load balancer in front of them, and how it reaches the cache."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from llm_serving import _checks, _identity, _semantic_tier, _traces, _values, taints
from llm_serving._cors_origins import origin_problems
from llm_serving.runtimes.launch import refuse
from llm_serving.versions import Share, share_problems

CHART = Path(__file__).parent / "charts" / "llm-gateway"
PORT = 8080
KINDS = ("generation", "embedding")
HEALTH_PATH = "/health/ready"
DEREGISTRATION_SECONDS = 30
"""How long the load balancer keeps connections of a pod that goes. The gateway drains its requests itself; a pod that
is gone for good should not hold a rollout up for the 300 s that are AWS's default."""


class ModelVersionArgs(TypedDict):
    """One version of a model, with an inference service of its own."""

    url: str
    """Base address of its inference service."""
    pods_url: NotRequired[str]
    """Base address of a headless Service of its pods, among which requests that begin alike choose the same one."""
    weight: int
    """Percent of the model's requests that it answers, 0 to 100; of a shadow, percent that it gets a copy of."""
    revision: NotRequired[str]
    """Revision of its weights: answers cached for another one are not used."""
    shadow: NotRequired[bool]
    """Whether it only gets copies of requests, and nobody its answers. Default: false."""


class SemanticRouteArgs(TypedDict):
    """How a model's questions are compared by meaning."""

    mode: str
    """`answer`, or `shadow`, which only counts what `answer` would have answered from the cache."""
    threshold: NotRequired[float]
    """Least cosine of two questions that may have the same answer, above 0 and up to 1. Default: 0.95."""


class SemanticTierArgs(TypedDict):
    """The tier of the cache that compares questions by meaning."""

    embedder_url: NotRequired[str]
    """Base address of an embedder, which has /v1/embeddings. Default: the gateway embeds in its own process, which
    takes 370 MiB more of `memory_mib`."""
    embedder_model: NotRequired[str]
    """The model that is asked for at `embedder_url`. Default: all-MiniLM-L6-v2."""
    vector_model: NotRequired[str]
    """The model that the vectors are of, where `embedder_model` is but a service's name. Default: `embedder_model`."""
    timeout_milliseconds: NotRequired[int]
    """Longest wait for a whole lookup, 10 to 10,000. Default: 250."""
    max_entries: NotRequired[int]
    """Questions that are kept, up to 1,000,000; the oldest go first. Default: 20,000."""
    max_partition_entries: NotRequired[int]
    """Questions that are kept of one tenant, model, system prompt and history. Default: 2,000."""


class TracesArgs(TypedDict):
    """Traces of requests."""

    endpoint: str
    """Address of an OpenTelemetry collector's OTLP/HTTP receiver: https, or http inside the cluster."""
    sample_percent: NotRequired[float]
    """Percent of requests that are traced without their caller's asking, 0 to 100. Default: 0."""


class ModelRouteArgs(TypedDict):
    """Where a model is served: at one address, or by versions that share its requests."""

    kind: NotRequired[str]
    """What it answers with: generation for text, embedding for vectors. Default: generation."""
    url: NotRequired[str]
    """Base address of its inference service, where it has no versions."""
    pods_url: NotRequired[str]
    """Base address of a headless Service of the pods at `url`: requests that begin alike then go to the same one."""
    timeout_seconds: NotRequired[int]
    """Longest wait for an answer, 1 to 900. Default: 300."""
    hold: NotRequired[bool]
    """Whether requests wait as long for the first pod of a model that is scaled to zero. Default: false."""
    revision: NotRequired[str]
    """Revision of its weights at `url`: answers cached for another one are not used."""
    versions: NotRequired[Mapping[str, ModelVersionArgs]]
    """Versions by name. Their weights sum to 100, without those of shadows."""
    semantic_cache: NotRequired[SemanticRouteArgs]
    """Where questions that only mean the same are answered from the cache, too: it takes the gateway's
    `semantic_cache`. Default: they are not."""
    adapters: NotRequired[Mapping[str, str]]
    """LoRA adapters that every version serves, by the name that requests give, each with its revision."""


class LlmGatewayArgs(TypedDict):
    """Arguments of `LlmGateway`."""

    vpc_id: pulumi.Input[str]
    """VPC of the cluster."""
    subnet_ids: pulumi.Input[Sequence[str]]
    """Private subnets for the load balancer."""
    cluster_security_group_id: pulumi.Input[str]
    """Security group of the pods."""
    namespace: pulumi.Input[str]
    """Kubernetes namespace, which exists already."""
    image: pulumi.Input[str]
    """Image of the gateway, by digest."""
    models: Mapping[str, ModelRouteArgs]
    """Models by the name that requests give."""
    cache_url: pulumi.Input[str]
    """Where and how to connect to the cache, as in rediss://:TOKEN@HOST:PORT/0."""
    cache_enabled: NotRequired[bool]
    """Whether answers come from the cache. Default: true."""
    cache_ttl_seconds: NotRequired[int]
    """How long an answer is kept. Default: 3600."""
    semantic_cache: NotRequired[SemanticTierArgs]
    """What compares questions by meaning, for the models that ask for it. Default: nothing does."""
    replicas: NotRequired[int]
    """Pods. Default: 2."""
    cpu_millicores: NotRequired[int]
    """CPU that a pod asks for, in thousandths of a core. Default: 500."""
    memory_mib: NotRequired[int]
    """Memory of a pod in MiB, asked for and limited to. Default: 256."""
    key_requests_per_minute: NotRequired[int]
    """Requests of each API key in any 60 seconds, over all pods; needs the cache. Default: 0, no limit."""
    key_tokens_per_minute: NotRequired[int]
    """Prompt and completion tokens of each API key in any 60 seconds; needs the cache. Default: 0, no limit."""
    cors_origins: NotRequired[Sequence[str]]
    """Origins of web pages whose scripts may call, as in https://app.example.com; `*` is any. Default: none may."""
    jwt: NotRequired[_identity.JwtArgs]
    """Whose tokens count, where `ApiGateway` has the authentication TOKEN. Default: nobody's."""
    traces: NotRequired[TracesArgs]
    """Where traces of requests go. Default: no request is traced."""
    deletion_protection: NotRequired[bool]
    """Whether AWS refuses to delete the load balancer. Default: true."""
    cache_port: NotRequired[int]
    """Port of `cache_url`, the only one besides the models' that pods may connect to. Default: 6379."""


class LlmGateway(pulumi.ComponentResource):
    """Gateway pods behind an internal network load balancer that API Gateway reaches through a VPC link.

    The load balancer, target group and listener exist before the pods; a TargetGroupBinding joins them. Raises
    ValueError at construction for a number out of range, weights that do not sum to 100, or a gateway without models.
    """

    load_balancer_arn: pulumi.Output[str]
    """ARN of the load balancer, known once it listens."""
    load_balancer_dns_name: pulumi.Output[str]
    """Host name of the load balancer."""
    target_group_arn: pulumi.Output[str]
    """ARN of the target group of the gateway's pods."""

    def __init__(self, name: str, args: LlmGatewayArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:LlmGateway", name, {}, opts)
        self._name = name
        if not args["models"]:
            raise ValueError("models: is empty, so the gateway would have nowhere to send a request")
        _checks.whole("replicas", args.get("replicas", 2), low=1, high=100)
        refuse(origin_problems("cors_origins", args.get("cors_origins", ())))
        self._limits = _limits(args)
        balancer = self._load_balancer(args)
        targets = aws.lb.TargetGroup(
            f"{name}-pods",
            vpc_id=args["vpc_id"],
            target_type="ip",
            protocol="TCP",
            port=PORT,
            deregistration_delay=DEREGISTRATION_SECONDS,
            health_check={
                "protocol": "HTTP",
                "path": HEALTH_PATH,
                "port": "traffic-port",
                "interval": 10,
                "timeout": 5,
                "healthy_threshold": 2,
                "unhealthy_threshold": 2,
                "matcher": "200",
            },
            opts=self._child(),
        )
        listener = aws.lb.Listener(
            f"{name}-http",
            load_balancer_arn=balancer.arn,
            protocol="TCP",
            port=80,
            default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
            opts=self._child(),
        )
        self._pods(args, targets, listener)
        self.load_balancer_arn = listener.load_balancer_arn
        self.load_balancer_dns_name = balancer.dns_name
        self.target_group_arn = targets.arn
        self.register_outputs(
            {
                "loadBalancerArn": self.load_balancer_arn,
                "loadBalancerDnsName": self.load_balancer_dns_name,
                "targetGroupArn": self.target_group_arn,
            }
        )

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on))

    def _load_balancer(self, args: LlmGatewayArgs) -> aws.lb.LoadBalancer:
        group = aws.ec2.SecurityGroup(
            f"{self._name}-balancer",
            description="Load balancer of the LLM gateway",
            vpc_id=args["vpc_id"],
            tags={"Name": f"{self._name}-balancer"},
            opts=self._child(),
        )
        rules: list[pulumi.Resource] = [
            aws.vpc.SecurityGroupEgressRule(
                f"{self._name}-balancer-to-pods",
                description="To the gateway's pods",
                security_group_id=group.id,
                referenced_security_group_id=args["cluster_security_group_id"],
                ip_protocol="tcp",
                from_port=PORT,
                to_port=PORT,
                opts=self._child(),
            ),
            aws.vpc.SecurityGroupIngressRule(
                f"{self._name}-pods-from-balancer",
                description="LLM gateway from its load balancer",
                security_group_id=args["cluster_security_group_id"],
                referenced_security_group_id=group.id,
                ip_protocol="tcp",
                from_port=PORT,
                to_port=PORT,
                opts=self._child(),
            ),
        ]
        return aws.lb.LoadBalancer(
            f"{self._name}-nlb",
            load_balancer_type="network",
            internal=True,
            subnets=args["subnet_ids"],
            security_groups=[group.id],
            # The only way in is API Gateway's VPC link, whose addresses no rule could name.
            enforce_security_group_inbound_rules_on_private_link_traffic="off",
            enable_cross_zone_load_balancing=True,
            enable_deletion_protection=args.get("deletion_protection", True),
            tags={"Name": self._name},
            opts=self._child(*rules),
        )

    def _network_cidrs(self, vpc_id: pulumi.Input[str]) -> pulumi.Output[list[str]]:
        """Look up the VPC's ranges: the load balancer's addresses and the cache's are in them, and can't be known."""
        return aws.ec2.get_vpc_output(id=vpc_id, opts=pulumi.InvokeOptions(parent=self)).apply(_ranges)

    def _pods(self, args: LlmGatewayArgs, targets: aws.lb.TargetGroup, listener: aws.lb.Listener) -> None:
        secret = kubernetes.core.v1.Secret(
            f"{self._name}-cache",
            metadata={"name": "llm-gateway-cache", "namespace": args["namespace"]},
            type="Opaque",
            # Not string_data: the API server gives it back as data, which a refresh would take for a change.
            data={"url": pulumi.Output.secret(args["cache_url"]).apply(_base64)},
            opts=self._child(),
        )
        values = _values.llm_gateway(
            image=args["image"],
            replicas=int(args.get("replicas", 2)),
            cpu_millicores=int(args.get("cpu_millicores", 500)),
            memory_mib=int(args.get("memory_mib", _semantic_tier.MEMORY_MIB)),
            models={model: _route(model, route) for model, route in args["models"].items()},
            cache_enabled=args.get("cache_enabled", True),
            cache_ttl_seconds=int(args.get("cache_ttl_seconds", 3600)),
            limits=self._limits,
            jwt=_identity.values(args.get("jwt")),
            cors_origins=args.get("cors_origins", ()),
            traces=_traces.values(args),
            cache_secret_name="llm-gateway-cache",  # noqa: S106 - the name of a secret
            cache_semantic=_semantic_tier.tier(args),
            target_group_arn=targets.arn,
            node_pool=taints.SYSTEM_POOL,
            network_cidrs=self._network_cidrs(args["vpc_id"]),
            cache_port=_checks.whole("cache_port", args.get("cache_port", 6379), low=1, high=65535),
        )
        # Targets of a group that no listener uses are never found healthy, and the rollout would wait for them.
        kubernetes.helm.v4.Chart(
            self._name,
            chart=str(CHART),
            name="llm-gateway",
            namespace=args["namespace"],
            values=values,
            opts=self._child(secret, listener),
        )


def _ranges(vpc: aws.ec2.GetVpcResult) -> list[str]:
    return [association.cidr_block for association in vpc.cidr_block_associations] or [vpc.cidr_block]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _limits(args: LlmGatewayArgs) -> dict[str, int]:
    found = {
        "requests_per_minute": _checks.whole(
            "key_requests_per_minute", args.get("key_requests_per_minute", 0), low=0, high=1_000_000
        ),
        "tokens_per_minute": _checks.whole(
            "key_tokens_per_minute", args.get("key_tokens_per_minute", 0), low=0, high=1_000_000_000
        ),
    }
    if any(found.values()) and not args.get("cache_enabled", True):
        raise ValueError(
            "cache_enabled: false, and the limits of a key are counted in the cache; nearest valid value: true"
        )
    return {name: limit for name, limit in found.items() if limit}


def _route(model: str, args: ModelRouteArgs) -> dict[str, Any]:
    served = args.get("adapters", {})
    adapters = {"adapters": dict(served)} if served else {}
    common = {**_semantic_tier.route(model, args), **adapters}
    timeout = _checks.whole("timeout_seconds", args.get("timeout_seconds", 300), low=1, high=900, unit="s")
    given = args.get("versions", {})
    if ("url" in args) == bool(given):
        raise ValueError(f"models.{model}: set exactly one of url and versions")
    kind = _checks.one_of(f"models.{model}.kind", args.get("kind", KINDS[0]), KINDS)
    if given and args.get("hold"):
        raise ValueError(f"models.{model}.hold: true, and versions are not scaled to zero; nearest valid value: false")
    if not given:
        embeds = {"kind": kind} if kind != KINDS[0] else {}
        held = {"hold": True} if args.get("hold") else {}
        revision = args.get("revision", "")
        at = {"url": args.get("url"), **_pods(model, args)}
        return {**embeds, **at, "timeout_seconds": timeout, "revision": revision, **held, **common}
    if "pods_url" in args:
        raise ValueError(
            f"models.{model}.pods_url: is set, and each of its versions has its own; nearest valid value: none"
        )
    versions = {
        name: Share(
            _checks.whole(f"models.{model}.versions.{name}.weight", version["weight"], low=0, high=100),
            shadow=version.get("shadow", False),
        )
        for name, version in given.items()
    }
    if kind != KINDS[0]:
        raise ValueError(f"models.{model}.versions: a model that makes embeddings has none; nearest valid value: url")
    refuse(f"models.{model}.{problem}" for problem in share_problems(versions))
    return {
        **common,
        "timeout_seconds": timeout,
        "versions": [
            {
                "name": name,
                "url": given[name]["url"],
                **_pods(f"{model}.versions.{name}", given[name]),
                "revision": given[name].get("revision", ""),
                "weight": share.weight,
                "shadow": share.shadow,
            }
            for name, share in versions.items()
        ],
    }


def _pods(name: str, args: ModelRouteArgs | ModelVersionArgs) -> dict[str, str]:
    url = args.get("pods_url")
    if url is None:
        return {}
    if not url.startswith("http://"):
        raise ValueError(
            f"models.{name}.pods_url: {url} does not begin with http://, and the pods behind it are asked by their"
            f" addresses, for which there is no certificate; nearest valid value: http://{url.rpartition('://')[2]}"
        )
    return {"pods_url": url}
