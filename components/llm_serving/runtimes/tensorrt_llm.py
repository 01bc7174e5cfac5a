"""TensorRT-LLM 1.2: arguments of `trtllm-serve`, its configuration file and probes of a model service. Pure.

Read in NVIDIA/TensorRT-LLM: tensorrt_llm/commands/serve.py, tensorrt_llm/serve/openai_server.py.
"""

import json
from collections.abc import Iterator
from typing import Any

from llm_serving.capacity import runtime_formats
from llm_serving.capacity.runtime_names import TENSORRT_LLM
from llm_serving.runtimes.launch import (
    CACHE_ROOT,
    DRAIN_SECONDS,
    FILES_ROOT,
    MODELS_ROOT,
    PORT,
    Launch,
    ServiceSpec,
    choice_problems,
    copy_problems,
    memory_problems,
    node_problems,
    options,
    refuse,
    startup_seconds,
    token_problems,
)

VERSION = "1.2.1"
DTYPES = runtime_formats.DTYPES[TENSORRT_LLM]
QUANTIZATIONS = tuple(sorted(runtime_formats.QUANTIZATIONS[TENSORRT_LLM]))
"""What a checkpoint may have. The runtime reads it there: the name is for the memory checks only."""
KV_CACHE_DTYPES = runtime_formats.KV_CACHE_DTYPES[TENSORRT_LLM]
MEMORY_SHARE = 0.9
"""Of the memory that weights leave, for the KV cache: the default of --kv_cache_free_gpu_memory_fraction."""
WARM_UP_SECONDS = 600
"""For autotuning, profiling and CUDA graphs. NVIDIA names no figure: as much as vLLM."""
CACHE_MIB = 4096
"""Assumed for what Triton, FlashInfer and the runtime itself compile."""
CONFIG = "trtllm.yaml"


def launch(spec: ServiceSpec) -> Launch:
    """Return how to launch TensorRT-LLM for `spec`; raises ValueError, one line a reason, for what it would refuse.

    The server ends with SIGTERM as its web server sees fit, and waits for no request by a setting of its own: so a pod
    goes on serving, out of its Service, for as long as a request may take to drain, before it gets the signal.
    """
    refuse(_problems(spec))
    return Launch(
        args=[
            f"{MODELS_ROOT}/{spec.model}",
            *("--host", "0.0.0.0"),  # noqa: S104 - a pod's own network namespace
            *("--port", str(PORT)),
            *("--backend", "tensorrt" if spec.engine else "pytorch"),
            *("--tp_size", str(spec.gpus)),
            *("--max_seq_len", str(spec.max_total_tokens)),
            *("--max_batch_size", str(spec.max_concurrent_requests)),
            *options({"--max_num_tokens": spec.max_batch_prefill_tokens}),
            *("--config", f"{FILES_ROOT}/{CONFIG}"),
        ],
        env={
            "HOME": CACHE_ROOT,
            "TRITON_CACHE_DIR": f"{CACHE_ROOT}/triton",
            "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_ROOT}/inductor",
            "FLASHINFER_WORKSPACE_BASE": CACHE_ROOT,
            # Folders of temporary files are named after the user, whom an image need not know.
            "USER": "trtllm",
            "HF_HUB_OFFLINE": "1",
        },
        files={CONFIG: json.dumps(_config(spec), indent=1) + "\n"},
        startup_seconds=startup_seconds(spec.weight_gb, WARM_UP_SECONDS),
        pre_stop_seconds=DRAIN_SECONDS,
        cache_mib=CACHE_MIB,
    )


def engine_key(architecture: str, gpus: int, dtype: str) -> str:
    """Return what a built engine's revision ends with: it runs on no other GPU, version, split or type.

    :param architecture: Of the GPU, as in sm90.
    """
    return f"{architecture}-{VERSION}-tp{gpus}-{dtype}"


def engine_problems(spec: ServiceSpec, revision: str, architectures: set[str]) -> Iterator[str]:
    """Yield why `revision` is no engine for the GPUs of a pool, which have these architectures."""
    name = spec.model
    if not spec.engine:
        return
    found = sorted(architectures)
    if len(found) != 1:
        kinds = ", ".join(found) or "none that is known"
        yield f"{name}.engine: an engine is for one kind of GPU, and those of the pool are {kinds}"
        return
    key = engine_key(found[0], spec.gpus, spec.dtype or "auto")
    if spec.dtype in (None, "auto"):
        yield f"{name}.dtype: a built engine has one type, which its revision names; nearest valid value: bfloat16"
    elif not revision.endswith(f"-{key}"):
        yield f"{name}.revision: {revision!r} doesn't name an engine for {key}; nearest valid value: {revision}-{key}"


def _config(spec: ServiceSpec) -> dict[str, Any]:
    """Return what only the file can say. It is YAML, of which JSON is a part."""
    fraction = spec.gpu_memory_utilization
    cache: dict[str, Any] = {"free_gpu_memory_fraction": MEMORY_SHARE if fraction is None else fraction}
    if spec.kv_cache_dtype is not None:
        cache["dtype"] = spec.kv_cache_dtype
    # Without the first there is no /prometheus/metrics.
    config: dict[str, Any] = {"return_perf_metrics": True, "kv_cache_config": cache}
    # An engine has its type.
    if spec.dtype is not None and not spec.engine:
        config["dtype"] = spec.dtype
    return config


def _problems(spec: ServiceSpec) -> Iterator[str]:
    yield from token_problems(spec)
    yield from choice_problems(f"{spec.model}.dtype", spec.dtype, DTYPES)
    yield from choice_problems(f"{spec.model}.quantization", spec.quantization, QUANTIZATIONS)
    yield from choice_problems(f"{spec.model}.kv_cache_dtype", spec.kv_cache_dtype, KV_CACHE_DTYPES)
    yield from memory_problems(spec, 1, "all that weights leave")
    yield from copy_problems(spec, "TensorRT-LLM")
    yield from node_problems(spec, "trtllm-serve spans nodes by MPI only, whose launcher logs in to each pod")
    if spec.adapters:
        # Its server has no list of adapters: a request brings the path of one, in `lora_request`.
        yield (
            f"{spec.model}.adapters: trtllm-serve {VERSION} knows no adapters by name; nearest valid value: none, or"
            " runtime vllm or tgi"
        )
