"""The settings of a stack: the only reader of Pulumi config. Every key is typed, with its unit and its default.

Keys are in camel case in `stacks/Pulumi.<stack>.yaml`, under the project's namespace: `llm-serving:network`. Numbers
carry their unit in their name. All problems of a stack file are found at once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel

from infra.problems import SettingsError, describe
from infra.section import Section, checked, named, problem_of
from llm_serving import _checks, _cidr, _node_groups, taints
from llm_serving.api_gateway import check_timeout, check_usage_plans
from llm_serving.runtimes import RUNTIMES
from llm_serving.runtimes.launch import ServiceSpec

NAMESPACE = "llm-serving"


class AwsSettings(Section):
    """Where the environment lives."""

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    """AWS region, as in us-east-1."""
    account_id: Annotated[str, Field(pattern=r"^\d{12}$")]
    """The 12 digits of the only AWS account that this stack may touch, in quotes."""
    s3_path_style: bool = False
    """Whether buckets are named in the path of S3 addresses, as an S3 endpoint without wildcard DNS needs."""


class ExistingNetworkSettings(Section):
    """A VPC that exists already."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]+$")]
    """Id of the VPC."""
    private_subnet_ids: Annotated[list[str], Field(min_length=2)]
    """Private subnets in two zones at least."""
    public_subnet_ids: list[str] = Field(default_factory=list[str])
    """Public subnets."""


class NetworkSettings(Section):
    """The VPC: a new one, or an existing one."""

    availability_zones: list[str] = Field(default_factory=list[str])
    """Zones by name, 2 to 6. Append to the list, never reorder it. Required unless `existing` is set."""
    cidr: Annotated[str, checked(_cidr.vpc_network, "cidr")] = "10.0.0.0/16"
    """IPv4 range of the VPC, /16 to /20."""
    nat_gateways: Literal["none", "single", "per-zone"] = "per-zone"
    """How private subnets reach the internet. `single` is cheaper and fails with its zone."""
    interface_endpoints: list[str] = Field(default_factory=list[str])
    """AWS services that private subnets reach without NAT, as in ecr.api."""
    flow_logs: bool = True
    """Whether the VPC's flow logs are kept."""
    existing: ExistingNetworkSettings | None = None
    """Use this VPC instead; the other keys must then be left out."""

    def problems(self) -> Iterator[str]:
        """Check the zones and the range, or that an existing network stands alone."""
        if self.existing:
            for key in sorted(self.model_fields_set - {"existing"}):
                yield f"{to_camel(key)}: cannot be set beside existing; remove one of the two"
            return
        zones = self.availability_zones
        if not 2 <= len(zones) <= _cidr.MOST_ZONES or len(set(zones)) != len(zones):
            yield f"availabilityZones: {zones} is not a list of 2 to {_cidr.MOST_ZONES} different zones"


class PoolSettings(Section):
    """A node group."""

    instance_types: Annotated[list[str], Field(min_length=1)]
    """Instance types, most wanted first."""
    min_size: Annotated[int, Field(ge=0, le=450)]
    """Fewest nodes."""
    desired_size: Annotated[int, Field(ge=0, le=450)]
    """Nodes to have now."""
    max_size: Annotated[int, Field(ge=1, le=450)]
    """Most nodes. 450 is the EKS quota of a node group."""
    capacity_type: Literal["ON_DEMAND", "SPOT"] = "ON_DEMAND"
    """How the instances are bought."""
    release_version: str | None = None
    """Exact EKS AMI release. Default: the newest when the group is created."""

    def sizes(self) -> Iterator[str]:
        """Check that the sizes are in order."""
        fields = ("minSize", "desiredSize", "maxSize")
        yield from problem_of(_checks.between, fields, self.min_size, self.desired_size, self.max_size)


