"""What every runtime module takes and returns, so that a model's runtime is one field of its service."""

import math
from dataclasses import dataclass, field

from llm_serving import _checks

PORT = 8080
"""Port that every runtime serves on: above 1024, so that the container needs no root."""
MODELS_ROOT = "/models"
"""Where the model volume is mounted; a model lies in the folder of its name."""

DISK_BYTES_PER_SECOND = 125_000_000
"""Baseline throughput of a gp3 volume. Weights go through it when they are fetched, and again when they are loaded."""
MARGIN = 3
"""How much slower than that a transfer may be before it counts as stuck."""
WARM_UP_SECONDS = 120
"""For what follows the reading of weights: sharding, warm-up, CUDA graphs."""
GB = 1_000_000_000
MIB = 1024 * 1024


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


@dataclass(frozen=True)
class Launch:
    """How to start a runtime's container and see how it does."""

    args: list[str]
    env: dict[str, str] = field(default_factory=dict[str, str])
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    startup_seconds: int = WARM_UP_SECONDS
    """How long the container may take to become healthy before it is started again."""
    grace_seconds: int = 120
    """How long it gets to finish its requests when it is stopped."""


def transfer_seconds(weight_gb: float) -> int:
    """Return how long moving a model's weights through a node's disk may take, in whole seconds, with margin."""
    return math.ceil(weight_gb * GB / DISK_BYTES_PER_SECOND * MARGIN)


def volume_mib(weight_gb: float) -> int:
    """Return the size in MiB of the volume for a model's files: a quarter more than they are said to have."""
    return math.ceil(weight_gb * GB * 1.25 / MIB) + 64


def startup_seconds(weight_gb: float) -> int:
    """Return how long a runtime may take from its start to its first healthy answer, in whole seconds."""
    return WARM_UP_SECONDS + transfer_seconds(weight_gb)


def check_tokens(field_name: str, spec: ServiceSpec) -> None:
    """Check the token limits that all runtimes share; raises ValueError that names the field otherwise."""
    _checks.whole(f"{field_name}.max_input_tokens", spec.max_input_tokens, low=1, high=10_000_000)
    if spec.max_total_tokens <= spec.max_input_tokens:
        raise ValueError(
            f"{field_name}.max_total_tokens: {spec.max_total_tokens} leaves no room for an answer after"
            f" max_input_tokens {spec.max_input_tokens}; nearest valid value: {spec.max_input_tokens + 1}"
        )
