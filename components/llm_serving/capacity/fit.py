"""Whether a model fits on the GPUs of an instance type, and how much context and how many requests do beside it.

What a runtime may use of a GPU, less the weights and an overhead, is the pool of its KV cache; the pool must hold one
sequence of the longest length that is asked for, or the runtime refuses to start.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from llm_serving.capacity import adapters, kv_cache, weights
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import (
    GPU_MEMORY_UTILIZATION,
    GPUS,
    INSTANCE,
    MAX_CONCURRENT_REQUESTS,
    MAX_INPUT_TOKENS,
    MAX_TOTAL_TOKENS,
    MODEL,
    NODES,
    QUANTIZATION,
    setting,
)
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.quantization import is_size_unknown
from llm_serving.capacity.runtime_names import TENSORRT_LLM, title

GIB = 1 << 30
MIB = 1 << 20
OVERHEAD_GIB = 2.5
"""Of each GPU, in GiB, for activations, the CUDA context and graphs, and NCCL's buffers: the middle of the 2.0 to 3.5
that NVIDIA's aiconfigurator reserves and that ridgepoint measured on A100 and H100.

Measured on one H100 with transformers' kernels and no CUDA graphs (bench/memory_fit_h100.json): a context of 0.61,
activations and the allocator's rounding came to 1.34 to 1.56 with a pass of 2,048 tokens. With 8,192, vLLM's default
on large GPUs, they came to 1.96 (Llama-3.1-8B), 2.42 (gemma-2-9b), 2.65 (Qwen2.5-32B) and 3.21 (DeepSeek-V2-Lite).
"""
LEAST_HEADROOM = 0.1
"""Of what is needed, by estimate, that should be spare: overheads differ by about as much."""
MOST_ALTERNATIVES = 4
EXPECTED_CONCURRENCY = ("expectedConcurrency", "--expected-concurrency")
MEAN_TOTAL_TOKENS = ("meanTotalTokens", "--mean-total-tokens")

CHECKS = (
    Check("FIT_INPUT", "error", "A number is out of the range in which a fit means anything."),
    Check("FIT_WEIGHTS", "error", "The weights leave no memory for a KV cache on each GPU.", ("F3",)),
    Check("FIT_KV_POOL", "error", "The KV cache does not hold one sequence of the longest length.", ("F3",)),
    Check("FIT_CONTEXT", "error", "The longest sequence is longer than what the model was made for.", ("F3",)),
    Check("FIT_CONCURRENCY", "warning", "The KV cache does not hold the requests that are expected at once."),
    Check(
        "FIT_HEADROOM", "warning", "It fits so narrowly that an overhead above the estimate would break it.", ("F3",)
    ),
    Check("FIT_WEIGHT_BITS", "warning", "The bits of the quantized weights are unknown, so they count as 16."),
    Check(
        "FIT_OTHER_PARTS",
        "warning",
        "The model has parts beside its language model, as a vision tower, whose weights are not counted.",
        ("F3",),
    ),
    Check("FIT_MEMORY_UNKNOWN", "unchecked", "The memory of the instance type's GPUs is unknown."),
)


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the memory of one GPU goes, the one of a replica that has most to hold, in GiB."""

    total: float
    usable: float
    """What the runtime may use; weights, overhead and KV cache come out of it."""
    reserve: float
    """What it leaves alone: `total` less `usable`."""
    weights: float
    """Those of LoRA adapters included."""
    overhead: float
    kv_cache: float
    """What is left of `usable`; 0 where nothing is."""
    sequence: float
    """Of the KV cache, for one sequence of the longest length."""
    headroom: float
    """What is left beside one such sequence; below 0 where it does not fit."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a placement fits."""

    fits: bool
    """Whether the KV cache holds one sequence of `max_total_tokens`."""
    kv_pool_tokens: int
    """Tokens that the KV cache of a replica holds."""
    max_context: int
    """Longest sequence that fits, at most the model's own context, in tokens."""
    concurrent_requests: int
    """Sequences of `max_total_tokens` that fit at once."""
    per_gpu: Budget


