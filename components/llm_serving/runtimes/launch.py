"""What every runtime module takes and returns, so that a model's runtime is one field of its service."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from llm_serving import _checks

PORT = 8080
"""Port that every runtime serves on: above 1024, so that the container needs no root."""
MODELS_ROOT = "/models"
"""Where the model volume is mounted; a model lies in the folder of its name."""
CACHE_ROOT = "/cache"
"""Where the volume is mounted that holds what a runtime compiles. It outlives the container, not the pod."""
FILES_ROOT = "/etc/runtime"
"""Where the files of `Launch.files` are mounted."""
WEIGHTS_URL = "$(WEIGHTS_URL)"
"""Stands in an argument for the address of the weights in the bucket. Kubernetes puts it there when a pod starts."""
COPY, STREAM = "copy", "stream"
"""How weights come to a pod: copied to its volume and verified before the runtime starts, or read by the runtime."""

DISK_BYTES_PER_SECOND = 125_000_000
"""Baseline throughput of a gp3 volume. Weights go through it when they are fetched, and again when they are loaded."""
MARGIN = 3
"""How much slower than that a transfer may be before it counts as stuck."""
WARM_UP_SECONDS = 120
"""For what follows the reading of weights: sharding, warm-up, CUDA graphs."""
PRE_STOP_SECONDS = 5
"""From a pod's removal from its Service to SIGTERM, for its callers to hear of it."""
DRAIN_SECONDS = 90
"""How long requests that run when a pod is told to stop may take to end: TGI's graceful-termination-timeout."""
GRACE_SECONDS = 120
"""From the moment that a pod is told to stop until it is killed: the pause, the requests, and the process's own end."""
GB = 1_000_000_000
MIB = 1024 * 1024


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter of a model: requests name it as they would name a model."""

    name: str
    """What requests call it, and its folder below `MODELS_ROOT`."""
    rank: int
    """As `r` in its adapter_config.json."""
    weight_gb: float
    """Size of its files in GB (10^9 bytes)."""


@dataclass(frozen=True)
class ServiceSpec:
    """A model to serve, and the limits to serve it within."""

    model: str
    """Name of the model and of its service."""
    weight_gb: float
    """Size of the model's files in GB (10^9 bytes)."""
    gpus: int
    """GPUs of each replica."""
    max_input_tokens: int
    """Longest prompt, in tokens."""
    max_total_tokens: int
    """Longest prompt and answer together, in tokens."""
    max_concurrent_requests: int
    """Requests in a replica at once; the next one is refused with 429."""
    dtype: str | None = None
    """Type to compute in, as the runtime spells it; None for the checkpoint's own."""
    quantization: str | None = None
    """How weights are quantized, as the runtime spells it; None for the checkpoint's own, if any."""
    kv_cache_dtype: str | None = None
    """Type of the cached keys and values, as the runtime spells it; None for the compute type."""
    gpu_memory_utilization: float | None = None
    """Fraction of each GPU's memory that the runtime may use in all; None for the runtime's default."""
    max_batch_prefill_tokens: int | None = None
    """Prompt tokens that are read in one step; None for the runtime's default."""
    weights: str | None = None
    """`copy` or `stream`; None for the runtime's default."""
    engine: bool = False
    """Whether the revision is a built engine, made for one kind of GPU, rather than a checkpoint."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters that are served on top of it."""
    nodes: int = 1
    """Nodes that one replica spans, each with a pod of `gpus` GPUs."""

    @property
    def adapters_gb(self) -> float:
        """Size of the adapters' files in GB (10^9 bytes)."""
        return sum(adapter.weight_gb for adapter in self.adapters)


@dataclass(frozen=True)
class Launch:
    """How to start a runtime's container and see how it does."""

    args: list[str]
    env: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, str] = field(default_factory=dict[str, str])
    """Configuration files by name, mounted at `FILES_ROOT`."""
    health_path: str = "/health"
    startup_seconds: int = WARM_UP_SECONDS
    """How long the container may take to become healthy before it is started again."""
    pre_stop_seconds: int = PRE_STOP_SECONDS
    """How long it goes on serving after its removal from the Service, before SIGTERM."""
    grace_seconds: int = GRACE_SECONDS
    """How long it gets to finish its requests when it is stopped, `pre_stop_seconds` included."""
    streams_weights: bool = False
    """Whether the runtime reads the weights from the bucket itself: no copy, and no volume for one."""
    cache_mib: int = 0
    """Size in MiB of the volume at `CACHE_ROOT`; 0 for none."""
    worker_args: list[str] = field(default_factory=list[str])
    """What the pods of a replica that do not answer requests are told besides `args`; only where it spans nodes."""


