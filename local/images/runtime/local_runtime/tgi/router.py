"""What happens to a request between its route and the engine: limit, validation, queue, generation, metrics."""

import dataclasses
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from local_runtime.engine import Engine, FinishReason, Step, Token
from local_runtime.scheduler import Load, Scheduler
from local_runtime.tgi.arguments import Arguments
from local_runtime.tgi.errors import InferError, OverloadedError, TemplateError, in_router_words
from local_runtime.tgi.metrics import Metrics
from local_runtime.tgi.validation import Request, sampling, token_limit


@dataclass(frozen=True)
class Event:
    """One token of a request's answer; the last one has the rest."""

    index: int
    """From 1."""
    token: Token
    top_tokens: list[Token]
    end: "End | None" = None


@dataclass(frozen=True)
class End:
    """What is known when an answer is complete."""

    text: str
    finish_reason: FinishReason
    generated_tokens: int
    input_length: int
    seed: int
    seconds: dict[str, float]
    """Of the request by part: total, validation, queue, inference, time_per_token."""


@dataclass
class Answer:
    """A whole answer."""

    end: End
    tokens: list[Token] = field(default_factory=list[Token])
    top_tokens: list[list[Token]] = field(default_factory=list[list[Token]])


class Router:
    """Runs requests on an engine within the launch's limits."""

    def __init__(self, arguments: Arguments, engine: Engine) -> None:
        self.arguments = arguments
        self.engine = engine
        self.metrics = Metrics(arguments.max_input_tokens, arguments.max_total_tokens, arguments.max_batch_size)
        self.metrics.batch_max_total_tokens.set(arguments.max_batch_total_tokens)
        self._scheduler = Scheduler(
            arguments.max_batch_size,
            arguments.max_batch_total_tokens,
            on_change=self._record_load,
            on_admission=self.metrics.batch_next_size.observe,
        )
        self._concurrent = 0
        self._leaders: list[object] = []

    async def answer(self, request: Request) -> Answer:
        """The whole answer. Raises InferError."""
        tokens: list[Token] = []
        top_tokens: list[list[Token]] = []
        end: End | None = None
        async with aclosing(self.stream(request)) as events:
            async for event in events:
                tokens.append(event.token)
                if event.top_tokens:
                    top_tokens.append(event.top_tokens)
                end = event.end
        assert end is not None  # a stream ends with it, or raises
        return Answer(end, tokens, top_tokens)

    async def stream(self, request: Request) -> AsyncGenerator[Event]:
        """The answer token by token; closing the generator frees its place in the batch. Raises InferError."""
        self.metrics.request_count.add()
        try:
            with in_router_words():
                async with aclosing(self._limited(request)) as events:
                    async for event in events:
                        yield event
        except InferError as error:
            self.metrics.request_failure.add(err=error.failure)
            raise

    async def _limited(self, request: Request) -> AsyncGenerator[Event]:
        if self._concurrent >= self.arguments.max_concurrent_requests:
            raise OverloadedError
        self._concurrent += 1
        try:
            async with aclosing(self._run(request)) as events:
                async for event in events:
                    yield event
        finally:
            self._concurrent -= 1

    async def _run(self, request: Request) -> AsyncGenerator[Event]:
        begun = time.monotonic()
        asked = sampling(request, self.arguments)
        prompt, input_length = await self._truncated(request)
        limit = token_limit(input_length, request.get("max_new_tokens"), self.arguments)
        asked = dataclasses.replace(asked, limit=limit)
        self.metrics.request_input_length.observe(input_length)
        self.metrics.request_max_new_tokens.observe(limit)
        queued = time.monotonic()
        async with self._scheduler.admitted(input_length + limit):
            started = time.monotonic()
            text = ""
            index = 0
            async with aclosing(self._measured(self.engine.generate(prompt, asked))) as steps:
                async for step in steps:
                    index += 1
                    # The router's text has the stop sequence in it.
                    token = dataclasses.replace(step.token, text=step.token.text + step.stop)
                    if not token.special:
                        text += token.text
                    end = None
                    if step.finish_reason is not None:
                        seconds = _seconds(begun, queued, started, step.generated_tokens)
                        self._record(seconds, step.generated_tokens)
                        shown = request.inputs + text if request.get("return_full_text", False) else text
                        end = End(shown, step.finish_reason, step.generated_tokens, input_length, asked.seed, seconds)
                    yield Event(index, token, step.top_tokens, end)

    async def _truncated(self, request: Request) -> tuple[str, int]:
        """The prompt and its length in tokens; of one that is to be truncated, the end."""
        tokens = await self.engine.token_ids(request.inputs, add_special=request.add_special_tokens)
        truncate = request.get("truncate")
        if truncate is None or len(tokens) <= truncate:
            return request.inputs, len(tokens)
        return "".join(text for _, text in tokens[-truncate:]), truncate

    async def _measured(self, steps: AsyncGenerator[Step]) -> AsyncGenerator[Step]:
        """The steps, with the batch's own: a step of the batch gives each running request a token, so one is timed."""
        me = object()
        self._leaders.append(me)
        last: float | None = None
        metrics = self.metrics
        try:
            async with aclosing(steps):
                async for step in steps:
                    now = time.monotonic()
                    if last is None:
                        metrics.batch_inference_count.add(method="prefill")
                    elif self._leaders[0] is me:
                        metrics.batch_inference_count.add(method="decode")
                        metrics.batch_inference_success.add(method="decode")
                        metrics.batch_inference_duration.observe(now - last, method="decode")
                    last = now
                    if step.prefill_seconds is not None:
                        metrics.batch_inference_success.add(method="prefill")
                        metrics.batch_inference_duration.observe(step.prefill_seconds, method="prefill")
                    yield step
        finally:
            self._leaders.remove(me)

    def _record_load(self, load: Load) -> None:
        self.metrics.queue_size.set(load.waiting)
        self.metrics.batch_current_size.set(load.running)
        self.metrics.batch_current_max_tokens.set(load.reserved_tokens)

    def _record(self, seconds: dict[str, float], generated_tokens: int) -> None:
        metrics = self.metrics
        metrics.request_success.add()
        metrics.request_duration.observe(seconds["total"])
        metrics.request_validation_duration.observe(seconds["validation"])
        metrics.request_queue_duration.observe(seconds["queue"])
        metrics.request_inference_duration.observe(seconds["inference"])
        metrics.request_mean_time_per_token_duration.observe(seconds["time_per_token"])
        metrics.request_generated_tokens.observe(generated_tokens)

    async def tokens(self, text: str, *, add_special: bool) -> list[tuple[int, str]]:
        """The tokens of a text: their ids and their own text. Raises InferError."""
        with in_router_words():
            return await self.engine.token_ids(text, add_special=add_special)

    async def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt of a chat. Raises InferError."""
        try:
            with in_router_words():
                return await self.engine.prompt(messages)
        except TemplateError as error:
            self.metrics.request_failure.add(err=error.failure)
            raise


def _seconds(begun: float, queued: float, started: float, tokens: int) -> dict[str, float]:
    now = time.monotonic()
    return {
        "total": now - begun,
        "validation": queued - begun,
        "queue": started - queued,
        "inference": now - started,
        "time_per_token": (now - started) / max(1, tokens),
    }
