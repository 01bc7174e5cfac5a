"""Embeds in this process, with the embedder's own code and model, where no embedder is configured.

A thread of its own reads and computes, and both let the event loop run meanwhile. It computes one text after the other;
a text that finds too many before it is not embedded at all, since its lookup would be over before its turn came.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import BoundedSemaphore

from embedder.model import ModelError, Tokenizer, read_shape
from embedder.onnx_backend import OnnxBackend

from llm_gateway.config import SemanticConfig
from llm_gateway.embedding import EmbedderBusyError, EmbeddingError, TextRefusedError
from llm_gateway.vector_index import Vector

_log = logging.getLogger("llm_gateway")
MOST_TEXTS = 4
"""The one that is computed and those that wait. One of 254 tokens takes 40 to 70 ms on a core, and a lookup has 250."""


class _Model:
    """A tokenizer and the backend that computes its tokens. Several threads may use it."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._tokenizer = Tokenizer(folder, read_shape(folder).max_tokens)
        self._backend = OnnxBackend(folder, threads)

    def vector(self, text: str) -> Vector:
        """The vector of `text`; raises TextRefusedError where it is longer than the model reads."""
        (ids,) = self._tokenizer.encode([text])
        if len(ids) > self._tokenizer.max_tokens:
            raise TextRefusedError("too_long")
        return self._backend.embed([ids])[0]


@lru_cache(maxsize=1)
def _load(folder: Path, threads: int) -> _Model:
    """The model in `folder`, once in a process: a changed configuration must not take its memory twice."""
    return _Model(folder, threads)


class InProcessEmbedder:
    """The model in `model_dir`, on a thread of this process."""

    def __init__(self, config: SemanticConfig) -> None:
        self._config = config
        self._model: _Model | None = None
        self._thread = ThreadPoolExecutor(1, "embedder")
        self._free = BoundedSemaphore(MOST_TEXTS)

    async def open(self) -> None:
        """Loads the model; raises EmbeddingError where it can't be."""
        loop = asyncio.get_running_loop()
        try:
            self._model = await loop.run_in_executor(
                self._thread, _load, self._config.model_dir, self._config.embedder_threads
            )
        except (ModelError, ImportError) as error:
            _log.error("the embedding model can't be loaded: %s", error)
            raise EmbeddingError(type(error).__name__) from error

    async def embed(self, text: str) -> Vector:
        """The vector of `text`. Raises EmbeddingError; it waits until it is cancelled."""
        model = self._model
        if model is None or not self._free.acquire(blocking=False):
            raise EmbedderBusyError("busy")
        try:
            computed = self._thread.submit(model.vector, text)
            # A lookup that gives up takes its text back, unless that is being computed, which nothing can stop.
            computed.add_done_callback(lambda _: self._free.release())
            return await asyncio.wrap_future(computed)
        except EmbeddingError:
            raise
        except Exception as error:  # the libraries' errors have no common class
            raise EmbeddingError(type(error).__name__) from error

    async def close(self) -> None:
        """Ends the thread once it has computed what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)
