"""Text Generation Inference 3.3: launcher arguments, environment and probes of a model service. Pure."""

from collections.abc import Iterator

from llm_serving.capacity import runtime_formats
from llm_serving.capacity.runtime_names import TGI
from llm_serving.runtimes.launch import (
    MODELS_ROOT,
    PORT,
    Launch,
    ServiceSpec,
    adapter_paths,
    checkpoint_problems,
    choice_problems,
    memory_problems,
    node_problems,
    options,
    refuse,
    startup_seconds,
    token_problems,
)

VERSION = "3.3.7"
DTYPES = runtime_formats.DTYPES[TGI]
QUANTIZATIONS = tuple(sorted(runtime_formats.QUANTIZATIONS[TGI]))
KV_CACHE_DTYPES = runtime_formats.KV_CACHE_DTYPES[TGI]
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
    refuse(_problems(spec))
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
        env={**_ENVIRONMENT, **({"LORA_ADAPTERS": ",".join(adapter_paths(spec))} if spec.adapters else {})},
        startup_seconds=startup_seconds(spec.weight_gb + spec.adapters_gb),
    )


def cuda_memory_fraction(gpu_memory_utilization: float) -> str:
    """Return what --cuda-memory-fraction must be for TGI to use this fraction of a GPU's memory.

    Its weights and cache take cuda-memory-fraction times `MEMORY_SHARE` of the memory, so the default of 1 uses 0.9.
    """
    return f"{gpu_memory_utilization / MEMORY_SHARE:.4f}"


def _optional(spec: ServiceSpec) -> Iterator[str]:
    """Yield the arguments whose defaults are TGI's own, where the service sets them."""
    fraction = spec.gpu_memory_utilization
    return options(
        {
            "--dtype": spec.dtype,
            "--quantize": spec.quantization,
            "--kv-cache-dtype": spec.kv_cache_dtype,
            "--cuda-memory-fraction": None if fraction is None else cuda_memory_fraction(fraction),
            "--max-batch-prefill-tokens": spec.max_batch_prefill_tokens,
        }
    )


def _problems(spec: ServiceSpec) -> Iterator[str]:
    yield from token_problems(spec)
    yield from choice_problems(f"{spec.model}.dtype", spec.dtype, DTYPES)
    yield from choice_problems(f"{spec.model}.quantization", spec.quantization, QUANTIZATIONS)
    yield from choice_problems(f"{spec.model}.kv_cache_dtype", spec.kv_cache_dtype, KV_CACHE_DTYPES)
    yield from memory_problems(spec, MEMORY_SHARE, "TGI's own share")
    yield from checkpoint_problems(spec, "TGI")
    yield from node_problems(spec, "TGI splits a model over the GPUs of one node only")
