"""A whole stack as the checks see it: plain values, made from a stack file's settings by `infra.checks`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_serving.capacity.model_shape import ModelShape


@dataclass(frozen=True, slots=True)
class Pool:
    """A node group."""

    name: str
    instance_types: tuple[str, ...]
    min_size: int
    desired_size: int
    """Nodes that an update sets; where it grows by itself, only what it begins with."""
    max_size: int
    ami_type: str
    disk_gb: int
    """Root disk in GB (10^9 bytes)."""
    gpu: bool
    release_version: str | None = None
    """Pinned EKS AMI release; None for the newest."""
    capacity_type: str = "ON_DEMAND"
    autoscaled: bool = False
    """Whether a node autoscaler sets its size, between `min_size` and `max_size`."""


@dataclass(frozen=True, slots=True)
class Service:
    """A model service, of one version of its model."""

    name: str
    model: ModelShape | None
    """Its shape; None where the stack file names none that can be read, which is a finding of its own."""
    model_reference: str
    """What the stack file says: a catalog name or a path; the model's name where it says nothing."""
    runtime: str
    pool: str
    replicas: int
    """Pods; where it is autoscaled, the fewest."""
    gpus: int
    """Of each pod."""
    weight_gb: float
    """Size of the model's files in GB (10^9 bytes), as the stack file says."""
    max_input_tokens: int
    max_total_tokens: int
    max_concurrent_requests: int
    timeout_seconds: int
    cpu_millicores: int
    memory_mib: int
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    gpu_memory_utilization: float | None = None
    max_batch_prefill_tokens: int | None = None
    streams_weights: bool = False
    """Whether the runtime reads its weights from the bucket itself, so that no disk holds them."""
    cache_mib: int = 0
    """Of a pod's volume for what its runtime compiles, in MiB."""
    startup_seconds: int | None = None
    """What a pod may take to start; None for the least that any runtime gets."""
    expected_concurrency: int | None = None
    mean_total_tokens: int | None = None
    nodes: int = 1
    """Nodes that a replica spans, with a pod on each."""
    max_replicas: int | None = None
    """The most pods of an autoscaled service; None where their number is fixed."""
    model_named: bool = False
    """Whether the stack file says what the model is, so that not knowing it is a mistake."""
    model_problem: str | None = None
    """Why `model` is None."""
    adapter_ranks: tuple[int, ...] = ()
    """Ranks of the LoRA adapters that it serves."""
    adapters_gb: float = 0
    """Size of the adapters' files in GB (10^9 bytes), which are copied to each pod."""
    allow: Mapping[str, str] = field(default_factory=dict[str, str])
    """Codes of findings about this service that do not stop a deployment, with the reason."""
    version_of: str = ""
    """Model that it is a version of, whose name and the version's are its name; "" where it is the model's only one."""
    version: str = ""
    inherits_allow: bool = False
    """Whether `allow` is the model's, for all of its versions."""

    @property
    def model_setting(self) -> str:
        """Where its model is in the stack file."""
        return f"models.{self.version_of or self.name}"

    @property
    def setting(self) -> str:
        """Where it is in the stack file, as in models.chat or models.chat.versions.canary."""
        return f"{self.model_setting}.versions.{self.version}" if self.version_of else self.model_setting

    @property
    def allow_setting(self) -> str:
        """Where `allow` is in the stack file."""
        return f"{self.model_setting if self.inherits_allow else self.setting}.allow"

    @property
    def most_replicas(self) -> int:
        """Pods that there may be."""
        return self.max_replicas or self.replicas

    @property
    def replicas_text(self) -> str:
        """How many pods there are, for people: `2`, or `2 to 5` where it is autoscaled."""
        return str(self.replicas) if self.max_replicas is None else f"{self.replicas} to {self.max_replicas}"


@dataclass(frozen=True, slots=True)
class Embedding:
    """A service that makes embeddings, whose model is in its image."""

    name: str
    pool: str
    gpus: int
    """1, or 0 where it computes on CPUs, in the system pool."""
    replicas: int
    timeout_seconds: int
    cpu_millicores: int
    memory_mib: int
    allow: Mapping[str, str] = field(default_factory=dict[str, str])
    """Codes of findings about this service that do not stop a deployment, with the reason."""
    max_replicas: None = None
    """Their number is fixed."""
    nodes: int = 1
    """A replica is one pod."""

    @property
    def setting(self) -> str:
        """Where it is in the stack file."""
        return f"embeddings.{self.name}"

    @property
    def model_setting(self) -> str:
        """The same: it has no versions."""
        return self.setting

    @property
    def allow_setting(self) -> str:
        """Where `allow` is in the stack file."""
        return f"{self.setting}.allow"

    @property
    def most_replicas(self) -> int:
        """Pods that there may be."""
        return self.replicas


@dataclass(frozen=True, slots=True)
class Cache:
    """The semantic cache's server."""

    engine: str
    engine_version: str
    node_type: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that the checks look at."""

    name: str
    region: str
    zones: tuple[str, ...]
    """Zones of the subnets that nodes run in; empty where an existing network is used."""
    kubernetes_version: str
    system_pool: Pool
    gpu_pools: Mapping[str, Pool]
    services: Mapping[str, Service]
    cache: Cache
    response_transfer_mode: str
    """STREAM or BUFFERED."""
    api_timeout_seconds: int | None
    """None for the API's default."""
    gateway_replicas: int
    installs_device_plugin: bool
    """Whether NVIDIA's device plugin is installed where a pool's image has none."""
    allow: Mapping[str, str] = field(default_factory=dict[str, str])
    """Codes of findings that do not stop a deployment, with the reason."""
    embeddings: Mapping[str, Embedding] = field(default_factory=dict[str, Embedding])

    @property
    def workloads(self) -> tuple[Service | Embedding, ...]:
        """All that has pods of its own in a node group."""
        return (*self.services.values(), *self.embeddings.values())
