"""Bits of weights and of cached keys and values, by the names that the runtimes give their formats.

A format with groups counts its scales and zero points: 4-bit AWQ and GPTQ with groups of 128 have 16 + 4 bits for each
group, nf4 and fp4 a 32-bit scale for each 64 weights, mxfp4 and mxfp8 an 8-bit one for each 32, nvfp4 for each 16. The
formats' own documentation is the source. Which runtime takes which name is `runtime_formats`' matter: here a name that
is in no table, like one whose size only the checkpoint knows, counts as 16 bits, so that a fit is never too good.
"""

from collections.abc import Mapping

from llm_serving.capacity.model_shape import ModelShape

UNQUANTIZED_BITS = 16.0

_WEIGHT_BITS: Mapping[float, str] = {
    4 + (16 + 4) / 128: (
        "awq auto_awq awq_marlin w4a16_awq w4a8_awq gptq auto_gptq gptq_marlin w4a16_gptq marlin moe_wna16"
    ),
    4.25: "mxfp4 gpt_oss_mxfp4",
    4.5: "bitsandbytes_nf4 bitsandbytes_fp4 nvfp4 nvfp4_per_token modelopt_fp4",
    8: (
        "bitsandbytes eetq int8 int8_per_channel_weight_only experts_int8 fp8 fp8_per_tensor fp8_per_channel"
        " deepseek_v4_fp8 fbgemm_fp8"
    ),
    8 + 32 / (128 * 128): "fp8_per_block fp8_block_scales",
    8.25: "mxfp8 modelopt_mxfp8",
}  # fmt: skip
WEIGHT_BITS: Mapping[str, float] = {name: bits for bits, names in _WEIGHT_BITS.items() for name in names.split()}
"""Bits of a quantized weight by the method's folded name. Absent where only the checkpoint knows, as for exl2."""

EXPERTS_ONLY = frozenset({"mxfp4", "gpt_oss_mxfp4", "experts_int8"})
"""Methods that quantize the weights of experts only (gpt-oss' quantization_config says so of mxfp4)."""

KV_CACHE_BYTES: Mapping[str, float] = {
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e4m3fn": 1,
    "fp8_e5m2": 1,
    "fp8_inc": 1,
    "fp8_per_token_head": 1,
    "int8_per_token_head": 1,
    "int4_per_token_head": 0.5,
    "nvfp4": 4.5 / 8,
}
"""Bytes of a cached element by folded name; scales of whole tensors and of heads are too small to count."""

DTYPE_BYTES: Mapping[str, int] = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4}
"""Bytes of an unquantized weight."""


def folded(name: str) -> str:
    """A name as the tables spell it: TGI writes bitsandbytes-nf4, TensorRT-LLM NVFP4."""
    return name.casefold().replace("-", "_")


def compute_bytes(dtype: str | None) -> int:
    """Return the bytes of an unquantized weight, and of a cached element where nothing else is asked for.

    :param dtype: As the runtime spells it; None and auto for the runtime's own choice. That is always of 16 bits, also
        where the checkpoint has 32.
    """
    return DTYPE_BYTES.get(folded(dtype or "auto"), 2)


def kv_cache_bytes(kv_cache_dtype: str | None, dtype: str | None) -> float:
    """Return the bytes of a cached element.

    :param kv_cache_dtype: As the runtime spells it; None and auto for the compute dtype's.
    :param dtype: The compute dtype, as the runtime spells it.
    """
    return KV_CACHE_BYTES.get(folded(kv_cache_dtype or "auto"), compute_bytes(dtype))


def weight_bits(shape: ModelShape, method: str | None) -> float | None:
    """Return the bits of a quantized weight; None where weights are not quantized or nobody says to how many bits.

    :param method: As the runtime spells it; None for the checkpoint's own.
    """
    own = shape.quantization
    if own is not None and (method is None or reads_checkpoint(shape, method) or folded(method) not in WEIGHT_BITS):
        return own.bits if own.bits < UNQUANTIZED_BITS else None
    return WEIGHT_BITS.get(folded(method)) if method else None


def reads_checkpoint(shape: ModelShape, method: str) -> bool:
    """Tell whether a method that a runtime is started with reads the quantized format that the checkpoint has."""
    return shape.quantization is not None and _format(shape.quantization.method) == _format(method)


def _format(method: str) -> str:
    name = folded(method)
    for known in ("awq", "gptq", "bitsandbytes", "mxfp4", "fp8"):
        if known in name:
            return known
    return name


def is_size_unknown(shape: ModelShape, method: str | None) -> bool:
    """Tell whether weights are quantized to a number of bits that nobody says."""
    return (method is not None or shape.quantization is not None) and weight_bits(shape, method) is None
