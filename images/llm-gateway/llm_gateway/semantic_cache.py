"""The semantic tier of the response cache: the answer to another question that means the same.

It comes after the exact tier, and only for models whose route asks for it. Every fault fails open: a lookup has one
short deadline, and after three failures in a row none is tried for a while, so that no request waits for what is down.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from llm_gateway import semantic_guard
from llm_gateway.cache import CacheStore, CacheUnavailableError
from llm_gateway.config import CacheConfig, SemanticConfig, SemanticRoute
from llm_gateway.embedding import EmbeddingError, NotEmbeddedError, embedder
from llm_gateway.metrics import Metrics
from llm_gateway.semantic_index import SemanticIndex, choose
from llm_gateway.semantic_question import Question
from llm_gateway.vector_index import Entry, Match, Vector

_log = logging.getLogger("llm_gateway")

_FAULTS = (RedisError, OSError, TimeoutError, ClientError, EmbeddingError, CacheUnavailableError, ValueError)
_FAILURES_BEFORE_OPEN = 3
_FOLLOW_SECONDS = 0.25
_WRITE_SECONDS = 1.0
_MAX_PENDING_WRITES = 64


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a lookup found, and what it takes to store the answer that is given instead."""

    question: Question
    vector: Vector
    answer: bytes | None = None
    """The answer to the question that means the same; None where there is none, and in shadow mode."""
    similarity: float | None = None
    """Of that question, in shadow mode too."""


class SemanticCache:
    """The semantic tier over one exact cache. `run` must be running for it to find anything."""

    def __init__(self, config: CacheConfig, semantic: SemanticConfig, store: CacheStore, metrics: Metrics) -> None:
        self._cache_config = config
        self._config = semantic
        self._store = store
        self._metrics = metrics
        self._embedder = embedder(semantic)
        self._index: SemanticIndex | None = None
        self._client: Redis | None = None
        self._failures = 0
        self._closed_until = 0.0
        self._writes: set[asyncio.Task[None]] = set()
        metrics.semantic_errors.labels("embed", TimeoutError.__name__)

    @property
    def max_question_chars(self) -> int:
        """Longest question that is looked up."""
        return self._config.max_question_chars

    async def look(
        self, model: str, question: Question, route: SemanticRoute, usable: Callable[[bytes], bytes | None]
    ) -> Lookup | None:
        """Looks for the answer to a question that means the same; None where that can't be told now.

        :param usable: What a stored answer amounts to for this request; None where it does not do.
        """
        began = time.monotonic()
        client, index = self._store.client, self._index
        if client is None or index is None or client is not self._client or began < self._closed_until:
            self._count(model, "unavailable")
            return None
        operation = "embed"
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                vector = await self._embedder.embed(question.text)
                operation = "search"
                matches = await index.search(client, question.partition, vector, route.threshold)
                match, guarded = _allowed(question.text, matches)
                stored = None if match is None else await self._store.get(match.key)
        except NotEmbeddedError as error:
            self._count(model, error.result)
            return None
        except _FAULTS as error:
            self._failed(operation, error)
            self._count(model, "unavailable")
            return None
        self._failures = 0
        self._metrics.semantic_lookup.observe(time.monotonic() - began)
        answer = None if stored is None else usable(stored)
        if match is None or answer is None:
            self._count(model, guarded or "miss")
            return Lookup(question, vector)
        if route.mode == "shadow":
            self._count(model, "shadow_hit")
            return Lookup(question, vector, None, match.similarity)
        self._count(model, "hit")
        return Lookup(question, vector, answer, match.similarity)

    def put(self, lookup: Lookup, key: str) -> None:
        """Stores, in the background, that the answer to this question is under `key`."""
        client, index = self._client, self._index
        if client is None or index is None or len(self._writes) >= _MAX_PENDING_WRITES:
            return
        entry = Entry(key, lookup.question.partition, lookup.question.text, lookup.vector)
        task = asyncio.get_running_loop().create_task(self._put(client, index, entry))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def run(self) -> None:
        """Keeps the index for ever: chooses it at each new connection, and follows what other pods store."""
        while True:
            client = self._store.client
            if client is not None:
                try:
                    await self._follow(client)
                except _FAULTS as error:
                    self._metrics.semantic_errors.labels("follow", _kind(error)).inc()
                    await asyncio.sleep(self._cache_config.retry_seconds)
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def settle(self) -> None:
        """Waits for the writes that are under way."""
        if self._writes:
            await asyncio.wait(set(self._writes))

    async def close(self) -> None:
        """Finishes writes and closes the embedder."""
        await self.settle()
        await self._embedder.close()

    async def _follow(self, client: Redis) -> None:
        if client is not self._client or self._index is None:
            await self._embedder.open()
            # What a server had before it was lost may not be there now: the index begins anew.
            index = await choose(client, self._cache_config, self._config)
            self._metrics.semantic_entries.set(await index.follow(client))
            self._client, self._index = client, index
            _log.info("semantic cache in use", extra={"fields": {"index": type(index).__name__}})
        else:
            self._metrics.semantic_entries.set(await self._index.follow(client))

    async def _put(self, client: Redis, index: SemanticIndex, entry: Entry) -> None:
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await index.add(client, entry)
        except _FAULTS as error:
            self._metrics.semantic_errors.labels("store", _kind(error)).inc()

    def _failed(self, operation: str, error: Exception) -> None:
        self._metrics.semantic_errors.labels(operation, _kind(error)).inc()
        self._failures += 1
        if self._failures >= _FAILURES_BEFORE_OPEN:
            # The next one after that time is a probe: one more failure closes it again.
            self._closed_until = time.monotonic() + self._config.retry_seconds
            if self._failures == _FAILURES_BEFORE_OPEN:
                fields = {"operation": operation, "kind": _kind(error)}
                _log.error("semantic cache not in use", extra={"fields": fields})

    def _count(self, model: str, result: str) -> None:
        self._metrics.semantic_results.labels(model, result).inc()


def _allowed(text: str, matches: list[Match]) -> tuple[Match | None, str]:
    """The best match that the guard lets pass; where it refuses them all, that it did."""
    for match in matches:
        if not semantic_guard.refusal(text, match.text):
            return match, ""
    return None, "guarded" if matches else ""


def _kind(error: Exception) -> str:
    return error.kind if isinstance(error, EmbeddingError) else type(error).__name__
