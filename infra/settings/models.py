"""The models that an environment serves."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from infra.section import Section, problem_of
from infra.settings.allow import Allow, allow_problems
from llm_serving.runtimes import RUNTIMES, tensorrt_llm
from llm_serving.runtimes.launch import ServiceSpec


class ModelSettings(Section):
    """A model to serve."""

    runtime: Literal["tgi", "vllm", "tensorrt-llm"] = "tgi"
    """What serves it."""
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["a09a354"])]
    """Revision to serve: the folder models/<name>/<revision> of the model bucket."""
    weight_gb: Annotated[float, Field(ge=0.001, le=5000)]
    """Size of the model's files in GB (10^9 bytes). Start-up budgets follow from it."""
    model: str | None = None
    """What the memory checks go by: a catalog name, or a config.json or its folder. Default: the model's own name."""
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
    """Requests in a pod at once; the next is refused by tgi with 429, by vllm with 503; it waits in tensorrt-llm."""
    cpu_millicores: Annotated[int, Field(ge=10, le=192_000)] = 2000
    """CPU that a pod asks for, in thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=64, le=2_097_152)] = 8192
    """Memory of a pod in MiB, asked for and limited to."""
    dtype: str | None = None
    """Type to compute in, as the runtime spells it. Default: the checkpoint's own."""
    quantization: str | None = None
    """How weights are quantized, as the runtime spells it. Default: the checkpoint's own, if any."""
    kv_cache_dtype: str | None = None
    """Type of the cached keys and values, as the runtime spells it. Default: the compute type."""
    gpu_memory_utilization: float | None = None
    """Fraction of a GPU's memory to use; for tensorrt-llm, of what weights leave. Default: 0.92 for vllm, else 0.9."""
    max_batch_prefill_tokens: Annotated[int, Field(ge=1, le=4_294_967_295)] | None = None
    """Prompt tokens that are read in one step. Default: chosen by the runtime."""
    weights: Literal["copy", "stream"] | None = None
    """`copy`: to the pod's disk, verified; `stream`: vllm reads them from S3. Default: stream for vllm, else copy."""
    engine: bool = False
    """Whether tensorrt-llm built the revision, for one GPU: its name then ends like -sm90-1.2.1-tp4-bfloat16."""
    expected_concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Requests at once that a pod should serve; the memory checks then ask for room for them."""
    mean_total_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of an average request, prompt and answer, for `expectedConcurrency`. Default: `maxTotalTokens`."""
    timeout_seconds: Annotated[int, Field(ge=1, le=900)] = 300
    """How long the gateway waits for an answer."""
    allow: Allow = Field(default_factory=dict[str, str])
    """Findings about this model that are accepted: code, as in docs/checks.md, and a sentence that says why."""

    def spec(self, name: str) -> ServiceSpec:
        """Return what the runtime modules take."""
        return ServiceSpec(
            model=name,
            weight_gb=self.weight_gb,
            gpus=self.gpus,
            max_input_tokens=self.max_input_tokens,
            max_total_tokens=self.max_total_tokens,
            max_concurrent_requests=self.max_concurrent_requests,
            dtype=self.dtype,
            quantization=self.quantization,
            kv_cache_dtype=self.kv_cache_dtype,
            gpu_memory_utilization=self.gpu_memory_utilization,
            max_batch_prefill_tokens=self.max_batch_prefill_tokens,
            weights=self.weights,
            engine=self.engine,
        )

    def problems(self) -> Iterator[str]:
        """Check the limits as the runtime does at its start."""
        for problems in problem_of(RUNTIMES[self.runtime].launch, self.spec("model")):
            yield from map(_as_in_file, problems.split("\n"))
        yield from allow_problems(self.allow)
        if self.mean_total_tokens is not None and self.mean_total_tokens > self.max_total_tokens:
            yield (
                f"meanTotalTokens: {self.mean_total_tokens} is above maxTotalTokens {self.max_total_tokens};"
                f" nearest valid value: {self.max_total_tokens}"
            )

    def engine_problems(self, architectures: set[str]) -> Iterator[str]:
        """Check that a built engine is one for a pool whose GPUs have these architectures, as in sm90."""
        problems = tensorrt_llm.engine_problems(self.spec("model"), self.revision, architectures)
        return map(_as_in_file, problems)


FIELDS = re.compile("|".join(rf"\b{field.name}\b" for field in dataclasses.fields(ServiceSpec) if "_" in field.name))


def _as_in_file(problem: str) -> str:
    """Return a runtime's problem with the names of its fields as a stack file has them, without the model's."""
    return FIELDS.sub(lambda name: to_camel(name[0]), problem.removeprefix("model."))
