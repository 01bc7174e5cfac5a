"""Requests that wait while the backend computes are computed together next: batches grow with the load, by themselves.

One thread computes. Nothing waits for a batch to fill: an idle backend starts on a lone input at once. Requests take
turns input by input, so a short one behind a long one waits for one batch and not for the whole of the long one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from http_service.errors import ApiError

from embedder.backend import Backend
from embedder.metrics import Metrics
from embedder.model import Vectors

_log = logging.getLogger("embedder")
_UNHEALTHY_FAILURES = 3
"""Batches that fail one after another until the process counts as broken: a CUDA error stays until a restart."""
_LONGEST_RETRY_SECONDS = 60
_SMOOTHING = 0.2
"""Weight of the last batch in the measured speed."""


@dataclass(slots=True, eq=False)
class _Job:
    """One request's inputs. Those from `taken` on still wait; `missing` are not computed yet."""

    inputs: Sequence[Sequence[int]]
    vectors: Vectors
    done: asyncio.Future[None]
    taken: int = 0
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.inputs)


_Item = tuple[_Job, int]
"""A request and the number of an input of it."""


class Batcher:
    """The queue before a backend. `run` must be running for anything to be computed."""

    def __init__(self, backend: Backend, metrics: Metrics, max_queued_tokens: int, max_batch_tokens: int) -> None:
        self._backend = backend
        self._metrics = metrics
        self._max_queued = max_queued_tokens
        self._max_batch = max_batch_tokens
        self._jobs: deque[_Job] = deque()
        self._queued = 0
        self._tokens_per_second = 0.0
        self._failures = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "backend")

    @property
    def healthy(self) -> bool:
        """Whether the backend computes: false once several batches in a row have failed."""
        return self._failures < _UNHEALTHY_FAILURES

    async def embed(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """The vectors of `inputs`; raises ApiError 503 where too much waits already, 500 where the backend fails."""
        tokens = sum(map(len, inputs))
        if self._queued and self._queued + tokens > self._max_queued:
            self._metrics.rejected.inc()
            headers = {"Retry-After": str(self._retry_after())}
            raise ApiError(
                503, "The embedder is busy; try again later.", kind="server_error", code="overloaded", headers=headers
            )
        vectors = np.empty((len(inputs), self._backend.dimensions), np.float32)
        job = _Job(inputs, vectors, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._count(tokens)
        self._wake.set()
        try:
            await job.done
        except asyncio.CancelledError:
            self._forget(job)
            raise
        return vectors

    async def run(self) -> None:
        """Computes for ever."""
        while True:
            await self._wake.wait()
            if batch := self._next_batch():
                await self._compute(batch)
            else:
                self._wake.clear()

    def warm_up(self, inputs: Sequence[Sequence[int]]) -> None:
        """Computes something before there are requests: the first pass loads kernels and takes memory."""
        self._thread.submit(self._backend.embed, inputs).result()

    def close(self) -> None:
        """Ends the thread once it has computed what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next_batch(self) -> list[_Item]:
        """Takes inputs from the waiting requests in turn until there are enough tokens."""
        batch: list[_Item] = []
        tokens = 0
        while self._jobs:
            job = self._jobs[0]
            size = len(job.inputs[job.taken])
            if batch and tokens + size > self._max_batch:
                break
            batch.append((job, job.taken))
            tokens += size
            job.taken += 1
            self._jobs.rotate(-1)
            if job.taken == len(job.inputs):
                self._jobs.pop()
        return batch

    async def _compute(self, batch: list[_Item]) -> None:
        inputs = [job.inputs[index] for job, index in batch]
        tokens = sum(map(len, inputs))
        begun = time.monotonic()
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(self._thread, self._backend.embed, inputs)
        except Exception as error:  # noqa: BLE001 - whatever the backend's libraries raise ends these requests only
            self._failures += 1
            self._metrics.batch_errors.inc()
            # A backend knows numbers only, so its error quotes no text.
            fields = {"inputs": len(inputs), "tokens": tokens, "error": str(error)}
            _log.exception("batch failed", extra={"fields": fields})
            self._fail({job for job, _ in batch})
        else:
            self._failures = 0
            self._observe(len(inputs), tokens, time.monotonic() - begun)
            self._deliver(batch, vectors)
        finally:
            self._count(-tokens)

    def _deliver(self, batch: list[_Item], vectors: Vectors) -> None:
        for (job, index), vector in zip(batch, vectors, strict=True):
            job.vectors[index] = vector
            job.missing -= 1
            if not job.missing and not job.done.done():
                job.done.set_result(None)

    def _fail(self, jobs: set[_Job]) -> None:
        for job in jobs:
            self._forget(job)
            if not job.done.done():
                job.done.set_exception(
                    ApiError(500, "The embedder failed to compute.", kind="server_error", code="backend_failed")
                )

    def _forget(self, job: _Job) -> None:
        """Takes what still waits of a request out of the queue."""
        if job in self._jobs:
            self._jobs.remove(job)
            self._count(-sum(map(len, job.inputs[job.taken :])))

    def _count(self, tokens: int) -> None:
        self._queued += tokens
        self._metrics.queued_tokens.set(self._queued)

    def _observe(self, inputs: int, tokens: int, seconds: float) -> None:
        self._metrics.batch_inputs.observe(inputs)
        self._metrics.batch_seconds.observe(seconds)
        speed = tokens / max(seconds, 1e-6)
        known = self._tokens_per_second
        self._tokens_per_second = known + _SMOOTHING * (speed - known) if known else speed

    def _retry_after(self) -> int:
        """Seconds until what waits now should be done."""
        if not self._tokens_per_second:
            return 1
        return max(1, min(_LONGEST_RETRY_SECONDS, round(self._queued / self._tokens_per_second)))
