"""The token limits of a replica against each other, as the runtimes check them when they start.

Read in TGI 3.3.7 (launcher/src/main.rs, backends/v3/src/main.rs, server/.../models/model.py) and vLLM 0.33.0
(config/scheduler.py). TGI computes max-batch-total-tokens from the free memory, and refuses a max-total-tokens above
it: the fit check covers that.
"""

from collections.abc import Iterator

from llm_serving.capacity import attention
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import (
    MAX_BATCH_PREFILL_TOKENS,
    MAX_CONCURRENT_REQUESTS,
    MAX_INPUT_TOKENS,
    MAX_TOTAL_TOKENS,
    setting,
)
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_names import TGI, VLLM, title

CHECKS = (
    Check("TOKENS_RANGE", "error", "A token limit is below 1.", ("F3",)),
    Check("TOKENS_INPUT", "error", "The longest prompt leaves no room for an answer.", ("F3",)),
    Check("TOKENS_PREFILL", "error", "The longest prompt does not fit the tokens that are read in one step.", ("F3",)),
    Check("TOKENS_BATCH", "error", "One step reads fewer tokens than there may be requests.", ("F3",)),
)


def check(placement: Placement) -> Iterator[Finding]:
    """Yield which token limits of a replica contradict each other."""
    limits = (
        (MAX_INPUT_TOKENS, placement.max_input_tokens),
        (MAX_TOTAL_TOKENS, placement.max_total_tokens),
        (MAX_BATCH_PREFILL_TOKENS, placement.max_batch_prefill_tokens),
        (MAX_CONCURRENT_REQUESTS, placement.max_concurrent_requests),
    )
    wrong = [(names, value) for names, value in limits if value is not None and value < 1]
    for names, value in wrong:
        message = f"{value} is less than 1; nearest valid: 1"
        yield Finding("TOKENS_RANGE", "error", setting(placement, names), message, ("1",))
    if not wrong:
        yield from _check_input(placement)
        yield from _check_prefill(placement)


def _check_input(placement: Placement) -> Iterator[Finding]:
    longest, total = placement.max_input_tokens, placement.max_total_tokens
    if longest is not None and total <= longest:
        message = f"{total} leaves no room for an answer after a prompt of {longest}; nearest valid: {longest + 1}"
        yield Finding("TOKENS_INPUT", "error", setting(placement, MAX_TOTAL_TOKENS), message, (str(longest + 1),))


def _check_prefill(placement: Placement) -> Iterator[Finding]:
    step, name = placement.max_batch_prefill_tokens, setting(placement, MAX_BATCH_PREFILL_TOKENS)
    if step is None:
        return
    longest = placement.max_input_tokens or placement.max_total_tokens - 1
    if placement.runtime.name == TGI and longest > step:
        # Prefill chunking, on by default, reads a longer prompt in several steps; paged attention has none.
        paged = attention.tgi_backend(placement) == attention.PAGED
        message = f"{step} is less than the longest prompt of {longest} tokens"
        message += ", which TGI refuses with paged attention" if paged else ", which is then read in several steps"
        message += f"; nearest valid: {longest}"
        yield Finding("TOKENS_PREFILL", "error" if paged else "warning", name, message, (str(longest),))
    requests = placement.max_concurrent_requests
    if placement.runtime.name == VLLM and requests > step:
        message = (
            f"{step} tokens of a step are fewer than the {requests} requests at once, which {title(placement.runtime)}"
            f" refuses; nearest valid: {requests}"
        )
        yield Finding("TOKENS_BATCH", "error", name, message, (str(requests),))
