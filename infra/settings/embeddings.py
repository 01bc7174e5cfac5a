"""The embedding services of an environment: texts in, vectors out."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from infra.section import Section
from infra.settings.allow import Allow, allow_problems
from llm_serving.runtimes import embedder


class EmbeddingSettings(Section):
    """An embedding service, asked at /v1/embeddings. Its model, all-MiniLM-L6-v2, is in its image."""

    device: Literal["cpu", "gpu"] = "cpu"
    """What a pod computes on: the system pool's CPUs, or one GPU of `pool`. Each has an image of its own."""
    pool: str | None = None
    """GPU pool to run in, with the device gpu."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Pods."""
    cpu_millicores: Annotated[int, Field(ge=10, le=192_000)] = 1000
    """CPU that a pod asks for, in thousandths of a core; on CPUs it computes with a thread for each that is begun."""
    memory_mib: Annotated[int, Field(ge=embedder.LEAST_MIB, le=1_048_576)] | None = None
    """Memory of a pod in MiB, asked for and limited to. Default: 1024, or 4096 with the device gpu."""
    timeout_seconds: Annotated[int, Field(ge=1, le=900)] = 60
    """Longest time for a request, in the gateway and in the service."""
    truncate: bool = False
    """Whether an input of more than the model's 256 tokens is cut. Default: it is refused."""
    allow: Allow = Field(default_factory=dict[str, str])
    """Findings about this service that are accepted: code, as in docs/checks.md, and a sentence that says why."""

    @property
    def memory(self) -> int:
        """Memory of a pod in MiB."""
        return self.memory_mib or (embedder.GPU_POOL_MIB if self.device == "gpu" else embedder.SYSTEM_POOL_MIB)

    def problems(self) -> Iterator[str]:
        """Check that a GPU pool is named exactly where one is needed."""
        yield from allow_problems(self.allow)
        if self.device == "gpu" and self.pool is None:
            yield "pool: is missing, and the device gpu needs one; nearest valid value: a pool of cluster.gpuPools"
        if self.device == "cpu" and self.pool is not None:
            yield f"pool: {self.pool!r} is for the device gpu only; nearest valid value: none, or device: gpu"
