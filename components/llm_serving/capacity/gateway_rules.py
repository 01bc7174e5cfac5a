"""Whether the way in waits as long as the longest answer takes: the API, the gateway, the model."""

import math
from collections.abc import Iterator

from llm_serving._api_limits import BUFFERED_SECONDS, STREAM_SECONDS
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.stack import Embedding, Service, Stack

GENERATION = Check(
    "GATEWAY_GENERATION_TIMEOUT", "warning", "The longest answer of a model takes longer than its timeout.", ("F15",)
)
API = Check(
    "GATEWAY_API_TIMEOUT",
    "warning",
    "The API gives up before the gateway, and the GPU works on for nobody.",
    ("F15",),
)
BUFFERED = Check(
    "GATEWAY_BUFFERED", "warning", "A buffered API answers only once all is generated, and within 29 s.", ("F15",)
)
CHECKS = (GENERATION, API, BUFFERED)

SLOW_TOKENS_PER_SECOND = 20
"""Assumed rate of one request on a busy server, in tokens each second: a reading speed, below which users leave.
An assumption, not a measurement, so what follows from it is a warning."""
DEFAULT_SECONDS = 300


def check(stack: Stack) -> Iterator[Finding]:
    """Yield which models' answers the API or the gateway would cut off, once for a model whose versions are alike."""
    yield from dict.fromkeys(_check(stack))


def _check(stack: Stack) -> Iterator[Finding]:
    streamed = stack.response_transfer_mode == "STREAM"
    longest = STREAM_SECONDS if streamed else BUFFERED_SECONDS
    api_seconds = stack.api_timeout_seconds or min(DEFAULT_SECONDS, longest)
    for service in stack.services.values():
        seconds = generation_seconds(service)
        if not streamed and seconds > api_seconds:
            tokens = api_seconds * SLOW_TOKENS_PER_SECOND
            yield Finding(
                BUFFERED.code,
                BUFFERED.severity,
                "apiGateway.responseTransferMode",
                f"BUFFERED cuts answers of {service.name} at {api_seconds} s, which is {tokens} tokens at"
                f" {SLOW_TOKENS_PER_SECOND} tokens/s, and it may answer {_most_tokens(service)};"
                " nearest valid value: STREAM",
                ("STREAM",),
            )
            continue
        if seconds > service.timeout_seconds:
            yield _too_short(service, seconds)
        yield from _gives_up(service, api_seconds, longest)
    for service in stack.embeddings.values():
        yield from _gives_up(service, api_seconds, longest)


def _gives_up(service: Service | Embedding, api_seconds: int, longest: int) -> Iterator[Finding]:
    if service.timeout_seconds > api_seconds:
        nearest = f"{min(service.timeout_seconds, longest)}"
        yield Finding(
            API.code,
            API.severity,
            "apiGateway.timeoutSeconds",
            f"{api_seconds} s is less than the {service.timeout_seconds} s of {service.model_setting}"
            f".timeoutSeconds; nearest valid value: {nearest}",
            (nearest,),
        )


def _too_short(service: Service, seconds: int) -> Finding:
    fits = service.timeout_seconds * SLOW_TOKENS_PER_SECOND + 1
    if seconds <= STREAM_SECONDS:
        nearest = f"nearest valid value: {seconds}"
    else:
        nearest = f"the longest that an API can wait is {STREAM_SECONDS} s; nearest valid maxTotalTokens: {fits}"
    return Finding(
        GENERATION.code,
        GENERATION.severity,
        f"{service.model_setting}.timeoutSeconds",
        f"{service.timeout_seconds} s ends an answer of maxTotalTokens {service.max_total_tokens}, which takes"
        f" {seconds} s at {SLOW_TOKENS_PER_SECOND} tokens/s; {nearest}",
        (str(min(seconds, STREAM_SECONDS)),),
    )


def _most_tokens(service: Service) -> int:
    """The longest answer: that to a prompt of one token."""
    return service.max_total_tokens - 1


def generation_seconds(service: Service) -> int:
    """Return how long the longest answer takes at the assumed rate, in whole seconds."""
    return math.ceil(_most_tokens(service) / SLOW_TOKENS_PER_SECOND)