def fit(placement: Placement, *, overhead_gib: float = OVERHEAD_GIB) -> Fit:
    """Compute the memory budget of a placement.

    Sources: formulas of hf-mem and vLLM's memory profiling; TGI's and TensorRT-LLM's fractions as their launchers
    document them. vLLM and TGI may use a fraction of a GPU's memory; TensorRT-LLM a fraction of what weights and
    overhead leave.

    :param overhead_gib: Of each GPU, in GiB, for everything but weights and KV cache.
    :raises ValueError: A number is out of range; the text is that of all `validate` finds.
    """
    if problems := validate(placement):
        raise ValueError("; ".join(map(str, problems)))
    total = placement.instance.gpu_memory_mib * MIB
    fraction = _fraction(placement)
    overhead = overhead_gib * GIB
    weight = weights.per_gpu_bytes(
        placement.model, placement.gpus, placement.nodes, placement.quantization, placement.dtype
    ) + adapters.per_gpu_bytes(placement.model, placement.runtime.name, placement.adapter_ranks)
    if placement.runtime.name == TENSORRT_LLM:
        usable = total - (1 - fraction) * max(total - weight - overhead, 0)
    else:
        usable = total * fraction
    token = kv_cache.placement_bytes_per_token(placement)
    pool = max(usable - weight - overhead, 0)
    tokens = math.floor(pool / token)
    return Fit(
        fits=tokens >= placement.max_total_tokens,
        kv_pool_tokens=tokens,
        max_context=min(tokens, placement.model.context),
        concurrent_requests=tokens // placement.max_total_tokens,
        per_gpu=Budget(
            total=total / GIB,
            usable=usable / GIB,
            reserve=(total - usable) / GIB,
            weights=weight / GIB,
            overhead=overhead_gib,
            kv_cache=pool / GIB,
            sequence=placement.max_total_tokens * token / GIB,
            headroom=(usable - weight - overhead - placement.max_total_tokens * token) / GIB,
        ),
    )


def _fraction(placement: Placement) -> float:
    asked = placement.gpu_memory_utilization
    return placement.runtime.memory_fraction if asked is None else asked


def validate(placement: Placement) -> list[Finding]:
    """Find the numbers of a placement that are out of range, each with the nearest valid value."""
    least = {
        GPUS: placement.gpus,
        NODES: placement.nodes,
        MAX_TOTAL_TOKENS: placement.max_total_tokens,
        MAX_INPUT_TOKENS: placement.max_input_tokens,
        MAX_CONCURRENT_REQUESTS: placement.max_concurrent_requests,
        EXPECTED_CONCURRENCY: placement.target_concurrency,
        MEAN_TOTAL_TOKENS: placement.mean_total_tokens,
    }
    found = [
        Finding("FIT_INPUT", "error", setting(placement, names), f"{value} is below 1; nearest valid value: 1", ("1",))
        for names, value in least.items()
        if value is not None and value < 1
    ]
    fraction = placement.gpu_memory_utilization
    if fraction is not None and not 0 < fraction <= 1:
        near = "1" if fraction > 1 else f"{placement.runtime.memory_fraction:g}"
        message = f"{fraction:g} is not above 0 and at most 1; nearest valid value: {near}"
        found.append(Finding("FIT_INPUT", "error", setting(placement, GPU_MEMORY_UTILIZATION), message, (near,)))
    return found


def findings(placement: Placement, fitted: Fit) -> list[Finding]:
    """Say what is wrong with a fit.

    :param fitted: `fit(placement)`.
    """
    if placement.instance.gpu_memory_mib < 1:
        message = f"the GPU memory of {placement.instance.name} is unknown; whether it fits was not checked"
        return [Finding("FIT_MEMORY_UNKNOWN", "unchecked", setting(placement, INSTANCE), message)]
    return [
        *_memory(placement, fitted),
        *_context(placement),
        *_weight_bits(placement),
        *_other_parts(placement, fitted),
    ]


def _memory(placement: Placement, fitted: Fit) -> Iterator[Finding]:
    budget = fitted.per_gpu
    if fitted.kv_pool_tokens < 1:
        names, text = _would_do(placement)
        message = (
            f"{_machine(placement)} cannot hold it: each GPU needs {budget.weights:.2f} GiB for {_held(placement)} and"
            f" {budget.overhead:.2f} GiB of overhead, and may use {budget.usable:.2f} of its {budget.total:.2f} GiB;"
            f" largest context that fits: 0 tokens; {text}"
        )
        yield Finding("FIT_WEIGHTS", "error", setting(placement, INSTANCE), message, names)
    elif not fitted.fits:
        names, text = _would_do(placement)
        message = (
            f"{placement.max_total_tokens} tokens do not fit on {_machine(placement)}: {_held(placement)} of"
            f" {budget.weights:.2f} GiB and an overhead of {budget.overhead:.2f} GiB leave each GPU"
            f" {budget.kv_cache:.2f} of its {budget.total:.2f} GiB for the KV cache, and one such sequence takes"
            f" {budget.sequence:.2f} GiB; largest context that fits: {fitted.max_context} tokens; {text}"
        )
        alternatives = (str(fitted.max_context), *names)
        yield Finding("FIT_KV_POOL", "error", setting(placement, MAX_TOTAL_TOKENS), message, alternatives)
    else:
        yield from _concurrency(placement, fitted)
        yield from _headroom(placement, fitted)


