"""Quantized weights: whether a runtime knows the format, a GPU runs it, and the checkpoint is one of its kind."""

from collections.abc import Iterator, Mapping

from llm_serving.capacity import catalog, hardware, runtime_support
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.model_shape import CheckpointQuantization
from llm_serving.capacity.naming import DTYPE, GPUS, QUANTIZATION, capability, joined, nearest, setting
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_formats import QUANTIZATIONS, Quantization
from llm_serving.capacity.runtime_names import TENSORRT_LLM, TGI, VLLM, title

CHECKS = (
    Check("QUANT_UNKNOWN", "error", "The runtime knows no quantization of this name.", ("F4",)),
    Check("QUANT_DEPRECATED", "error", "The runtime refuses this quantization as deprecated."),
    Check("QUANT_CAPABILITY", "error", "The GPU is too old for this quantization.", ("F4",)),
    Check("QUANT_CONFLICT", "error", "The checkpoint is quantized in another way than the setting says."),
    Check("QUANT_CHECKPOINT", "error", "The quantization reads quantized checkpoints, and this one is not quantized."),
    Check("QUANT_DTYPE", "error", "TGI takes either a dtype or a quantization, not both."),
    Check("QUANT_SHARDED", "error", "The quantization cannot be split over several GPUs."),
    Check("QUANT_EXPERTS", "error", "TGI has no mixture-of-experts kernel for this quantization."),
)

_TGI_WITH_DTYPE = frozenset({"bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-fp4"})
"""The quantizations beside which TGI takes a dtype (server/text_generation_server/cli.py)."""
_TGI_EXPERTS = frozenset({"awq", "gptq", "fp8"})
"""What TGI's mixture-of-experts layer loads beside unquantized weights (layers/moe/__init__.py)."""
_TGI_DETECTED = frozenset({"awq", "gptq", "exl2", "fp8", "fbgemm_fp8", "compressed-tensors"})
"""The methods that TGI takes from a checkpoint by itself (models/__init__.py)."""

_ELSEWHERE = frozenset({"bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-fp4", "gguf", "eetq", "mxfp4", "nvfp4"})
"""What other runtimes or releases know: no other name is spelled like it, so one that does the same is nearest."""
_AT_LOAD: Mapping[str, tuple[str, ...]] = {
    TGI: ("fp8", "eetq"),
    VLLM: ("fp8", "int8_per_channel_weight_only"),
    TENSORRT_LLM: (),
}
"""What needs no quantized checkpoint."""


def method_of(placement: Placement) -> str | None:
    """Return the quantization that the replica runs with: the given one, else the checkpoint's own."""
    if placement.quantization is not None:
        return placement.quantization
    own = placement.model.quantization
    return None if own is None else own.method


def check(placement: Placement) -> Iterator[Finding]:
    """Yield what is wrong with the quantization of a replica."""
    method = method_of(placement)
    if method is None:
        return
    known = QUANTIZATIONS[placement.runtime.name].get(method)
    if known is None:
        yield from _unknown(placement, method)
        return
    yield from _check_name(placement, method, known)
    yield from _check_capability(placement, method, known)
    yield from _check_checkpoint(placement, known)
    if placement.runtime.name == TGI:
        yield from _check_tgi(placement, method)


def _unknown(placement: Placement, method: str) -> Iterator[Finding]:
    runtime, name = placement.runtime, setting(placement, QUANTIZATION)
    known = QUANTIZATIONS[runtime.name]
    usable = [each for each, rule in known.items() if rule.replaced_by is None]
    if runtime.name == TENSORRT_LLM:
        message = f"{method!r} is not among the formats known of {title(runtime)}: {joined(usable)}"
        yield Finding("QUANT_UNKNOWN", "warning", name, message, nearest(method, usable))
        return
    near = _AT_LOAD[runtime.name] if method in _ELSEWHERE else nearest(method, usable)
    whose = "" if placement.quantization is not None else "the checkpoint's "
    message = f"{title(runtime)} does not know {whose}{method!r}; nearest valid: {joined(near)}"
    yield Finding("QUANT_UNKNOWN", "error", name, message, near)


