"""The semantic tier over a real Redis: whom it answers, whom never, and that nobody waits for what is broken."""

import asyncio
import base64
import re
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from aiohttp import web
from llm_gateway.config import GatewayConfig

from tests.gateway_harness import (
    CHAT,
    DONE,
    QUESTION,
    Client,
    FakeModel,
    RedisServer,
    SearchServer,
    chat_chunk,
    eventually,
    gateway_for,
    have_redis,
    have_search,
    redis_server,
    serving,
    settled,
    stream_of,
)

pytestmark = pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")

LOOKUPS = "llm_gateway_semantic_cache_lookups_total"


class FakeEmbedder(FakeModel):
    """An embedder of words: the more words two texts share, the more alike they are."""

    def __init__(self) -> None:
        super().__init__(self._embed)
        self.delay = 0.0
        self.status = 200

    async def _embed(self, _: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.delay)
        asked = orjson.loads(self.bodies[-1])
        assert (asked["model"], asked["encoding_format"]) == ("all-MiniLM-L6-v2", "base64")
        vector = np.zeros(64, np.float32)
        for word in re.findall(r"\w+", asked["input"].lower()):
            vector[zlib.crc32(word.encode()) % 64] += 1
        encoded = base64.b64encode(vector.tobytes()).decode()
        return web.json_response({"data": [{"index": 0, "embedding": encoded}]}, status=self.status)


def config(model: FakeModel, embedder: FakeModel, redis: RedisServer, mode: str = "answer", **semantic: Any) -> Any:
    return {
        "models": {"m": {"url": model.url, "semantic_cache": {"mode": mode, "threshold": 0.7}}},
        "cache": {
            "enabled": True,
            "url_file": str(redis.url_file),
            "retry_seconds": 0.02,
            "timeout_seconds": 1,
            "semantic": {"embedder_url": embedder.url, "timeout_seconds": 1, "retry_seconds": 0.3, **semantic},
        },
    }


@asynccontextmanager
async def running(
    redis: RedisServer, handler: Any = None, mode: str = "answer", **semantic: Any
) -> AsyncGenerator[tuple[Client, FakeModel, FakeEmbedder]]:
    """A gateway whose semantic cache is in use, its model, and its embedder."""
    async with serving(FakeModel(handler)) as model, serving(FakeEmbedder()) as embedder:
        assert isinstance(embedder, FakeEmbedder)
        async with gateway_for(config(model, embedder, redis, mode, **semantic)) as client:
            await in_use(client)
            yield client, model, embedder


async def in_use(client: Client) -> None:
    await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
    assert client.gateway.backend.semantic is not None
    await eventually(lambda: client.gateway.backend.semantic._index is not None)  # pyright: ignore


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {**QUESTION, "messages": [{"role": "user", "content": text}], **fields}


