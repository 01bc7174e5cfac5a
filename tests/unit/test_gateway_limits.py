"""Limits of API keys over a real Redis: what they let through, over all replicas, and what a broken Redis does."""

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_gateway.config import GatewayConfig
from llm_gateway.limits import WINDOW_SECONDS, Window
from pydantic import ValidationError

from tests.gateway_harness import (
    CHAT,
    DONE,
    QUESTION,
    Client,
    FakeModel,
    RedisServer,
    chat_chunk,
    config_for,
    eventually,
    gateway_for,
    have_redis,
    serving,
    stored,
    stream_of,
)

needs_redis = pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}\n\n'
FRESH = {"cache-control": "no-store"}


def limited(model: FakeModel, redis: RedisServer, **limits: int) -> dict[str, Any]:
    cache = {"enabled": True, "url_file": str(redis.url_file), "retry_seconds": 0.02, "timeout_seconds": 1}
    return config_for(model, cache=cache, limits=limits)


async def ready(client: Client) -> None:
    await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)


async def ask(client: Client, key: str, body: dict[str, Any] = QUESTION) -> tuple[int, dict[str, str], bytes]:
    answer = await client.post(CHAT, body, {"x-api-key": key, **FRESH})
    await stored(client)
    return answer


@needs_redis
async def test_requests_of_a_key_are_limited_over_all_replicas(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model:
        config = limited(model, redis, requests_per_minute=8)
        async with gateway_for(config) as one, gateway_for(config) as other:
            await ready(one)
            await ready(other)
            calls = [client.post(CHAT, QUESTION, {"x-api-key": "a", **FRESH}) for client in [one, other] * 10]
            statuses = [status for status, _, _ in await asyncio.gather(*calls)]
            assert statuses.count(200) == 8
            assert statuses.count(429) == 12
            status, headers, body = await ask(one, "a")
            assert (await ask(other, "b"))[0] == 200, "another key has limits of its own"
            assert one.metric("llm_gateway_limit_requests_total", result="refused") >= 1
    assert status == 429
    assert orjson.loads(body)["error"]["code"] == "rate_limit_exceeded"
    assert orjson.loads(body)["error"]["type"] == "requests"
    assert headers["x-ratelimit-limit-requests"] == "8"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(headers["retry-after"]) <= 2 * WINDOW_SECONDS


@needs_redis
@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_charged_after_the_answer(redis: RedisServer, stream: bool) -> None:
    handler = stream_of(chat_chunk("a", "stop"), USAGE, DONE) if stream else None
    async with (
        serving(FakeModel(handler)) as model,
        gateway_for(limited(model, redis, tokens_per_minute=20)) as client,
    ):
        await ready(client)
        body = {**QUESTION, "stream": stream}
        answers = [await ask(client, "a", body) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert [headers["x-ratelimit-remaining-tokens"] for _, headers, _ in answers] == ["20", "5", "0"]
    assert orjson.loads(answers[2][2])["error"]["type"] == "tokens"


@needs_redis
async def test_one_more_header_makes_no_new_caller(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(limited(model, redis, requests_per_minute=1)) as client:
        await ready(client)
        assert (await ask(client, "a"))[0] == 200
        more = {"x-api-key": "a", "authorization": "Bearer other", "x-api-key-id": "other", **FRESH}
        assert (await client.post(CHAT, QUESTION, more))[0] == 429


@needs_redis
async def test_a_key_never_gets_what_was_answered_to_another(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(limited(model, redis)) as client:
        await ready(client)
        got: list[str] = []
        for headers in ({"x-api-key": "a"}, {"x-api-key": "b"}, {"authorization": "a"}, {}, {"x-api-key": "a"}):
            got.append((await client.post(CHAT, QUESTION, headers))[1]["x-cache"])
            store = client.gateway.backend.cache
            assert store is not None
            await store.settle()
    assert got == ["miss", "miss", "miss", "miss", "hit"]


@needs_redis
async def test_keys_are_stored_hashed(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(limited(model, redis, requests_per_minute=5)) as client:
        await ready(client)
        await ask(client, "key-in-clear")
        rendered = client.gateway.metrics.render()
    found = redis.dump()
    assert any(key.startswith(b"llm-gateway:limits:1:") for key in found)
    assert not any(b"key-in-clear" in text for text in [*found, rendered])


@needs_redis
async def test_without_redis_requests_go_through_and_are_counted(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(limited(model, redis, requests_per_minute=1)) as client:
        await ready(client)
        redis.stop()
        assert [(await ask(client, "a"))[0] for _ in range(3)] == [200, 200, 200]
        assert client.metric("llm_gateway_limit_requests_total", result="unchecked") == 3


@needs_redis
@pytest.mark.parametrize(
    "options", [("--requirepass", "secret"), ("--maxmemory", "1", "--maxmemory-policy", "noeviction")]
)
async def test_a_redis_that_refuses_lets_requests_through(redis: RedisServer, options: tuple[str, ...]) -> None:
    redis.stop()
    redis.start(*options)
    async with serving(FakeModel()) as model, gateway_for(limited(model, redis, requests_per_minute=1)) as client:
        await eventually(
            lambda: (
                client.metric("llm_gateway_cache_available") == 1
                or client.metric("llm_gateway_cache_errors_total", operation="connect") > 0
            )
        )
        assert [(await ask(client, "a"))[0] for _ in range(3)] == [200, 200, 200]
        assert client.metric("llm_gateway_limit_requests_total", result="unchecked") == 3


def test_limits_need_something_to_count_in() -> None:
    with pytest.raises(ValidationError, match=r"cache\.enabled must be true"):
        GatewayConfig.model_validate({"models": {"m": {"url": "http://m"}}, "limits": {"requests_per_minute": 1}})


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.integers(1, 10_000))
def test_one_more_fits_after_the_wait_and_not_before(now: int, before: int, elapsed: float, limit: int) -> None:
    wait = Window(now, before, elapsed).wait_seconds(limit)

    def used_after(seconds: float) -> float:
        later = elapsed + seconds / WINDOW_SECONDS
        if later < 1:
            return Window(now, before, later).used
        return Window(0, now, later - 1).used if later < 2 else 0

    assert 0 <= wait <= 2 * WINDOW_SECONDS
    assert used_after(wait + 0.001) + 1 <= limit + 1e-6
    if wait > 0.01:
        assert used_after(wait - 0.01) + 1 > limit - 1e-6
