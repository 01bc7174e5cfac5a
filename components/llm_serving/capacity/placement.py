"""One model on one kind of machine: what every rule about fit, legality and drivers is asked of."""

from dataclasses import dataclass
from typing import Protocol

from llm_serving.capacity.catalog import InstanceType, RuntimeRelease
from llm_serving.capacity.model_shape import ModelShape

DEFAULT_TOTAL_TOKENS = 8192
"""Longest prompt and answer together, in tokens, where nobody says; models.NAME.maxTotalTokens has the same default."""


class Hosted(Protocol):
    """An image on one kind of machine: all that rules need which no model is needed for."""

    @property
    def runtime(self) -> RuntimeRelease:
        """What the image holds."""
        ...

    @property
    def instance(self) -> InstanceType:
        """The machine."""
        ...

    @property
    def setting(self) -> str:
        """What findings name, as in Placement."""
        ...


@dataclass(frozen=True, slots=True)
class Placement:
    """A replica of a model service on one instance type."""

    model: ModelShape
    runtime: RuntimeRelease
    instance: InstanceType
    gpus: int
    """GPUs of the replica on one node: the tensor-parallel size."""
    setting: str = ""
    """What findings name: models.NAME in a stack, empty on a command line, where options are named instead."""
    nodes: int = 1
    """Nodes that a replica spans: the pipeline-parallel size."""
    dtype: str | None = None
    """As the runtime spells it; None for the checkpoint's own."""
    quantization: str | None = None
    """As the runtime spells it; None for the checkpoint's own, if any."""
    kv_cache_dtype: str | None = None
    """As the runtime spells it; None for the compute dtype."""
    max_input_tokens: int | None = None
    max_total_tokens: int = DEFAULT_TOTAL_TOKENS
    max_batch_prefill_tokens: int | None = None
    max_concurrent_requests: int = 128
    gpu_memory_utilization: float | None = None
    """Fraction of a GPU's memory that the runtime may use; None for the runtime's default."""
    target_concurrency: int | None = None
    """Requests at once that the owner expects; None where nobody says."""
    mean_total_tokens: int | None = None
    """Tokens of an average request, prompt and answer, for `target_concurrency`."""
    adapter_ranks: tuple[int, ...] = ()
    """Ranks of the LoRA adapters that are served on top of the model."""
