"""The two indexes of the semantic cache, over real servers: both find the same, and keep no more than they may."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from llm_gateway.config import CacheConfig, SemanticConfig
from llm_gateway.semantic_index import SearchIndex, SemanticIndex, StreamIndex, choose
from llm_gateway.vector_index import Entry, Match, Vector
from redis.asyncio import Redis

from tests.gateway_harness import RedisServer, SearchServer, have_redis, have_search, redis_server

pytestmark = pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")
searching = pytest.mark.skipif(not have_search(), reason="no Valkey with a search module for this machine")

DIMENSIONS = 384
EITHER = [RedisServer, pytest.param(SearchServer, marks=searching)]


@pytest.fixture(params=EITHER)
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(tmp_path, request.param) as running:
        yield running


def settings(**semantic: Any) -> tuple[CacheConfig, SemanticConfig]:
    return CacheConfig(ttl_seconds=60), SemanticConfig(embedder_url="http://embedder", **semantic)


@asynccontextmanager
async def connected(server: RedisServer) -> AsyncGenerator[Redis]:
    client = Redis(unix_socket_path=str(server.socket), protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


def unit(generator: np.random.Generator, near: Vector | None = None) -> Vector:
    vector = generator.standard_normal(DIMENSIONS).astype(np.float32)
    if near is not None:
        vector = near + vector * np.float32(generator.uniform(0, 0.05))
    return vector / np.float32(np.linalg.norm(vector))


def entry(key: str, vector: Vector, partition: str = "ab12") -> Entry:
    return Entry(key, partition, f"What is {key}?", vector)


async def found(index: SemanticIndex, client: Redis, vector: Vector, threshold: float = 0.5) -> list[Match]:
    await index.follow(client)
    return await index.search(client, "ab12", vector, threshold)


async def test_the_index_is_the_one_that_the_server_can_do(server: RedisServer) -> None:
    async with connected(server) as client:
        index = await choose(client, *settings())
    assert isinstance(index, SearchIndex if isinstance(server, SearchServer) else StreamIndex)


async def test_entries_are_found_by_another_pod_of_the_same_model_alone(server: RedisServer) -> None:
    vector = unit(np.random.default_rng(1))
    async with connected(server) as client:
        mine, other = [await choose(client, *settings()) for _ in range(2)]
        another_model = await choose(client, *settings(embedder_model="another"))
        same_model = await choose(client, *settings(embedder_model="service", vector_model="all-MiniLM-L6-v2"))
        await mine.add(client, entry("k", vector))
        (match,) = await found(other, client, vector)
        assert (match.key, match.text, match.similarity) == ("k", "What is k?", pytest.approx(1, abs=1e-5))
        assert await found(another_model, client, vector) == []
        assert [each.key for each in await found(same_model, client, vector)] == ["k"]
        assert await other.search(client, "cd34", vector, 0.5) == []
        assert await other.follow(client) == 1


async def test_an_entry_is_stored_once(server: RedisServer) -> None:
    generator = np.random.default_rng(2)
    first, second = unit(generator), unit(generator)
    async with connected(server) as client:
        index = await choose(client, *settings())
        await index.add(client, entry("k", first))
        await index.add(client, entry("k", second))
        assert [match.key for match in await found(index, client, second)] == ["k"]
        assert await found(index, client, first, 0.9) == []
        assert await index.follow(client) == 1


async def test_the_oldest_go_first(server: RedisServer) -> None:
    vector = unit(np.random.default_rng(3))
    async with connected(server) as client:
        index = await choose(client, *settings(max_partition_entries=3, max_entries=5))
        for number in range(4):
            await index.add(client, entry(f"a{number}", vector))
        assert sorted(match.key for match in await found(index, client, vector)) == ["a1", "a2", "a3"]
        for number in range(3):
            await index.add(client, entry(f"b{number}", vector, "cd34"))
        assert await index.follow(client) == 5
        assert sorted(match.key for match in await found(index, client, vector)) == ["a2", "a3"]


async def test_entries_end_with_their_answers(server: RedisServer) -> None:
    vector = unit(np.random.default_rng(4))
    cache, semantic = CacheConfig(ttl_seconds=1), settings()[1]
    async with connected(server) as client:
        index = await choose(client, cache, semantic)
        await index.add(client, entry("k", vector))
        assert len(await found(index, client, vector)) == 1
        await asyncio.sleep(1.2)
        assert await found(index, client, vector) == []
        assert await cast("Any", client).dbsize() == 0  # nothing is left behind


async def test_an_index_begins_where_the_stream_does(server: RedisServer) -> None:
    generator = np.random.default_rng(5)
    vectors = [unit(generator) for _ in range(450)]  # more than are read at once
    async with connected(server) as client:
        first = await choose(client, *settings())
        for number, vector in enumerate(vectors):
            await first.add(client, entry(f"k{number}", vector))
        later = await choose(client, *settings())
        assert await later.follow(client) == 450
        assert (await found(later, client, vectors[0]))[0].key == "k0"


async def test_what_is_not_an_entry_is_passed_over(tmp_path: Path) -> None:
    vector = unit(np.random.default_rng(6))
    cache, semantic = settings()
    with redis_server(tmp_path) as server:
        async with connected(server) as client:
            index = StreamIndex(cache, semantic)
            await index.add(client, entry("k", vector))
            (stream,) = await cast("Any", client).keys()
            await client.xadd(stream, {"vector": b"123"})
            await client.xadd(stream, {"other": b"1"})
            assert await index.follow(client) == 1


@searching
async def test_both_find_the_same(tmp_path: Path) -> None:
    """Generated vectors in clusters, as questions are; thresholds that no similarity is closer to than rounding."""
    generator = np.random.default_rng(7)
    centers = [unit(generator) for _ in range(12)]
    entries = [
        entry(f"k{number}", unit(generator, centers[number % 12]), ("ab12", "cd34")[number % 2])
        for number in range(240)
    ]
    compared = 0
    with redis_server(tmp_path, SearchServer) as server:
        async with connected(server) as client:
            indexes = [SearchIndex(*settings()), StreamIndex(*settings())]
            for index in indexes:
                for each in entries:
                    await index.add(client, each)
                await index.follow(client)
            for center in centers:
                for threshold in (0.2, 0.6, 0.8):
                    sought = unit(generator, center)
                    one, other = [await index.search(client, "ab12", sought, threshold) for index in indexes]
                    assert [match.key for match in one] == [match.key for match in other]
                    assert [match.text for match in one] == [match.text for match in other]
                    assert np.allclose([m.similarity for m in one], [m.similarity for m in other], atol=1e-5)
                    compared += len(one)
    assert compared > 50
