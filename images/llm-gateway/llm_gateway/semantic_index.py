"""Where the semantic cache keeps its questions: in the server's vector search where it has one, in this process else.

Both are fed through Redis, so every pod of the gateway finds what any of them has stored. The answers are not here:
an entry has the key that the exact cache keeps its answer under, and ends with it.
"""

import hashlib
import time
from contextlib import suppress
from typing import Any, Protocol, cast

import numpy as np
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from llm_gateway.config import CacheConfig, SemanticConfig
from llm_gateway.vector_index import CANDIDATES, Entry, Match, Vector, VectorIndex

_PREFIX = "llm-gateway:semantic:1"
_STORED = np.dtype("<f4")
_STREAM_BATCH = 200
"""Entries read at once: 400 kB, which keep the event loop for about a millisecond."""


class SemanticIndex(Protocol):
    """What both have in common. Each call may raise what the Redis client raises."""

    async def add(self, client: Redis, entry: Entry) -> None:
        """Stores an entry for every pod."""
        ...

    async def search(self, client: Redis, partition: str, vector: Vector, threshold: float) -> list[Match]:
        """The entries of a partition that are at least as alike as `threshold`, the most alike first; a few at most."""
        ...

    async def follow(self, client: Redis) -> int:
        """Takes in what others have stored; returns the number of entries that can be found."""
        ...


async def choose(client: Redis, cache: CacheConfig, semantic: SemanticConfig) -> SemanticIndex:
    """The index that the server can do. It is asked what it can: its version does not tell."""
    try:
        await cast("Any", client).execute_command("FT._LIST")
    except ResponseError:
        return StreamIndex(cache, semantic)
    return SearchIndex(cache, semantic)


def _name(semantic: SemanticConfig) -> str:
    """What entries of this embedding model are stored under: vectors of two models can't be compared."""
    return f"{_PREFIX}:{hashlib.sha256(semantic.vectors_of.encode()).hexdigest()[:12]}"


class StreamIndex:
    """An index in this process, fed from a stream in Redis that all pods append to and read from its beginning."""

    def __init__(self, cache: CacheConfig, semantic: SemanticConfig) -> None:
        self._ttl = cache.ttl_seconds
        self._max_entries = semantic.max_entries
        self._stream = _name(semantic)
        self._index = VectorIndex(semantic.max_entries, semantic.max_partition_entries)
        self._last = "0"

    async def add(self, client: Redis, entry: Entry) -> None:
        """Appends the entry. It is found once the stream has been read, here as in any other pod."""
        fields: dict[Any, Any] = {
            "partition": entry.partition,
            "key": entry.key,
            "text": entry.text,
            "vector": entry.vector.astype(_STORED).tobytes(),
        }
        async with client.pipeline(transaction=False) as pipe:
            pipe.xadd(self._stream, fields, maxlen=self._max_entries, approximate=True)
            # No entry outlives its answer; the stream goes where nothing is added to it any more.
            pipe.xtrim(self._stream, minid=str(int((time.time() - self._ttl) * 1000)), approximate=True)
            pipe.expire(self._stream, self._ttl)
            await pipe.execute()

    async def search(self, client: Redis, partition: str, vector: Vector, threshold: float) -> list[Match]:
        """Searches what has been read; asks nobody."""
        del client
        return self._index.search(partition, vector, threshold)

    async def follow(self, client: Redis) -> int:
        """Reads what was appended."""
        while True:
            read: Any = await cast("Any", client).xread({self._stream: self._last}, count=_STREAM_BATCH)
            items = cast("list[tuple[bytes, dict[bytes, bytes]]]", read[0][1]) if read else []
            for identifier, fields in items:
                self._last = identifier.decode()
                self._take(int(self._last.partition("-")[0]) / 1000, fields)
            if len(items) < _STREAM_BATCH:
                self._index.expire(time.time())
                return len(self._index)

    def _take(self, stored: float, fields: dict[bytes, bytes]) -> None:
        with suppress(KeyError, ValueError):  # what another release has written is passed over
            vector = np.frombuffer(fields[b"vector"], _STORED).astype(np.float32)
            key, partition, text = (fields[name].decode() for name in (b"key", b"partition", b"text"))
            self._index.add(Entry(key, partition, text, vector), stored + self._ttl)