class SystemPoolSettings(PoolSettings):
    """The node group without GPUs."""

    ami_type: _node_groups.SystemAmiType = "AL2023_x86_64_STANDARD"
    """EKS image family."""
    disk_gb: Annotated[int, Field(ge=_node_groups.SYSTEM_DISK_GB, le=_node_groups.LARGEST_DISK_GB)] = 50
    """Root disk in GB."""

    def problems(self) -> Iterator[str]:
        """Check the sizes: cluster DNS needs a node."""
        yield from self.sizes()
        if self.min_size < 1:
            yield "minSize: 0 leaves cluster DNS without a node; nearest valid value: 1"


class GpuPoolSettings(PoolSettings):
    """A node group with GPUs."""

    ami_type: _node_groups.GpuAmiType = "AL2023_x86_64_NVIDIA"
    """EKS image family, always one with NVIDIA drivers."""
    disk_gb: Annotated[int, Field(ge=_node_groups.SMALLEST_GPU_DISK_GB, le=_node_groups.LARGEST_DISK_GB)] = 100
    """Root disk in GB: twice an image of 25 GB, and the weights."""

    def problems(self) -> Iterator[str]:
        """Check the sizes and that every instance type has GPUs."""
        yield from self.sizes()
        for instance_type in self.instance_types:
            yield from problem_of(_node_groups.check_gpu_instance_type, "instanceTypes", instance_type)


class AccessEntrySettings(Section):
    """A way into the cluster for an IAM principal."""

    principal_arn: Annotated[str, Field(pattern=r"^arn:[a-z-]+:iam::\d{12}:(role|user)/.+$")]
    """ARN of the IAM role or user."""
    policy: Literal[
        "AmazonEKSClusterAdminPolicy",
        "AmazonEKSAdminPolicy",
        "AmazonEKSAdminViewPolicy",
        "AmazonEKSEditPolicy",
        "AmazonEKSViewPolicy",
    ]
    """EKS access policy."""
    namespaces: list[str] = Field(default_factory=list[str])
    """Namespaces that the policy is limited to. Default: the whole cluster."""


class ClusterSettings(Section):
    """The EKS cluster."""

    version: Annotated[str, Field(pattern=r"^1\.\d{2}$")]
    """Kubernetes version, in quotes, as in "1.36"."""
    name: str | None = None
    """The cluster's name. Default: <project>-<stack>. Changing it replaces the cluster."""
    service_cidr: str = "172.20.0.0/16"
    """Range of service addresses."""
    public_access_cidrs: list[str] = Field(default_factory=list[str])
    """Ranges that reach the API server from the internet. Default: none, it is private."""
    access_entries: dict[str, AccessEntrySettings] = Field(default_factory=dict[str, AccessEntrySettings])
    """Who may use the cluster besides its creator."""
    addon_versions: dict[str, str] = Field(default_factory=dict[str, str])
    """Versions of EKS add-ons by name. Default: chosen by AWS."""
    system_pool: SystemPoolSettings
    """The node group without GPUs, named system."""
    gpu_pools: dict[str, GpuPoolSettings] = Field(default_factory=dict[str, GpuPoolSettings])
    """Node groups with GPUs by name."""

    def problems(self) -> Iterator[str]:
        """Check names and the service range."""
        yield from named("gpuPools", self.gpu_pools)
        if taints.SYSTEM_POOL in self.gpu_pools:
            yield "gpuPools.system: the name is taken by the system pool; nearest valid value: gpu"


class ModelBucketSettings(Section):
    """The bucket of model weights."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] | None = None
    """Name of the bucket. Default: chosen by Pulumi."""
    require_tls: bool = True
    """Whether requests without TLS 1.2 are refused. Only an S3 endpoint without TLS needs false."""
    noncurrent_version_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that a replaced or deleted object can be brought back."""


