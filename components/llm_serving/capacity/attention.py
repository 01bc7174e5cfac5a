"""Which attention kernel a replica is given, and what that kernel cannot do on its GPU.

Read in TGI 3.3.7's sources: launcher/src/main.rs (resolve_attention) and
server/text_generation_server/layers/attention/cuda.py. vLLM and TensorRT-LLM choose a kernel that runs.
"""

from collections.abc import Iterator

from llm_serving.capacity import hardware
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import GPUS, INSTANCE, MAX_INPUT_TOKENS, MODEL, capability, setting
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_formats import AMPERE, HOPPER, TURING
from llm_serving.capacity.runtime_names import TENSORRT_LLM, TGI, title

CHECKS = (
    Check("ATTENTION_BACKEND", "warning", "TGI chooses flashinfer on a GPU that it does not suit.", ("F4",)),
    Check(
        "ATTENTION_SHARDED",
        "warning",
        "A model split over GPUs needs FlashAttention, of which the GPU has the first version only.",
        ("F4",),
    ),
    Check("ATTENTION_WINDOW", "error", "Prompts may be longer than a sliding window that the GPU cannot use.", ("F4",)),
    Check("ATTENTION_SOFTCAP", "warning", "The model caps attention scores, which kernels before 8.0 cannot.", ("F4",)),
    Check("ATTENTION_HEAD_DIM", "warning", "The size of the heads rules the fast kernel and the prefix cache out."),
    Check("ATTENTION_LATENT", "warning", "Latent attention on a GPU that the runtime was not shown to run it on."),
)

FLASHINFER, FLASHDECODING, PAGED = "flashinfer", "flashdecoding", "paged"
_FLASHINFER_HEADS = frozenset({64, 128, 256})
_FORCED = frozenset({"falcon", "deepseek_v2"})
_SOFTCAP = frozenset({"gemma2"})


def tgi_backend(placement: Placement) -> str:
    """Return what TGI's launcher sets ATTENTION to where it is not given: flashinfer, flashdecoding or paged."""
    model = placement.model
    suits = model.head_dim in _FLASHINFER_HEADS and model.latent_attention is None and model.family not in _FORCED
    if suits:
        return FLASHINFER
    return FLASHDECODING if placement.instance.gpu.compute_capability >= AMPERE else PAGED


def check(placement: Placement) -> Iterator[Finding]:
    """Yield what the attention kernel of a replica cannot do on its GPU."""
    gpu, model = placement.instance.gpu, placement.model
    if placement.runtime.name == TGI:
        yield from _check_head_dim(placement)
        if TURING <= gpu.compute_capability < AMPERE:
            yield from _check_before_ampere(placement)
    if placement.runtime.name == TENSORRT_LLM and model.latent_attention is not None:
        yield from _check_latent(placement)


def _where(placement: Placement) -> str:
    gpu = placement.instance.gpu
    return f"the {gpu.name} of {placement.instance.name} ({capability(gpu.compute_capability)})"


def _check_head_dim(placement: Placement) -> Iterator[Finding]:
    head_dim = placement.model.head_dim
    if head_dim not in _FLASHINFER_HEADS and placement.model.latent_attention is None:
        message = (
            f"heads of {head_dim} are not among flashinfer's 64, 128, 256: TGI takes {tgi_backend(placement)} and turns"
            " its prefix cache off"
        )
        yield Finding("ATTENTION_HEAD_DIM", "warning", setting(placement, MODEL), message, ("64", "128", "256"))


def _check_before_ampere(placement: Placement) -> Iterator[Finding]:
    model, better = placement.model, hardware.families_from(AMPERE)
    instance = setting(placement, INSTANCE)
    softcap = model.family in _SOFTCAP
    if tgi_backend(placement) == FLASHINFER and not softcap:
        message = (
            f"TGI keeps flashinfer on {_where(placement)}, which is made for 8.0 and newer; set ATTENTION=paged"
            f"{hardware.or_families(better)}"
        )
        yield Finding("ATTENTION_BACKEND", "warning", instance, message, ("ATTENTION=paged", *better))
    if softcap:
        message = (
            f"{model.family} caps attention scores, and before 8.0 only flashinfer can; {_where(placement)} has neither"
            f" FlashAttention 2 nor a paged kernel that does{hardware.or_families(better)}"
        )
        yield Finding("ATTENTION_SOFTCAP", "warning", instance, message, better)
    if placement.gpus > 1:
        yield _sharded(placement, better)
    window, longest = model.sliding_window, placement.max_input_tokens
    if window is not None and longest is not None and longest > window:
        message = (
            f"{longest} is more than the sliding window of {window}, which TGI cannot use on {_where(placement)};"
            f" nearest valid: {window}{hardware.or_families(better)}"
        )
        yield Finding(
            "ATTENTION_WINDOW", "error", setting(placement, MAX_INPUT_TOKENS), message, (str(window), *better)
        )


def _sharded(placement: Placement, better: tuple[str, ...]) -> Finding:
    # Without any FlashAttention TGI refuses to split ("Sharded ... requires Flash Attention enabled models").
    message = (
        f"splitting {placement.model.name} over {placement.gpus} GPUs needs FlashAttention, and {_where(placement)} has"
        f" only its first version; nearest valid: 1{hardware.or_families(better)}"
    )
    return Finding("ATTENTION_SHARDED", "warning", setting(placement, GPUS), message, ("1", *better))


def _check_latent(placement: Placement) -> Iterator[Finding]:
    # General knowledge, not read in a source: NVIDIA's kernels for latent attention are made for Hopper and newer.
    if placement.instance.gpu.compute_capability < HOPPER:
        better = hardware.families_from(HOPPER)
        message = (
            f"{placement.model.name} has latent attention, and that {title(placement.runtime)} runs it on"
            f" {_where(placement)}, before 9.0, is not confirmed{hardware.or_families(better)}"
        )
        yield Finding("ATTENTION_LATENT", "warning", setting(placement, INSTANCE), message, better)