class SearchIndex:
    """The server's own index: Valkey 8.2 or newer with its search module, or Redis's. Fields are vector and tag only.

    The index is flat, not HNSW: a search compares within one partition, which is small, and so is exact.
    """

    def __init__(self, cache: CacheConfig, semantic: SemanticConfig) -> None:
        self._ttl = cache.ttl_seconds
        self._max_entries = semantic.max_entries
        self._max_partition = semantic.max_partition_entries
        self._base = _name(semantic)
        self._created: set[int] = set()

    async def add(self, client: Redis, entry: Entry) -> None:
        """Stores the entry, and drops the oldest where there are too many."""
        dimensions = len(entry.vector)
        await self._ensure(client, dimensions)
        place = self._hash(dimensions, entry.key)
        fields: dict[Any, Any] = {
            "partition": entry.partition,
            "key": entry.key,
            "text": entry.text,
            "vector": entry.vector.astype(_STORED).tobytes(),
        }
        now = time.time()
        everything, partition = f"{self._base}:all", f"{self._base}:partition:{entry.partition}"
        async with client.pipeline(transaction=False) as pipe:
            pipe.hset(place, mapping=fields)
            pipe.expire(place, self._ttl)
            for listed in (everything, partition):
                pipe.zadd(listed, {place: now})
                pipe.zremrangebyscore(listed, "-inf", now - self._ttl)
                pipe.expire(listed, self._ttl)
                pipe.zcard(listed)
            *_, all_count, _, _, _, partition_count = await pipe.execute()
        await self._trim(client, everything, all_count - self._max_entries)
        await self._trim(client, partition, partition_count - self._max_partition)

    async def search(self, client: Redis, partition: str, vector: Vector, threshold: float) -> list[Match]:
        """Asks the server."""
        await self._ensure(client, len(vector))
        reply: Any = await cast("Any", client).execute_command(
            "FT.SEARCH", self._index(len(vector)), f"@partition:{{{partition}}}=>[KNN {CANDIDATES} @vector $v AS d]",
            "PARAMS", "2", "v", vector.astype(_STORED).tobytes(),
            "RETURN", "3", "key", "text", "d",
            "LIMIT", "0", str(CANDIDATES),
            "DIALECT", "2",
        )  # fmt: skip
        # The number of results, then for each its name and its fields, a name and a value in turn.
        hits = (dict(zip(fields[::2], fields[1::2], strict=True)) for fields in reply[2::2])
        found = [
            Match(hit[b"key"].decode(), hit[b"text"].decode(), 1 - float(hit[b"d"]))
            for hit in hits
            if {b"key", b"text", b"d"} <= hit.keys()  # one that expires meanwhile has lost its fields
        ]
        alike = (match for match in found if match.similarity >= threshold)
        return sorted(alike, key=lambda match: -match.similarity)

    async def follow(self, client: Redis) -> int:
        """Counts the entries; the server has them all."""
        return int(await cast("Any", client).zcard(f"{self._base}:all"))

    async def _ensure(self, client: Redis, dimensions: int) -> None:
        """Creates the index for vectors of this length where it is not there."""
        if dimensions in self._created:
            return
        try:
            await cast("Any", client).execute_command(
                "FT.CREATE", self._index(dimensions), "ON", "HASH", "PREFIX", "1", self._hash(dimensions, ""),
                "SCHEMA", "partition", "TAG",
                "vector", "VECTOR", "FLAT", "6",
                "TYPE", "FLOAT32", "DIM", str(dimensions), "DISTANCE_METRIC", "COSINE",
            )  # fmt: skip
        except ResponseError as error:
            if "already exists" not in str(error).lower():
                raise
        self._created.add(dimensions)

    async def _trim(self, client: Redis, listed: str, excess: int) -> None:
        if excess > 0:
            popped: list[tuple[bytes, float]] = await cast("Any", client).zpopmin(listed, excess)
            await cast("Any", client).delete(*(place for place, _ in popped))

    def _index(self, dimensions: int) -> str:
        return f"{self._base}:{dimensions}"

    def _hash(self, dimensions: int, key: str) -> str:
        return f"{self._base}:entry:{dimensions}:{key}"