def _check_name(placement: Placement, method: str, known: Quantization) -> Iterator[Finding]:
    if known.replaced_by is not None and placement.quantization is not None:
        message = f"{title(placement.runtime)} refuses {method} as deprecated; nearest valid: {known.replaced_by}"
        name = setting(placement, QUANTIZATION)
        yield Finding("QUANT_DEPRECATED", "error", name, message, (known.replaced_by,))


def _check_capability(placement: Placement, method: str, known: Quantization) -> Iterator[Finding]:
    gpu, name = placement.instance.gpu, setting(placement, QUANTIZATION)
    where = f"the {gpu.name} of {placement.instance.name} is {capability(gpu.compute_capability)}"
    if gpu.compute_capability < known.minimum:
        better = hardware.families_from(known.minimum)
        message = (
            f"{method} in {title(placement.runtime)} needs compute capability {capability(known.minimum)}, and"
            f" {where}{hardware.or_families(better)}"
        )
        yield Finding("QUANT_CAPABILITY", "error", name, message, better)
    elif known.native is not None and gpu.compute_capability < known.native:
        better = hardware.families_from(known.native)
        message = (
            f"{title(placement.runtime)} computes {method} natively from compute capability"
            f" {capability(known.native)}, and {where}: there it only makes the weights smaller"
        )
        yield Finding("QUANT_CAPABILITY", "warning", name, message, better)


def _check_checkpoint(placement: Placement, known: Quantization) -> Iterator[Finding]:
    given, own, name = placement.quantization, placement.model.quantization, setting(placement, QUANTIZATION)
    if given is None:
        return
    # TensorRT-LLM takes the format from the checkpoint, and how it names formats was not read in its source.
    severity = "warning" if placement.runtime.name == TENSORRT_LLM else "error"
    if own is None and known.checkpoint:
        # A name of the catalog stands for a model, of which there may be quantized checkpoints too.
        named = placement.model.name in catalog.models()
        model = f"the catalog's {placement.model.name}" if named else placement.model.name
        loading = _AT_LOAD[placement.runtime.name]
        message = (
            f"{given} needs a checkpoint that is quantized as {' or '.join(known.checkpoint[:2])}, and {model} is not"
        )
        message += f"; quantized while loading: {joined(loading)}" if loading else ""
        yield Finding("QUANT_CHECKPOINT", "warning" if named else severity, name, message, loading)
    elif own is not None and own.method != given and own.method not in known.checkpoint and given != "humming":
        message = (
            f"{given} is not what {placement.model.name} is quantized as, {own.method};"
            " leave it out to take the checkpoint's own"
        )
        yield Finding("QUANT_CONFLICT", severity, name, message, _readers(placement, own))


def _readers(placement: Placement, own: CheckpointQuantization) -> tuple[str, ...]:
    known = QUANTIZATIONS[placement.runtime.name]
    return tuple(each for each, rule in known.items() if each == own.method or own.method in rule.checkpoint)


def _check_tgi(placement: Placement, method: str) -> Iterator[Finding]:
    taken = placement.quantization is not None or method in _TGI_DETECTED
    if placement.dtype is not None and taken and method not in _TGI_WITH_DTYPE:
        source = "" if placement.quantization is not None else "the checkpoint's "
        message = f"{title(placement.runtime)} takes no dtype {placement.dtype} beside {source}{method}; leave it out"
        yield Finding("QUANT_DTYPE", "error", setting(placement, DTYPE), message)
    if method == "exl2" and placement.gpus > 1:
        message = f"TGI cannot split exl2 over {placement.gpus} GPUs; nearest valid: 1"
        yield Finding("QUANT_SHARDED", "error", setting(placement, GPUS), message, ("1",))
    own_layers = placement.model.family in runtime_support.TGI_FAMILIES
    if placement.model.experts is not None and own_layers and method not in _TGI_EXPERTS:
        message = (
            f"TGI runs mixtures of experts unquantized or as {joined(sorted(_TGI_EXPERTS))},"
            f" and {placement.model.name} with {method} is none of these"
        )
        yield Finding("QUANT_EXPERTS", "error", setting(placement, QUANTIZATION), message, tuple(sorted(_TGI_EXPERTS)))