class CacheSettings(Section):
    """The semantic cache."""

    node_type: Annotated[str, Field(pattern=r"^cache\.[a-z0-9-]+\.[a-z0-9]+$")]
    """ElastiCache node type."""
    engine_version: Literal["8.2"] = "8.2"
    """Valkey version; vector search begins with 8.2."""
    replicas: Annotated[int, Field(ge=0, le=5)] = 1
    """Copies besides the primary; with one or more the cache fails over."""
    snapshot_retention_days: Annotated[int, Field(ge=0, le=35)] = 7
    """Days that daily snapshots are kept; 0 keeps none."""
    enabled: bool = True
    """Whether the gateway answers from the cache. The cache itself is there either way."""
    ttl_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 3600
    """How long an answer is kept."""


class ImageSettings(Section):
    """An image in ECR: by tag, resolved to a digest when the stack is previewed, or by digest."""

    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")] | None = None
    """Tag of the image."""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """Digest of the image."""

    def problems(self) -> Iterator[str]:
        """Check that the image is named in one way."""
        if (self.tag is None) == (self.digest is None):
            yield "tag: set exactly one of tag and digest"


class ImagesSettings(Section):
    """Which build of each image to run. Repositories: llm-gateway, model-loader, tgi."""

    llm_gateway: ImageSettings
    """The LLM gateway."""
    model_loader: ImageSettings
    """The init container that fetches a model's weights."""
    tgi: ImageSettings
    """Text Generation Inference."""


class GatewaySettings(Section):
    """The LLM gateway's pods."""

    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    """Pods."""
    cpu_millicores: Annotated[int, Field(ge=10, le=64_000)] = 500
    """CPU that a pod asks for, in thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=32, le=262_144)] = 256
    """Memory of a pod in MiB, asked for and limited to."""


class UsagePlanSettings(Section):
    """What some API keys may use, each by itself."""

    keys: Annotated[list[str], Field(min_length=1)]
    """Names of the API keys; AWS makes their values."""
    requests_per_second: Annotated[float, Field(ge=0.1, le=10_000)] = 10
    """Steady rate."""
    burst: Annotated[int, Field(ge=1, le=5000)] = 20
    """Requests at once."""
    requests_per_day: Annotated[int, Field(ge=1)] | None = None
    """Daily quota. Default: none."""

    def problems(self) -> Iterator[str]:
        """Check the names of the keys."""
        yield from named("keys", self.keys)


class ApiGatewaySettings(Section):
    """The public API."""

    usage_plans: dict[str, UsagePlanSettings]
    """Usage plans by name."""
    response_transfer_mode: Literal["STREAM", "BUFFERED"] = "STREAM"
    """`STREAM` sends tokens on as they come."""
    timeout_seconds: int | None = None
    """Longest request: up to 900 streamed, 29 buffered. Default: 300, or 29 buffered."""
    requests_per_second: Annotated[float, Field(ge=0.1, le=10_000)] = 100
    """Steady rate of all callers together."""
    burst: Annotated[int, Field(ge=1, le=5000)] = 200
    """Requests at once of all callers together."""
    manage_account_role: bool = True
    """Whether this stack sets the account's API Gateway logging role, one per account and region."""
    url: str | None = None
    """Public address where it is not the stage's own; may hold {api} and {stage}."""

    def problems(self) -> Iterator[str]:
        """Check the plans, and the timeout against the transfer mode."""
        yield from named("usagePlans", self.usage_plans)
        plans: Any = {name: {"keys": plan.keys} for name, plan in self.usage_plans.items()}
        yield from problem_of(check_usage_plans, "usagePlans", plans)
        for problem in problem_of(check_timeout, self.response_transfer_mode, self.timeout_seconds):
            yield problem.replace("timeout_seconds", "timeoutSeconds")


