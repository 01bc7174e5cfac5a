"""What an embedder process holds: tokenizer, backend and queue, and whether it is on its way out."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from http_service.drain import Drainable
from http_service.errors import ApiError

from embedder.backend import Backend
from embedder.batching import Batcher
from embedder.config import Settings
from embedder.metrics import Metrics
from embedder.model import Tokenizer, Vectors
from embedder.request import Input

_TOKENIZER_THREADS = 2
"""One long request's texts must not keep a short one's from being read."""


class Embedder(Drainable):
    """One embedder. It must be made and used inside a running event loop."""

    def __init__(self, settings: Settings, tokenizer: Tokenizer, backend: Backend) -> None:
        self.settings = settings
        self.dimensions = backend.dimensions
        self.metrics = Metrics()
        super().__init__(self.metrics.in_flight, self.metrics.draining)
        self.metrics.info.labels(settings.model_name, backend.name, backend.device).set(1)
        self.loaded_at = int(time.time())
        self._tokenizer = tokenizer
        self._reading = ThreadPoolExecutor(_TOKENIZER_THREADS, "tokenizer")
        self._batcher = Batcher(backend, self.metrics, settings.max_queued_tokens, settings.max_batch_tokens)
        self._running = asyncio.get_running_loop().create_task(self._batcher.run())

    @property
    def healthy(self) -> bool:
        """Whether the process is worth keeping: its backend computes."""
        return self._batcher.healthy and not self._running.done()

    async def embed(self, inputs: Sequence[Input]) -> tuple[Vectors, int]:
        """The vectors of `inputs` and the tokens that they were computed from; raises ApiError."""
        ids = await asyncio.get_running_loop().run_in_executor(self._reading, self._ids, inputs)
        tokens = sum(map(len, ids))
        try:
            async with asyncio.timeout(self.settings.request_timeout_seconds):
                vectors = await self._batcher.embed(ids)
        except TimeoutError:
            raise ApiError(
                503,
                "The embedder did not get to the request in time.",
                kind="server_error",
                code="timeout",
                headers={"Retry-After": "1"},
            ) from None
        self.metrics.inputs.inc(len(ids))
        self.metrics.tokens.inc(tokens)
        return vectors, tokens

    def warm_up(self) -> None:
        """Computes a short and a longest input, before there are requests."""
        (short,) = self._tokenizer.encode(["warm"])
        self._batcher.warm_up([short])
        self._batcher.warm_up([self._tokenizer.cut([*short[:-1]] + [short[0]] * self._tokenizer.max_tokens)])

    async def close(self) -> None:
        """Ends background work."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._batcher.close()
        self._reading.shutdown(wait=False, cancel_futures=True)

    def _ids(self, inputs: Sequence[Input]) -> list[list[int]]:
        """The token ids of `inputs`, none longer than the model reads; in a thread of its own, since it takes time."""
        texts = self._tokenizer.encode([each for each in inputs if isinstance(each, str)])
        read = iter(texts)
        return [self._limited(next(read) if isinstance(each, str) else self._known(each)) for each in inputs]

    def _known(self, ids: list[int]) -> list[int]:
        vocabulary = self._tokenizer.vocabulary
        wrong = next((each for each in ids if not 0 <= each < vocabulary), None)
        if wrong is not None:
            message = f"'input' holds the token id {wrong}, and the model's go from 0 to {vocabulary - 1}."
            raise ApiError(400, message, param="input")
        return self._tokenizer.framed(ids)

    def _limited(self, ids: list[int]) -> list[int]:
        most = self._tokenizer.max_tokens
        if len(ids) <= most:
            return ids
        if not self.settings.truncate:
            message = (
                f"This model's maximum context length is {most} tokens, and an input has {len(ids)}, the first and the"
                " last special token included. Please shorten it."
            )
            raise ApiError(400, message, code="context_length_exceeded", param="input")
        self.metrics.truncated.inc()
        return self._tokenizer.cut(ids)