def _machine(placement: Placement) -> str:
    nodes = f"{placement.nodes} nodes of " if placement.nodes > 1 else ""
    gpus = f"{placement.gpus} x {placement.instance.gpu.name}"
    return f"{nodes}{placement.instance.name} ({gpus}) with {title(placement.runtime)}"


def _held(placement: Placement) -> str:
    count = len(placement.adapter_ranks)
    return f"weights and {count} adapter{'s' * (count > 1)}" if count else "weights"


def _would_do(placement: Placement) -> tuple[tuple[str, ...], str]:
    # `alternatives` asks this module for fits, and the rules of legality what may be proposed.
    from llm_serving.capacity import alternatives  # noqa: PLC0415

    others = alternatives.cheapest(placement, MOST_ALTERNATIVES)
    if not others:
        return (), "no instance type of the catalog would do"
    text = ", ".join(f"{other.instance.name} with {other.gpus} GPU{'s' * (other.gpus > 1)}" for other in others)
    return tuple(other.instance.name for other in others), f"would do: {text}"


def _concurrency(placement: Placement, fitted: Fit) -> Iterator[Finding]:
    if placement.target_concurrency is None:
        return
    mean = placement.mean_total_tokens or placement.max_total_tokens
    needed = placement.target_concurrency * mean
    if fitted.kv_pool_tokens < needed:
        fitting = fitted.kv_pool_tokens // mean
        message = (
            f"{placement.target_concurrency} requests of {mean} tokens take {needed} tokens, and the KV cache holds"
            f" {fitted.kv_pool_tokens}: the others queue; at once fit {fitting}"
        )
        yield Finding("FIT_CONCURRENCY", "warning", setting(placement, EXPECTED_CONCURRENCY), message, (str(fitting),))


def _headroom(placement: Placement, fitted: Fit) -> Iterator[Finding]:
    budget = fitted.per_gpu
    needed = budget.weights + budget.overhead + budget.sequence
    if budget.headroom < LEAST_HEADROOM * needed:
        message = (
            f"{budget.headroom:.2f} GiB of each GPU are spare beside the {needed:.2f} GiB that weights, overhead and"
            f" one sequence of {placement.max_total_tokens} tokens take by estimate; below {LEAST_HEADROOM:.0%} of it,"
            " an overhead above the estimate may keep the runtime from starting"
        )
        yield Finding("FIT_HEADROOM", "warning", setting(placement, INSTANCE), message)


def _context(placement: Placement) -> Iterator[Finding]:
    own = placement.model.context
    if placement.max_total_tokens > own:
        message = (
            f"{placement.max_total_tokens} tokens are more than the {own} that {placement.model.name} was made for;"
            f" nearest valid value: {own}"
        )
        yield Finding("FIT_CONTEXT", "error", setting(placement, MAX_TOTAL_TOKENS), message, (str(own),))


def _weight_bits(placement: Placement) -> Iterator[Finding]:
    if is_size_unknown(placement.model, placement.quantization):
        own = placement.model.quantization
        method = placement.quantization or (own.method if own else "")
        message = f"the config does not say how many bits {method} gives a weight; counted as 16, so it may need less"
        yield Finding("FIT_WEIGHT_BITS", "warning", setting(placement, QUANTIZATION), message)


def _other_parts(placement: Placement, fitted: Fit) -> Iterator[Finding]:
    if parts := placement.model.other_parts:
        message = (
            f"{placement.model.name} has {', '.join(parts)} beside the language model; the weights of those parts are"
            f" not in the {fitted.per_gpu.weights:.2f} GiB that count for each GPU, so leave them room"
        )
        yield Finding("FIT_OTHER_PARTS", "warning", setting(placement, MODEL), message)