async def ask(client: Client, body: Any, **headers: str) -> tuple[str, dict[str, str], bytes]:
    """What the cache did, the headers, and the answer; what it stored can be found afterwards."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, answered, content = await client.post(CHAT, body, named)
    assert status == 200
    connection = await settled(client)
    backend = client.gateway.backend
    assert backend.semantic is not None
    await backend.semantic._follow(connection)  # pyright: ignore[reportPrivateUsage]
    return answered["x-cache"], answered, content


WHY = "Why is the sky blue?"
AGAIN = "So why is the sky blue?"
ANSWERED = {"role": "assistant", "content": "Scattering."}
NO_TEXT: dict[str, Any] = {"type": "image_url", "image_url": {}}


async def test_a_question_that_means_the_same_is_answered(redis: RedisServer) -> None:
    async with running(redis) as (client, model, _):
        first = await ask(client, asking(WHY))
        again = await ask(client, asking(AGAIN))
        other = await ask(client, asking("Where do whales sleep?"))
        counts = [client.metric(LOOKUPS, model="m", result=result) for result in ("hit", "miss")]
        tier = client.metric("llm_gateway_cache_requests_total", model="m", result="hit", reason="semantic")
        saved = client.metric("llm_gateway_cache_tokens_saved_total", model="m", kind="completion")
    assert [kind for kind, _, _ in (first, again, other)] == ["miss", "hit", "miss"]
    assert first[2] == again[2]
    assert "x-cache-similarity" not in first[1]
    assert 0.7 <= float(again[1]["x-cache-similarity"]) < 1
    assert (model.calls, counts, tier, saved) == (2, [1, 2], 1, 3)


@pytest.mark.skipif(not have_search(), reason="no Valkey with a search module for this machine")
async def test_the_servers_own_vector_search_answers_the_same(tmp_path: Path) -> None:
    with redis_server(tmp_path, SearchServer) as server:
        async with running(server) as (client, model, _):
            assert (await ask(client, asking(WHY)))[0] == "miss"
            assert (await ask(client, asking(AGAIN)))[0] == "hit"
            assert (await ask(client, asking(AGAIN), x_api_key="another"))[0] == "miss"
            assert (await ask(client, asking("Why is the sky not blue?")))[0] == "miss"
    assert model.calls == 3


@pytest.mark.parametrize(
    ("change", "headers"),
    [
        ({}, {"x_api_key": "another"}),
        ({}, {"authorization": "Bearer another"}),
        ({"max_tokens": 5}, {}),
        ({"seed": 1}, {}),
        ({"response_format": {"type": "json_object"}}, {}),
        ({"user": "someone"}, {}),
        ({"messages": [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": AGAIN}]}, {}),
        ({"messages": [*QUESTION["messages"], ANSWERED, {"role": "user", "content": AGAIN}]}, {}),
    ],
)
async def test_anything_else_must_be_the_same(
    redis: RedisServer, change: dict[str, Any], headers: dict[str, str]
) -> None:
    async with running(redis) as (client, model, _):
        await ask(client, asking(WHY))
        assert (await ask(client, {**asking(AGAIN), **change}, **headers))[0] == "miss"
        assert (await ask(client, asking(AGAIN)))[0] == "hit"
    assert model.calls == 2


async def test_another_revision_is_another_partition(redis: RedisServer) -> None:
    async with running(redis) as (client, model, embedder):
        await ask(client, asking(WHY))
        other = config(model, embedder, redis)
        other["models"]["m"]["revision"] = "2"
        client.gateway.configure(GatewayConfig.model_validate(other))
        assert (await ask(client, asking(AGAIN)))[0] == "miss"


@pytest.mark.parametrize(
    ("body", "known"),
    [
        (asking(WHY, temperature=0.5), "bypass"),
        (asking(WHY, n=2), "bypass"),
        (asking(WHY, tools=[{"type": "function"}]), "bypass"),
        (asking(WHY, logprobs=True), "bypass"),
        (asking("sky " * 300), "miss"),  # longer than the embedding model reads
        (asking(" "), "miss"),
        ({**QUESTION, "messages": [{"role": "assistant", "content": WHY}]}, "miss"),
        ({**QUESTION, "messages": [{"role": "user", "content": [NO_TEXT]}]}, "miss"),
    ],
)
async def test_what_may_not_be_compared_is_never_embedded(redis: RedisServer, body: Any, known: str) -> None:
    async with running(redis) as (client, _, embedder):
        assert (await ask(client, body))[0] == known
    assert embedder.calls == 0


async def test_a_fresh_answer_is_asked_of_the_model(redis: RedisServer) -> None:
    async with running(redis) as (client, model, embedder):
        await ask(client, asking(WHY))
        assert (await ask(client, asking(AGAIN), cache_control="no-cache"))[0] == "miss"
        assert (await ask(client, asking(AGAIN + "?"), cache_control="no-store"))[0] == "bypass"
    assert (model.calls, embedder.calls) == (3, 1)


async def test_the_guard_refuses_what_only_looks_alike(redis: RedisServer) -> None:
    async with running(redis) as (client, model, _):
        await ask(client, asking("What is 15 percent of 80?"))
        assert (await ask(client, asking("What is 15 percent of 90?")))[0] == "miss"
        guarded = client.metric(LOOKUPS, model="m", result="guarded")
    assert (model.calls, guarded) == (2, 1)


async def test_shadow_mode_counts_and_answers_nobody(redis: RedisServer) -> None:
    async with running(redis, mode="shadow") as (client, model, _):
        await ask(client, asking(WHY))
        kind, headers, _ = await ask(client, asking(AGAIN))
        counted = client.metric(LOOKUPS, model="m", result="shadow_hit")
        hits = client.metric("llm_gateway_cache_requests_total", model="m", result="hit")
    assert (kind, model.calls, counted, hits) == ("miss", 2, 1, 0)
    assert "x-cache-similarity" not in headers


async def test_a_hit_is_replayed_as_a_stream(redis: RedisServer) -> None:
    async with running(redis) as (client, model, _):
        await ask(client, asking(WHY))
        kind, headers, body = await ask(client, asking(AGAIN, stream=True))
    assert (kind, headers["content-type"], model.calls) == ("hit", "text/event-stream", 1)
    assert b'"content":"Scattering."' in body
    assert body.endswith(DONE)


async def test_a_streamed_answer_is_stored_and_an_incomplete_one_is_not(redis: RedisServer) -> None:
    parts = [chat_chunk("Scat"), chat_chunk("tering.", "stop"), DONE]
    async with running(redis, stream_of(*parts)) as (client, model, _):
        await ask(client, asking(WHY, stream=True))
        assert (await ask(client, asking(AGAIN, stream=True)))[0] == "hit"
        # It came without token counts, which a whole answer must have.
        assert (await ask(client, asking(AGAIN + "?")))[0] == "miss"
        model.handler = stream_of(*parts[:2])
        await ask(client, asking("Where do whales sleep?", stream=True))
        assert (await ask(client, asking("So where do whales sleep?", stream=True)))[0] == "miss"


async def test_every_pod_finds_what_another_has_stored(redis: RedisServer) -> None:
    async with running(redis) as (client, model, embedder):
        async with gateway_for(config(model, embedder, redis)) as other:
            await in_use(other)
            await ask(client, asking(WHY))
            await eventually(lambda: other.metric("llm_gateway_semantic_cache_entries") == 1)
            assert (await ask(other, asking(AGAIN)))[0] == "hit"
        async with gateway_for(config(model, embedder, redis)) as later:
            await in_use(later)
            assert (await ask(later, asking(AGAIN)))[0] == "hit"
    assert model.calls == 1


async def test_an_entry_without_its_answer_is_a_miss(redis: RedisServer) -> None:
    async with running(redis) as (client, model, _):
        await ask(client, asking(WHY))
        redis.drop("llm-gateway:exact:*")
        assert (await ask(client, asking(AGAIN)))[0] == "miss"
    assert model.calls == 2


async def test_a_slow_embedder_costs_the_deadline_three_times(redis: RedisServer) -> None:
    async with running(redis, timeout_seconds=0.3, retry_seconds=30) as (client, model, embedder):
        embedder.delay = 5
        for number in range(3):
            assert (await ask(client, asking(f"{WHY} {number}")))[0] == "miss"
        began = time.monotonic()
        for number in range(10):
            assert (await ask(client, asking(f"{AGAIN} {number}")))[0] == "miss"
        assert time.monotonic() - began < 3  # less than ten deadlines
        unavailable = client.metric(LOOKUPS, model="m", result="unavailable")
        errors = client.metric("llm_gateway_semantic_cache_errors_total", operation="embed", kind="TimeoutError")
    assert (unavailable, errors, embedder.calls, model.calls) == (13, 3, 3, 13)


async def test_a_broken_embedder_is_tried_again(redis: RedisServer) -> None:
    async with running(redis, retry_seconds=0.5) as (client, _, embedder):
        embedder.status = 503
        for number in range(4):
            assert (await ask(client, asking(f"{WHY} {number}")))[0] == "miss"
        assert embedder.calls == 3
        embedder.status = 200
        await asyncio.sleep(0.55)
        await ask(client, asking(WHY))
        assert (await ask(client, asking(AGAIN)))[0] == "hit"
        errors = client.metric("llm_gateway_semantic_cache_errors_total", operation="embed", kind="status_503")
    assert errors == 3


async def test_a_text_that_the_embedder_refuses_is_no_fault_of_it(redis: RedisServer) -> None:
    async with running(redis) as (client, _, embedder):
        embedder.status = 400
        for number in range(4):
            assert (await ask(client, asking(f"{WHY} {number}")))[0] == "miss"
        refused = client.metric(LOOKUPS, model="m", result="refused")
        errors = client.metric("llm_gateway_semantic_cache_errors_total")
    assert (refused, errors, embedder.calls) == (4, 0, 4)


async def test_a_cache_that_dies_and_comes_back_empty(redis: RedisServer) -> None:
    async with running(redis) as (client, _, __):
        await ask(client, asking(WHY))
        redis.stop()
        assert (await client.post(CHAT, asking(AGAIN)))[1]["x-cache"] == "bypass"
        redis.start()
        await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
        await eventually(lambda: client.metric("llm_gateway_semantic_cache_entries") == 0)
        assert (await ask(client, asking(AGAIN)))[0] == "miss"
        assert (await ask(client, asking(WHY)))[0] == "hit"


async def test_a_model_that_does_not_ask_for_it_is_compared_exactly(redis: RedisServer) -> None:
    async with running(redis) as (client, model, embedder):
        exact = config(model, embedder, redis)
        del exact["models"]["m"]["semantic_cache"]
        client.gateway.configure(GatewayConfig.model_validate(exact))
        await ask(client, asking(WHY))
        assert (await ask(client, asking(AGAIN)))[0] == "miss"
    assert embedder.calls == 0


def test_a_model_can_not_ask_for_what_is_not_there() -> None:
    models = {"m": {"url": "http://m", "semantic_cache": {"mode": "answer"}}}
    with pytest.raises(ValueError, match=r"models\.m\.semantic_cache needs cache\.enabled and cache\.semantic"):
        GatewayConfig.model_validate({"models": models})
