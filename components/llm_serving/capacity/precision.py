"""Whether a GPU can compute in a model's number format, and a runtime knows its name: dtype and key-value cache.

Quantized weights have modules of their own: `quantized_weights` and `kernel_shapes`.

Where no dtype is given, TGI computes in float16 but for a few families, and vLLM turns a bfloat16 checkpoint into
float16 on a GPU that lacks bfloat16 (config/model.py, _resolve_auto_dtype): both start, so that only warns.
"""

from collections.abc import Iterator

from llm_serving.capacity import attention, hardware, quantized_weights, runtime_support
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import DTYPE, KV_CACHE_DTYPE, capability, joined, nearest, setting
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_formats import (
    ADA,
    AMPERE,
    BLACKWELL,
    DTYPES,
    HALF,
    KV_CACHE_DTYPES,
    TGI_BFLOAT16,
    TURING,
    VLLM_NO_FLOAT16,
)
from llm_serving.capacity.runtime_names import TGI, VLLM, title

CHECKS = (
    Check("DTYPE_UNKNOWN", "error", "The runtime knows no dtype of this name.", ("F4",)),
    Check("DTYPE_CAPABILITY", "error", "The GPU has no bfloat16: that needs compute capability 8.0.", ("F4",)),
    Check("DTYPE_MODEL", "error", "The runtime refuses to run this model family in float16.", ("F4",)),
    Check("KV_DTYPE", "error", "The runtime knows no key-value cache type of this name.", ("F4",)),
    Check("KV_DTYPE_CAPABILITY", "error", "The GPU cannot hold the key-value cache in this type.", ("F4",)),
    Check("KV_DTYPE_ATTENTION", "error", "The attention kernel cannot read an fp8 key-value cache."),
)

_TGI_FLOAT16 = frozenset({"awq", "exl2", "gptq", "marlin"})
"""Quantizations that TGI computes in float16, whatever the family (models/__init__.py)."""


def check(placement: Placement) -> Iterator[Finding]:
    """Yield what is wrong with the dtype and the key-value cache's type of a replica."""
    yield from _check_dtype(placement)
    yield from _check_kv_cache(placement)


def _gpu(placement: Placement) -> str:
    gpu = placement.instance.gpu
    return f"{gpu.name} of {placement.instance.name} is {capability(gpu.compute_capability)}"


def _check_dtype(placement: Placement) -> Iterator[Finding]:
    runtime, dtype, name = placement.runtime.name, placement.dtype, setting(placement, DTYPE)
    known = DTYPES[runtime]
    if dtype is not None and dtype not in known:
        message = f"{title(placement.runtime)} knows no dtype {dtype!r}; it knows {joined(known)}"
        yield Finding("DTYPE_UNKNOWN", "error", name, message, nearest(dtype, known))
    elif dtype in {"half", "float16"} and runtime == VLLM and placement.model.family in VLLM_NO_FLOAT16:
        message = (
            f"{title(placement.runtime)} refuses {placement.model.family} in {dtype}, where it is numerically"
            " unstable; nearest valid: bfloat16"
        )
        yield Finding("DTYPE_MODEL", "error", name, message, ("bfloat16", "float32"))
    elif placement.instance.gpu.compute_capability < AMPERE:
        yield from _check_bfloat16(placement)


def _check_bfloat16(placement: Placement) -> Iterator[Finding]:
    model, runtime, name = placement.model, placement.runtime.name, setting(placement, DTYPE)
    implied = placement.dtype in {None, "auto"}
    has, method = placement.instance.gpu.compute_capability, quantized_weights.method_of(placement)
    default_bfloat16 = runtime == TGI and model.family in TGI_BFLOAT16 and method not in _TGI_FLOAT16
    no_float16 = runtime == VLLM and model.family in VLLM_NO_FLOAT16
    better = hardware.families_from(AMPERE)
    half = "float32" if no_float16 else HALF[runtime]
    options = (half, *better)
    if placement.dtype == "bfloat16" or (implied and default_bfloat16):
        what = "bfloat16" if placement.dtype else f"{title(placement.runtime)} runs {model.family} in bfloat16, which"
        message = f"{what} needs compute capability 8.0, and the {_gpu(placement)}; use {half}"
        yield Finding("DTYPE_CAPABILITY", "error", name, message + hardware.or_families(better), options)
    elif implied and model.dtype == "bfloat16" and method is None and has >= TURING:
        becomes = "float32, with twice the memory" if no_float16 else "float16"
        message = (
            f"the checkpoint's bfloat16 needs compute capability 8.0, and the {_gpu(placement)}:"
            f" {title(placement.runtime)} turns it into {becomes}; use {half} to accept that"
        )
        yield Finding("DTYPE_CAPABILITY", "warning", name, message + hardware.or_families(better), options)


def _check_kv_cache(placement: Placement) -> Iterator[Finding]:
    runtime, dtype, name = placement.runtime, placement.kv_cache_dtype, setting(placement, KV_CACHE_DTYPE)
    if dtype is None:
        return
    known = KV_CACHE_DTYPES[runtime.name]
    if dtype not in known:
        near = nearest(dtype, known)
        message = f"{title(runtime)} knows no key-value cache type {dtype!r}; nearest valid: {joined(near)}"
        yield Finding("KV_DTYPE", "error", name, message, near)
        return
    has = placement.instance.gpu.compute_capability
    needs = AMPERE if dtype == "bfloat16" else ADA if dtype.startswith("fp8") else None
    needs = BLACKWELL if dtype.startswith("nvfp4") else needs
    if needs is not None and has < needs:
        yield _kv_capability(placement, dtype, needs)
    own = runtime.name == TGI and placement.model.family in runtime_support.TGI_FAMILIES
    if own and attention.tgi_backend(placement) == attention.FLASHDECODING:
        message = (
            f"{dtype} is read by TGI's flashinfer and paged attention only, and {placement.model.name} is given"
            f" {attention.FLASHDECODING}; leave it out, or set ATTENTION=paged"
        )
        yield Finding("KV_DTYPE_ATTENTION", "error", name, message)


def _kv_capability(placement: Placement, dtype: str, needs: tuple[int, int]) -> Finding:
    # vLLM: below 8.0 only the Triton kernel is left (FlashAttention and FlashInfer start at 8.0), and it raises for
    # bfloat16 below 8.0 and for fp8 below 8.9 (v1/attention/backends/triton_attn.py). From 8.0 on FlashInfer reads fp8.
    before_ampere = placement.instance.gpu.compute_capability < AMPERE
    refused = placement.runtime.name == VLLM and before_ampere and not dtype.startswith("nvfp4")
    better = hardware.families_from(needs)
    message = f"{dtype} is native from compute capability {capability(needs)}, and the {_gpu(placement)}"
    if refused:
        message += f": {title(placement.runtime)} refuses to start; nearest valid: float16"
    else:
        message += ": it saves memory and may cost speed"
    alternatives = ("float16", *better) if refused else better
    severity = "error" if refused else "warning"
    return Finding(
        "KV_DTYPE_CAPABILITY",
        severity,
        setting(placement, KV_CACHE_DTYPE),
        message + hardware.or_families(better),
        alternatives,
    )
