"""Whether a runtime's image runs on a GPU, and a runtime knows a model family.

Read in TGI 3.3.7 (server/text_generation_server/models/__init__.py, get_model; server/uv.lock: transformers 4.51.0),
transformers 4.51.0 (models/auto/modeling_auto.py; _supports_attention_backend and base_model_tp_plan of each family),
NVIDIA's list of supported hardware for TensorRT-LLM, and the CUDA architectures of vLLM's image.
"""

from collections.abc import Iterator

from llm_serving.capacity import hardware
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import INSTANCE, KV_CACHE_DTYPE, QUANTIZATION, RUNTIME, capability, joined, setting
from llm_serving.capacity.placement import Hosted, Placement
from llm_serving.capacity.runtime_formats import AMPERE, TURING
from llm_serving.capacity.runtime_names import TENSORRT_LLM, TGI, VLLM, title

CHECKS = (
    Check("RUNTIME_MODEL", "error", "The runtime does not know the model's family, or not well.", ("F4",)),
    Check("RUNTIME_SHARDED", "error", "The runtime can run the model's family on one GPU only.", ("F2",)),
    Check("RUNTIME_QUANTIZATION", "error", "The runtime runs this family without its own kernels, and so unquantized."),
    Check("RUNTIME_GPU", "error", "The runtime's image has no code for the GPU, or was not tested on it.", ("F4",)),
    Check("RUNTIME_ARCHITECTURE", "error", "The runtime's image is built for another processor."),
)

TGI_FAMILIES = frozenset(
    {
        "deepseek_v2", "deepseek_v3", "idefics", "idefics2", "idefics3", "llava_next", "llama", "llama4", "phi3",
        "granite", "gemma", "paligemma", "gemma2", "gemma3", "gemma3_text", "cohere", "dbrx", "mamba", "ssm", "mistral",
        "mixtral", "gpt_bigcode", "phi", "phi-msft", "phimoe", "baichuan", "falcon", "RefinedWeb", "RefinedWebModel",
        "starcoder2", "qwen2", "qwen2_vl", "qwen2_5_vl", "opt", "t5", "galactica", "santacoder", "bloom", "mpt", "gpt2",
        "gpt_neox", "gptj", "mllama",
    }
)  # fmt: skip
"""Families that TGI has its own code for."""
_TRANSFORMERS_SHARDED = frozenset({"cohere2", "glm", "helium", "olmo", "olmo2", "qwen3", "qwen3_moe"})
"""Families that transformers 4.51 runs with TGI's attention and has a plan to split."""
_TRANSFORMERS_SINGLE = frozenset(
    {
        "bamba", "codegen", "diffllama", "emu3", "falcon_mamba", "fuyu", "git", "got_ocr2", "gpt-sw3", "gpt_neo",
        "gpt_neox_japanese", "granitemoe", "granitemoeshared", "jamba", "jetmoe", "mamba2", "moshi", "nemotron",
        "olmoe", "openai-gpt", "persimmon", "phi4_multimodal", "qwen2_moe", "recurrent_gemma", "rwkv", "stablelm",
        "xglm", "zamba", "zamba2", "biogpt", "ctrl", "cpmant", "aria_text",
    }
)  # fmt: skip
"""Families that transformers 4.51 runs on one GPU."""
_NOT_IN_TRANSFORMERS = frozenset({"gptq", "awq", "eetq", "exl2", "bitsandbytes-nf4", "bitsandbytes-fp4"})
"""Quantizations that TGI refuses where it has no code of its own for a family (models/__init__.py)."""
_TENSORRT_LLM_GPUS = frozenset({"B200", "B300", "GB200", "H100", "H200", "L40S", "A100", "A100-80GB"})
"""What NVIDIA lists as supported hardware, by the names of the catalog."""


def check(placement: Placement) -> Iterator[Finding]:
    """Yield why a runtime's image does not run on the instance, or does not know the model."""
    yield from check_image(placement)
    if placement.runtime.name == TGI:
        yield from _check_tgi_model(placement)


def check_image(placement: Hosted) -> Iterator[Finding]:
    """Yield why an image does not run on the instance, whatever the model."""
    yield from _check_gpu(placement)
    yield from _check_architecture(placement)