class ModelSettings(Section):
    """A model to serve."""

    runtime: Literal["tgi"] = "tgi"
    """What serves it."""
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Revision to serve: the folder models/<name>/<revision> of the model bucket."""
    weight_gb: Annotated[float, Field(ge=0.001, le=5000)]
    """Size of the model's files in GB (10^9 bytes). Start-up budgets follow from it."""
    pool: str
    """GPU pool to run in."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Pods."""
    gpus: Annotated[int, Field(ge=1, le=8)] = 1
    """GPUs of each pod."""
    max_input_tokens: Annotated[int, Field(ge=1)] = 4096
    """Longest prompt in tokens."""
    max_total_tokens: Annotated[int, Field(ge=2)] = 8192
    """Longest prompt and answer together in tokens."""
    max_concurrent_requests: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Requests in a pod at once; the next is refused with 429."""
    cpu_millicores: Annotated[int, Field(ge=10, le=192_000)] = 2000
    """CPU that a pod asks for, in thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=64, le=2_097_152)] = 8192
    """Memory of a pod in MiB, asked for and limited to."""
    timeout_seconds: Annotated[int, Field(ge=1, le=900)] = 300
    """How long the gateway waits for an answer."""

    def spec(self, name: str) -> ServiceSpec:
        """Return what the runtime modules take."""
        return ServiceSpec(
            model=name,
            weight_gb=self.weight_gb,
            gpus=self.gpus,
            max_input_tokens=self.max_input_tokens,
            max_total_tokens=self.max_total_tokens,
            max_concurrent_requests=self.max_concurrent_requests,
        )

    def problems(self) -> Iterator[str]:
        """Check the limits as the runtime does at its start."""
        for problem in problem_of(RUNTIMES[self.runtime].launch, self.spec("model")):
            text = problem.removeprefix("model.")
            yield text.replace("max_input_tokens", "maxInputTokens").replace("max_total_tokens", "maxTotalTokens")


class Settings(Section):
    """All settings of a stack."""

    aws: AwsSettings
    """Where the environment lives."""
    tags: dict[str, str] = Field(default_factory=dict[str, str])
    """Tags of every AWS resource, besides project and stack."""
    protect: bool = True
    """Whether stateful resources (cluster, bucket, cache) refuse to be deleted, by Pulumi and by AWS."""
    log_retention_days: Annotated[int, checked(_checks.retention_days, "logRetentionDays")] = 90
    """Days that logs are kept, one of the periods that CloudWatch offers."""
    network: NetworkSettings
    """The VPC."""
    cluster: ClusterSettings
    """The EKS cluster."""
    model_bucket: ModelBucketSettings = ModelBucketSettings()
    """The bucket of model weights."""
    cache: CacheSettings
    """The semantic cache."""
    images: ImagesSettings
    """Which build of each image to run."""
    gateway: GatewaySettings = GatewaySettings()
    """The LLM gateway."""
    api_gateway: ApiGatewaySettings
    """The public API."""
    models: Annotated[dict[str, ModelSettings], Field(min_length=1)]
    """Models to serve, by name."""

    def problems(self) -> Iterator[str]:
        """Check what only several sections together can tell."""
        yield from named("models", self.models)
        if not self.network.existing:
            for zone in self.network.availability_zones:
                if not re.fullmatch(re.escape(self.aws.region) + "[a-z]", zone):
                    yield (
                        f"network.availabilityZones: {zone!r} is no zone of {self.aws.region};"
                        f" nearest valid value: {self.aws.region}{zone[-1:] if zone[-1:].isalpha() else 'a'}"
                    )
            yield from problem_of(
                _cidr.check_disjoint,
                "cluster.serviceCidr",
                self.cluster.service_cidr,
                "network.cidr",
                self.network.cidr,
            )
        for name, model in self.models.items():
            if model.pool not in self.cluster.gpu_pools:
                pools = list(self.cluster.gpu_pools)
                near = _checks.nearest(model.pool, pools) if pools else "none: cluster.gpuPools is empty"
                yield f"models.{name}.pool: {model.pool!r} is no pool of cluster.gpuPools; nearest valid value: {near}"


def load(config: Mapping[str, str]) -> Settings:
    """Return the settings in Pulumi config, `namespace:key` to text; raises SettingsError with all problems."""
    values: dict[str, Any] = {}
    for key, text in config.items():
        namespace, _, name = key.partition(":")
        if namespace == NAMESPACE:
            values[name] = _parsed(text)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(describe(error, Settings, NAMESPACE)) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
