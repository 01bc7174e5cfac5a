"""Runs requests on the engine for the front ends that are like vLLM: queue, KV cache use, tokens and their times.

TGI's router counts and times other things in another order, and has its own.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from local_runtime.engine import Engine, FinishReason, Sampling, Step
from local_runtime.scheduler import Load, Scheduler

T = TypeVar("T")
Reason = Literal["stop", "length", "abort"]
DEFAULT_SLOTS = 4
"""Requests generated at once on a machine of few cores where no limit is given; the real ones go by the GPU."""
MAX_SLOTS = 64
"""Requests generated at once at most, whatever the limit: beyond that they wait."""
DEFAULT_CONTEXT_TOKENS = 4096
"""KV cache that is made at least; the real ones take what is left of the GPU."""
_REASONS: dict[FinishReason, Reason] = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}


@dataclass(frozen=True)
class End:
    """What is known when a request is done. Times are in seconds on the monotonic clock."""

    reason: Reason
    stop: str | None
    """The stop sequence that ended it."""
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    arrived: float
    scheduled: float
    first_token: float
    last_token: float


@dataclass(frozen=True)
class Piece:
    """What one step added to an answer; the last one has an end."""

    text: str
    end: End | None = None


class Observer(Protocol):
    """What is told of the requests, as it happens."""

    def load(self, load: Load) -> None:
        """The queue or the batch changed."""
        ...

    def kv_cache(self, used: float) -> None:
        """The share of the KV cache that running requests use changed."""
        ...

    def first_token(self, prompt_tokens: int, seconds: float) -> None:
        """A prompt has been read, so many seconds after its request came."""
        ...

    def next_token(self, seconds: float) -> None:
        """Another token was generated, so many seconds after the one before."""
        ...

    def done(self, end: End) -> None:
        """A request that was answered to its end, or aborted."""
        ...


class _AbortedError(Exception):
    """All requests are to end now."""


@dataclass
class _Progress:
    """How far a request is."""

    prompt_tokens: int
    arrived: float
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    tokens: int = 0
    """Steps that gave a token, so far."""

    def end(self, reason: Reason, step: Step | None = None) -> End:
        now = time.monotonic()
        scheduled = now if self.scheduled is None else self.scheduled
        first = now if self.first_token is None else self.first_token
        return End(
            reason,
            step.stop or None if step else None,
            self.prompt_tokens,
            step.cached_tokens if step else 0,
            step.generated_tokens if step else self.tokens,
            self.arrived,
            scheduled,
            first,
            first if self.last_token is None else self.last_token,
        )


class Generation:
    """Runs requests within the engine's slots and KV cache. To be made in the event loop."""

    def __init__(self, engine: Engine, *, slots: int, kv_tokens: int, observer: Observer) -> None:
        self.engine = engine
        self.prefilling_tokens = 0
        """Prompt tokens of the requests that have no first token yet."""
        self.unfinished = 0
        """Requests that wait or run."""
        self._observer = observer
        self._scheduler = Scheduler(slots, kv_tokens, on_change=observer.load)
        self._kv_tokens = kv_tokens
        self._kv_used = 0
        self._refusing = False
        self._aborted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle = asyncio.Event()
        self._idle.set()

    def refuse(self) -> None:
        """From now on ends every new request at once, aborted; what runs or waits goes on."""
        self._refusing = True

    def abort(self) -> None:
        """Ends every request, aborted, with the text that it has."""
        self.refuse()
        if not self._aborted.done():
            self._aborted.set_result(None)

    async def drain(self, timeout_seconds: float) -> None:
        """Waits until no request is left, for so long at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)

    async def run(self, prompt: str, prompt_tokens: int, sampling: Sampling, arrived: float) -> AsyncGenerator[Piece]:
        """The answer piece by piece; closing the generator frees its place in the batch. Raises GenerationError.

        `arrived` is when its request did, on the monotonic clock.
        """
        progress = _Progress(prompt_tokens, arrived)
        self.unfinished += 1
        self.prefilling_tokens += prompt_tokens
        self._idle.clear()
        try:
            async with aclosing(self._admitted(prompt, sampling, progress)) as pieces:
                async for piece in pieces:
                    yield piece
        except _AbortedError:
            end = progress.end("abort")
            self._observer.done(end)
            yield Piece("", end)
        finally:
            if progress.first_token is None:
                self.prefilling_tokens -= prompt_tokens
            self.unfinished -= 1
            if not self.unfinished:
                self._idle.set()

    async def _admitted(self, prompt: str, sampling: Sampling, progress: _Progress) -> AsyncGenerator[Piece]:
        if self._refusing:
            raise _AbortedError
        turn = self._scheduler.admitted(progress.prompt_tokens + sampling.limit)
        await self._unless_aborted(turn.__aenter__())
        progress.scheduled = time.monotonic()
        try:
            self._use(progress.prompt_tokens)
            async with aclosing(self.engine.generate(prompt, sampling)) as steps:
                while (step := await self._unless_aborted(anext(steps, None))) is not None:
                    self._count(progress)
                    text = "" if step.token.special else step.token.text
                    if step.finish_reason is None:
                        yield Piece(text)
                        continue
                    end = progress.end(_REASONS[step.finish_reason], step)
                    self._observer.done(end)
                    yield Piece(text, end)
        finally:
            self._use(-progress.prompt_tokens - progress.tokens)
            await turn.__aexit__(None, None, None)

    def _count(self, progress: _Progress) -> None:
        now = time.monotonic()
        progress.tokens += 1
        self._use(1)
        if progress.first_token is None or progress.last_token is None:
            progress.first_token = now
            self.prefilling_tokens -= progress.prompt_tokens
            self._observer.first_token(progress.prompt_tokens, now - progress.arrived)
        else:
            self._observer.next_token(now - progress.last_token)
        progress.last_token = now

    def _use(self, tokens: int) -> None:
        self._kv_used += tokens
        self._observer.kv_cache(self._kv_used / self._kv_tokens)

    async def _unless_aborted(self, awaited: Awaitable[T]) -> T:
        """The result of what is awaited. Raises _AbortedError where all requests are aborted before it comes."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait((task, self._aborted), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _AbortedError
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