def transfer_seconds(weight_gb: float) -> int:
    """Return how long moving a model's weights through a node's disk may take, in whole seconds, with margin."""
    return math.ceil(weight_gb * GB / DISK_BYTES_PER_SECOND * MARGIN)


def volume_mib(weight_gb: float) -> int:
    """Return the size in MiB of the volume for a model's files: a quarter more than they are said to have."""
    return math.ceil(weight_gb * GB * 1.25 / MIB) + 64


def startup_seconds(weight_gb: float, warm_up_seconds: int = WARM_UP_SECONDS) -> int:
    """Return how long a runtime may take from its start to its first healthy answer, in whole seconds."""
    return warm_up_seconds + transfer_seconds(weight_gb)


def refuse(problems: Iterable[str]) -> None:
    """Raise ValueError with all problems, one line each, where there are any."""
    if lines := list(problems):
        raise ValueError("\n".join(lines))


def token_problems(spec: ServiceSpec) -> Iterator[str]:
    """Yield what is wrong with the token limits that all runtimes share."""
    try:
        _checks.whole(f"{spec.model}.max_input_tokens", spec.max_input_tokens, low=1, high=10_000_000)
    except ValueError as error:
        yield str(error)
    if spec.max_total_tokens <= spec.max_input_tokens:
        yield (
            f"{spec.model}.max_total_tokens: {spec.max_total_tokens} leaves no room for an answer after"
            f" max_input_tokens {spec.max_input_tokens}; nearest valid value: {spec.max_input_tokens + 1}"
        )


def node_problems(spec: ServiceSpec, why: str) -> Iterator[str]:
    """Yield what is wrong with a replica that spans nodes on a runtime that cannot, and why it cannot."""
    if spec.nodes > 1:
        yield f"{spec.model}.nodes: {spec.nodes}, and {why}; nearest valid value: 1, or runtime vllm"


def choice_problems(field_name: str, value: str | None, allowed: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with a value that must be one of `allowed`, or unset."""
    if value is None:
        return
    try:
        _checks.one_of(field_name, value, allowed)
    except ValueError as error:
        yield str(error)


def memory_problems(spec: ServiceSpec, most: float, whose: str) -> Iterator[str]:
    """Yield what is wrong with the fraction of a GPU's memory, which is above 0 and at most `most`, and why."""
    fraction = spec.gpu_memory_utilization
    if fraction is not None and not 0 < fraction <= most:
        yield (
            f"{spec.model}.gpu_memory_utilization: {fraction:g} is outside 0.01 to {most:g}, {whose};"
            f" nearest valid value: {max(0.01, min(fraction, most)):g}"
        )


def checkpoint_problems(spec: ServiceSpec, runtime: str) -> Iterator[str]:
    """Yield what is wrong with a service of a runtime that neither reads S3 nor runs built engines."""
    yield from copy_problems(spec, runtime)
    if spec.engine:
        yield f"{spec.model}.engine: {runtime} runs checkpoints only; nearest valid value: false"


def copy_problems(spec: ServiceSpec, runtime: str) -> Iterator[str]:
    """Yield what is wrong with how weights come to a runtime that doesn't read S3."""
    if spec.weights == STREAM:
        yield f"{spec.model}.weights: {runtime} reads no weights from S3; nearest valid value: {COPY}"
    else:
        yield from choice_problems(f"{spec.model}.weights", spec.weights, (COPY,))


def adapter_paths(spec: ServiceSpec) -> list[str]:
    """Return where each adapter is, as both runtimes that have them take it: NAME=PATH."""
    return [f"{adapter.name}={MODELS_ROOT}/{adapter.name}" for adapter in spec.adapters]


def options(values: Mapping[str, object]) -> Iterator[str]:
    """Yield option and value for each value that is set."""
    for option, value in values.items():
        if value is not None:
            yield from (option, str(value))
