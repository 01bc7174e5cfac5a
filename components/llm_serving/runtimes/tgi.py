"""Text Generation Inference 3.3: launcher arguments, environment and probes of a model service. Pure."""

from collections.abc import Iterable, Iterator

from llm_serving import _checks
from llm_serving.runtimes.launch import MODELS_ROOT, PORT, Launch, ServiceSpec, check_tokens, startup_seconds

REPOSITORY = "tgi"
DTYPES = ("float16", "bfloat16")
QUANTIZATIONS = (
    "awq",
    "bitsandbytes",
    "bitsandbytes-fp4",
    "bitsandbytes-nf4",
    "compressed-tensors",
    "eetq",
    "exl2",
    "fp8",
    "gptq",
    "marlin",
)
KV_CACHE_DTYPES = ("fp8_e4m3fn", "fp8_e5m2")
MEMORY_SHARE = 0.90
"""What TGI itself takes of the memory that --cuda-memory-fraction leaves it, TGI_WIGGLE_ROOM of its server. The rest is
for what it doesn't count: the CUDA context and graphs, NCCL."""

_ENVIRONMENT = {
    # Weights come from the model bucket. Without this the launcher asks the hub even for a local folder.
    "HF_HUB_OFFLINE": "1",
}


def launch(spec: ServiceSpec) -> Launch:
    """Return how to launch TGI for `spec`; raises ValueError, one line a reason, for what TGI refuses at its start.

    TGI answers on its port only once the model is loaded and warm, so health tells both apart from a slow start. On
    SIGTERM it lets running requests end, for up to 90 s.
    """
    if problems := list(_problems(spec)):
        raise ValueError("\n".join(problems))
    return Launch(
        args=[
            *("--model-id", f"{MODELS_ROOT}/{spec.model}"),
            *("--hostname", "0.0.0.0"),  # noqa: S104 - a pod's own network namespace
            *("--port", str(PORT)),
            *("--num-shard", str(spec.gpus)),
            *("--max-input-tokens", str(spec.max_input_tokens)),
            *("--max-total-tokens", str(spec.max_total_tokens)),
            *("--max-concurrent-requests", str(spec.max_concurrent_requests)),
            *_optional(spec),
            *("--usage-stats", "off"),
            "--json-output",
        ],
        env=dict(_ENVIRONMENT),
        startup_seconds=startup_seconds(spec.weight_gb),
        grace_seconds=120,
    )


def cuda_memory_fraction(gpu_memory_utilization: float) -> str:
    """Return what --cuda-memory-fraction must be for TGI to use this fraction of a GPU's memory.

    Its weights and cache take cuda-memory-fraction times `MEMORY_SHARE` of the memory, so the default of 1 uses 0.9.
    """
    return f"{gpu_memory_utilization / MEMORY_SHARE:.4f}"


def _optional(spec: ServiceSpec) -> Iterator[str]:
    """Yield the arguments whose defaults are TGI's own, where the service sets them."""
    fraction = spec.gpu_memory_utilization
    values = {
        "--dtype": spec.dtype,
        "--quantize": spec.quantization,
        "--kv-cache-dtype": spec.kv_cache_dtype,
        "--cuda-memory-fraction": None if fraction is None else cuda_memory_fraction(fraction),
        "--max-batch-prefill-tokens": spec.max_batch_prefill_tokens,
    }
    for option, value in values.items():
        if value is not None:
            yield from (option, str(value))


def _problems(spec: ServiceSpec) -> Iterator[str]:
    try:
        check_tokens(spec.model, spec)
    except ValueError as error:
        yield str(error)
    yield from _unless_one_of(f"{spec.model}.dtype", spec.dtype, DTYPES)
    yield from _unless_one_of(f"{spec.model}.quantization", spec.quantization, QUANTIZATIONS)
    yield from _unless_one_of(f"{spec.model}.kv_cache_dtype", spec.kv_cache_dtype, KV_CACHE_DTYPES)
    fraction = spec.gpu_memory_utilization
    if fraction is not None and not 0 < fraction <= MEMORY_SHARE:
        yield (
            f"{spec.model}.gpu_memory_utilization: {fraction:g} is outside 0.01 to {MEMORY_SHARE:g}, TGI's own share;"
            f" nearest valid value: {max(0.01, min(fraction, MEMORY_SHARE)):g}"
        )


def _unless_one_of(field: str, value: str | None, allowed: Iterable[str]) -> Iterator[str]:
    if value is None:
        return
    try:
        _checks.one_of(field, value, allowed)
    except ValueError as error:
        yield str(error)