def _check_gpu(placement: Hosted) -> Iterator[Finding]:
    gpu, runtime = placement.instance.gpu, placement.runtime
    has = gpu.compute_capability
    listed = _TENSORRT_LLM_GPUS if runtime.name == TENSORRT_LLM else None
    runs = hardware.has_code(runtime.capabilities, has) if listed is None else gpu.name in listed
    if runs:
        return
    the_gpu = f"the {gpu.name} of {placement.instance.name} ({capability(has)})"
    better = hardware.families_from(AMPERE, built=runtime.capabilities, listed=listed)
    severity, message = "warning", ""
    if has < TURING or (has < AMPERE and runtime.name == TENSORRT_LLM):
        severity, message = "error", f"{title(runtime)} has no code for {the_gpu}"
    elif listed is not None:
        message = f"NVIDIA does not list {the_gpu} for {title(runtime)}: it may run, but was not tested"
    elif runtime.ptx_from is not None and has >= runtime.ptx_from:
        message = (
            f"{title(runtime)} has no machine code for {the_gpu} and compiles that of"
            f" {capability(runtime.ptx_from)} when it starts, which takes minutes and may fail"
        )
    elif runtime.name == TGI:
        # PyTorch has code for 7.5, and TGI falls back to it where its own kernels have none.
        message = f"{title(runtime)} is built for {joined(map(capability, runtime.capabilities))}; on {the_gpu} it runs"
        message += " float16 with slower kernels"
    else:
        severity, message = "error", f"{title(runtime)} has no code for {the_gpu}"
    name = setting(placement, INSTANCE)
    yield Finding("RUNTIME_GPU", severity, name, message + hardware.or_families(better), better)


def _check_architecture(placement: Hosted) -> Iterator[Finding]:
    if placement.instance.architecture == "arm64":
        runtime = placement.runtime
        x86 = runtime.name == TGI
        better = hardware.families_from(AMPERE, built=runtime.capabilities)
        what = "is built for x86_64 only" if x86 else "is not confirmed to be built for arm64"
        message = f"{placement.instance.name} is arm64, and the image {runtime.image} {what}"
        severity = "error" if x86 else "warning"
        yield Finding(
            "RUNTIME_ARCHITECTURE",
            severity,
            setting(placement, INSTANCE),
            message + hardware.or_families(better),
            better,
        )


def _check_tgi_model(placement: Placement) -> Iterator[Finding]:
    model, runtime, family = placement.model, placement.runtime, placement.model.family
    name = setting(placement, RUNTIME)
    if family in TGI_FAMILIES:
        return
    if family not in _TRANSFORMERS_SHARDED | _TRANSFORMERS_SINGLE:
        message = (
            f"{title(runtime)} does not know {family}, the family of {model.name}: neither it nor its transformers"
            f" 4.51.0 has it; nearest valid: {VLLM}"
        )
        yield Finding("RUNTIME_MODEL", "error", name, message, (VLLM,))
        return
    message = (
        f"{title(runtime)} has no code of its own for {family} and runs {model.name} through transformers, slower;"
        f" {VLLM} has its own"
    )
    yield Finding("RUNTIME_MODEL", "warning", name, message, (VLLM,))
    if placement.gpus > 1 and family in _TRANSFORMERS_SINGLE:
        message = f"{title(runtime)} cannot split {family} over {placement.gpus} GPUs; nearest valid: 1 GPU, or {VLLM}"
        yield Finding("RUNTIME_SHARDED", "error", name, message, (VLLM,))
    yield from _check_fallback_formats(placement)


def _check_fallback_formats(placement: Placement) -> Iterator[Finding]:
    own, given = placement.model.quantization, placement.quantization
    method = given if given is not None else None if own is None else own.method
    if method is not None and method != "bitsandbytes":
        refused = method in _NOT_IN_TRANSFORMERS
        does = "refuses" if refused else "ignores"
        message = f"{title(placement.runtime)} {does} {method} for {placement.model.family}, which runs in transformers"
        severity = "error" if refused else "warning"
        yield Finding("RUNTIME_QUANTIZATION", severity, setting(placement, QUANTIZATION), message, (VLLM,))
    if placement.kv_cache_dtype is not None:
        message = (
            f"{title(placement.runtime)} ignores {placement.kv_cache_dtype} for {placement.model.family},"
            " which runs in transformers"
        )
        yield Finding("RUNTIME_QUANTIZATION", "warning", setting(placement, KV_CACHE_DTYPE), message, (VLLM,))
