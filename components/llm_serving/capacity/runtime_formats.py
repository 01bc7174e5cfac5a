"""The number formats that each runtime knows by name, with the compute capability that each one needs. Data only.

Read in the sources: TGI 3.3.7 (launcher/src/main.rs, server/text_generation_server/utils/quantization.py, layers/),
vLLM 0.33.0 (config/cache.py, config/model.py, model_executor/layers/quantization/, get_min_capability of each).
TensorRT-LLM takes the format from the checkpoint; its names are general knowledge, so none of them is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from llm_serving.capacity.runtime_names import TENSORRT_LLM, TGI, VLLM

AMPERE = (8, 0)
"""First with bfloat16, FlashAttention 2 and the Marlin kernels."""
ADA = (8, 9)
"""First whose tensor cores multiply fp8."""
HOPPER = (9, 0)
BLACKWELL = (10, 0)
"""First whose tensor cores multiply fp4."""
TURING = (7, 5)
"""The oldest that any of the runtimes still runs on."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """What a runtime does under a quantization's name."""

    minimum: tuple[int, int] = (0, 0)
    """Compute capability below which the runtime refuses it; (0, 0) where no source names one."""
    native: tuple[int, int] | None = None
    """Capability from which the GPU computes in this format; below it only the weights are kept small."""
    checkpoint: tuple[str, ...] = ()
    """`quant_method` of the checkpoints that it reads; empty where it quantizes an unquantized one while loading."""
    replaced_by: str | None = None
    """What to use instead where the runtime refuses it as deprecated."""


_AWQ, _GPTQ = ("awq",), ("gptq",)
_MODELOPT = ("modelopt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8")

_TGI = {
    # Both names read both packings (layers/marlin/gptq.py, can_use_gptq_marlin).
    "awq": Quantization(checkpoint=("awq", "gptq")),
    "gptq": Quantization(checkpoint=("gptq", "awq")),
    "marlin": Quantization(AMPERE, checkpoint=("marlin", "gptq")),
    "exl2": Quantization(checkpoint=("exl2",)),
    "compressed-tensors": Quantization(checkpoint=("compressed-tensors",)),
    "eetq": Quantization(),
    "bitsandbytes": Quantization(),
    "bitsandbytes-nf4": Quantization(),
    "bitsandbytes-fp4": Quantization(),
    # 8.x runs it through Marlin, whose kernels start at 8.0 (layers/fp8.py, layers/marlin/util.py).
    "fp8": Quantization(AMPERE, native=HOPPER),
}
_VLLM = {
    "awq": Quantization(TURING, checkpoint=_AWQ),
    "auto_awq": Quantization(TURING, checkpoint=_AWQ),
    "awq_marlin": Quantization(TURING, checkpoint=_AWQ),
    "gptq": Quantization((6, 0), checkpoint=_GPTQ),
    "auto_gptq": Quantization((6, 0), checkpoint=_GPTQ),
    "gptq_marlin": Quantization((6, 0), checkpoint=_GPTQ),
    "moe_wna16": Quantization((7, 0), checkpoint=("awq", "gptq")),
    "fp8": Quantization(TURING, native=ADA),
    "fp8_per_tensor": Quantization(TURING, native=ADA),
    "fp8_per_block": Quantization(TURING, native=ADA),
    "fp8_per_channel": Quantization(TURING, native=ADA),
    "int8_per_channel_weight_only": Quantization(TURING),
    "experts_int8": Quantization(AMPERE),
    "mxfp8": Quantization(AMPERE, native=BLACKWELL),
    "nvfp4_per_token": Quantization(TURING, native=BLACKWELL),
    "online": Quantization(TURING),
    "torchao": Quantization(TURING),
    "humming": Quantization(TURING),
    "compressed-tensors": Quantization((7, 0), checkpoint=("compressed-tensors",)),
    "modelopt": Quantization(AMPERE, native=ADA, checkpoint=_MODELOPT),
    "modelopt_fp4": Quantization(TURING, native=BLACKWELL, checkpoint=_MODELOPT),
    "modelopt_mixed": Quantization(TURING, checkpoint=_MODELOPT),
    "modelopt_mxfp8": Quantization(AMPERE, native=BLACKWELL, checkpoint=_MODELOPT),
    "quark": Quantization((7, 0), checkpoint=("quark",)),
    "inc": Quantization((6, 0), checkpoint=("inc", "auto-round", "awq", "gptq")),
    "mxfp4": Quantization(AMPERE, checkpoint=("mxfp4",)),
    "gpt_oss_mxfp4": Quantization(AMPERE, checkpoint=("mxfp4",)),
    "deepseek_v4_fp8": Quantization(TURING, native=ADA, checkpoint=("fp8",)),
    "fbgemm_fp8": Quantization(AMPERE, native=ADA, replaced_by="fp8"),
    "fp_quant": Quantization(BLACKWELL, replaced_by="modelopt_fp4"),
}
_TENSORRT_LLM = {
    "fp8": Quantization(native=ADA),
    "nvfp4": Quantization(native=BLACKWELL),
    "awq": Quantization(checkpoint=("awq", *_MODELOPT)),
    "gptq": Quantization(checkpoint=_GPTQ),
    "mxfp4": Quantization(checkpoint=("mxfp4",)),
}
QUANTIZATIONS: Mapping[str, Mapping[str, Quantization]] = {TGI: _TGI, VLLM: _VLLM, TENSORRT_LLM: _TENSORRT_LLM}
"""Quantizations by runtime and name."""

DTYPES: Mapping[str, tuple[str, ...]] = {
    TGI: ("float16", "bfloat16"),
    VLLM: ("auto", "half", "float16", "bfloat16", "float", "float32"),
    TENSORRT_LLM: ("auto", "float16", "bfloat16", "float32"),
}
"""What a runtime takes as the type to compute in."""
HALF = {TGI: "float16", VLLM: "half", TENSORRT_LLM: "float16"}
"""How a runtime spells 16-bit floats that a GPU before 8.0 has."""

KV_CACHE_DTYPES: Mapping[str, tuple[str, ...]] = {
    TGI: ("fp8_e4m3fn", "fp8_e5m2"),
    VLLM: (
        "auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_ds_mla", "nvfp4_ds_mla",
        "fp8_per_token_head", "int8_per_token_head", "int4_per_token_head", "nvfp4", "nvfp4_4over6",
        "turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc",
        "octave_k3v4", "octave_k3v3", "octave_k3v3_compact", "ultraquant_4bit",
    ),
    TENSORRT_LLM: ("auto", "fp8", "nvfp4"),
}  # fmt: skip
"""What a runtime takes as the type of its key-value cache."""

TGI_BFLOAT16 = frozenset(
    {
        "deepseek_v2", "deepseek_v3", "gemma", "gemma2", "gemma3", "gemma3_text", "dbrx", "llama4", "qwen2_vl",
        "qwen2_5_vl", "mllama", "idefics3", "paligemma",
    }
)  # fmt: skip
"""Families that TGI computes in bfloat16 unless told otherwise; all others in float16 (models/__init__.py)."""
VLLM_NO_FLOAT16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})
"""Families that vLLM refuses to run in float16 (config/model.py)."""
