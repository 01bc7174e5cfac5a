"""The models that an environment serves."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from infra.section import Section, problem_of
from llm_serving.runtimes import RUNTIMES
from llm_serving.runtimes.launch import ServiceSpec


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
