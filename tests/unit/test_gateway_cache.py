"""The response cache over a real Redis: what it answers, what it never does, and that nobody waits for a broken one."""

import asyncio
import time
from typing import Any

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
    chat_answer,
    chat_chunk,
    config_for,
    eventually,
    gateway_for,
    have_redis,
    serving,
    stored,
    stream_of,
)

pytestmark = pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")

STREAM = {**QUESTION, "stream": True}


def cached(model: FakeModel, redis: RedisServer, **options: Any) -> dict[str, Any]:
    cache = {"enabled": True, "url_file": str(redis.url_file), "retry_seconds": 0.02, "timeout_seconds": 1, **options}
    return config_for(model, cache=cache)


async def ready(client: Client) -> None:
    """Waits until the cache is in use."""
    await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)


async def ask(client: Client, body: Any, **headers: str) -> tuple[str, bytes]:
    """What the cache did, and the answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, answered, content = await client.post(CHAT, body, named)
    assert status == 200
    await stored(client)
    return answered["x-cache"], content


async def test_the_same_question_is_answered_once_by_the_model(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        first = await ask(client, QUESTION)
        # The order of fields and white space mean nothing.
        again = await ask(client, orjson.dumps(dict(reversed(QUESTION.items())), option=orjson.OPT_INDENT_2))
        hits = client.metric("llm_gateway_cache_requests_total", model="m", result="hit", reason="")
        tokens = client.metric("llm_gateway_tokens_total", model="m", kind="completion")
    assert (first[0], again[0]) == ("miss", "hit")
    assert first[1] == again[1] == model_body()
    assert (model.calls, hits) == (1, 1)
    assert tokens == 3  # a hit generates none


def model_body() -> bytes:
    return web.json_response(chat_answer()).body  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "Why is the sky red?"}]},
        {"messages": [{"role": "system", "content": "Rhyme."}, *QUESTION["messages"]]},
        {"max_tokens": 5},
        {"stop": ["."]},
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"user": "someone"},
    ],
)
async def test_any_other_question_is_the_models(redis: RedisServer, change: dict[str, Any]) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        await ask(client, QUESTION)
        assert (await ask(client, {**QUESTION, **change}))[0] == "miss"
    assert model.calls == 2


async def test_no_caller_gets_anothers_answer(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        assert (await ask(client, QUESTION, x_api_key="one"))[0] == "miss"
        assert (await ask(client, QUESTION, x_api_key="two"))[0] == "miss"
        assert (await ask(client, QUESTION))[0] == "miss"
        assert (await ask(client, QUESTION, authorization="Bearer one"))[0] == "miss"
        await stored(client)
        calls = model.calls
        # Only the key says who it is: with another caller's id beside it, it gets its own answer and not the other's.
        assert (await ask(client, {**QUESTION, "seed": 1}, x_api_key="one"))[0] == "miss"
        assert (await ask(client, {**QUESTION, "seed": 1}, x_api_key="two", x_api_key_id="one"))[0] == "miss"
        assert (await ask(client, QUESTION, x_api_key="two", x_api_key_id="one"))[0] == "hit"
        assert model.calls == calls + 2
        assert (await ask(client, QUESTION, x_api_key="one"))[0] == "hit"
        assert (await ask(client, QUESTION))[0] == "hit"


async def test_another_revision_of_the_weights_is_asked_anew(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        await ask(client, QUESTION)
        config = cached(model, redis)
        config["models"]["m"]["revision"] = "2"
        client.gateway.configure(GatewayConfig.model_validate(config))
        assert (await ask(client, QUESTION))[0] == "miss"


async def test_a_caller_may_ask_for_a_fresh_answer(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        for _ in range(2):
            assert (await ask(client, QUESTION, cache_control="no-cache"))[0] == "miss"
        assert (await ask(client, QUESTION))[0] == "hit"
    assert model.calls == 2


@pytest.mark.parametrize(
    ("change", "headers", "reason"),
    [
        ({"temperature": 0.1}, {}, "temperature"),
        ({"temperature": None}, {}, "temperature"),
        ({"temperature": "0"}, {}, "temperature"),
        ({"n": 2}, {}, "choices"),
        ({"tools": [{"type": "function"}]}, {}, "tools"),
        ({"logprobs": True}, {}, "logprobs"),
        ({}, {"cache_control": "no-store"}, "caller"),
    ],
)
async def test_what_may_not_be_cached_passes_by(
    redis: RedisServer, change: dict[str, Any], headers: dict[str, str], reason: str
) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        for _ in range(2):
            assert (await ask(client, {**QUESTION, **change}, **headers))[0] == "bypass"
        counted = client.metric("llm_gateway_cache_requests_total", model="m", result="bypass", reason=reason)
    assert (model.calls, counted) == (2, 2)


async def test_the_temperature_limit_is_configured(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis, max_temperature=0.7)) as client:
        await ready(client)
        assert (await ask(client, {**QUESTION, "temperature": 0.7}))[0] == "miss"
        assert (await ask(client, {**QUESTION, "temperature": 0.7}))[0] == "hit"
        assert (await ask(client, {**QUESTION, "temperature": 0.71}))[0] == "bypass"


async def test_a_stream_is_stored_and_answers_both_kinds(redis: RedisServer) -> None:
    usage = b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}\n\n'
    parts = [chat_chunk("Scat"), chat_chunk("tering."), chat_chunk("", "stop"), usage, DONE]
    async with serving(FakeModel(stream_of(*parts))) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        assert await ask(client, STREAM) == ("miss", b"".join(part for part in parts if part != usage))
        kind, stream = await ask(client, STREAM)
        whole_kind, whole = await ask(client, QUESTION)
        with_usage_kind, with_usage = await ask(client, {**STREAM, "stream_options": {"include_usage": True}})
    assert (kind, whole_kind, with_usage_kind, model.calls) == ("hit", "hit", "hit", 1)
    answer = orjson.loads(whole)
    assert answer["choices"] == chat_answer()["choices"]
    assert answer["object"] == "chat.completion"
    events = [line.removeprefix(b"data: ") for line in stream.split(b"\n\n")]
    assert events[2:] == [b"[DONE]", b""]
    first, last = orjson.loads(events[0]), orjson.loads(events[1])
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Scattering."}
    assert (first["choices"][0]["finish_reason"], last["choices"][0]["finish_reason"]) == (None, "stop")
    assert orjson.loads(with_usage.split(b"\n\n")[2].removeprefix(b"data: "))["usage"]["completion_tokens"] == 3


async def test_a_whole_answer_is_replayed_as_a_stream(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        await ask(client, QUESTION)
        status, headers, body = await client.post(CHAT, STREAM)
    assert (status, headers["x-cache"], headers["content-type"]) == (200, "hit", "text/event-stream")
    assert b'"content":"Scattering."' in body
    assert body.endswith(DONE)
    assert model.calls == 1


async def test_a_stream_without_counts_does_not_answer_who_expects_them(redis: RedisServer) -> None:
    parts = [chat_chunk("Scattering.", "stop"), DONE]
    async with serving(FakeModel(stream_of(*parts))) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        await ask(client, STREAM)
        assert (await ask(client, STREAM))[0] == "hit"
        assert (await ask(client, {**STREAM, "stream_options": {"include_usage": True}}))[0] == "miss"
        assert (await ask(client, QUESTION))[0] == "miss"


@pytest.mark.parametrize(
    "parts",
    [
        [chat_chunk("half"), DONE],
        [chat_chunk("half", "stop")],
        [chat_chunk("half", "content_filter"), DONE],
        [chat_chunk("half"), b'data: {"error":"out of memory","error_type":"generation"}\n\n', DONE],
        [b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{}]},"finish_reason":"stop"}]}\n\n', DONE],
        [b"data: garbage\n\n", DONE],
    ],
)
async def test_what_is_not_a_complete_answer_is_not_stored(redis: RedisServer, parts: list[bytes]) -> None:
    async with serving(FakeModel(stream_of(*parts))) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        assert await ask(client, STREAM) == ("miss", b"".join(parts))
        assert (await ask(client, STREAM))[0] == "miss"
    assert model.calls == 2


async def test_errors_and_long_answers_are_not_stored(redis: RedisServer) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "no"}, status=422) if model.calls == 1 else web.json_response(chat_answer())

    async with serving(FakeModel(handle)) as model, gateway_for(cached(model, redis, max_entry_bytes=100)) as client:
        await ready(client)
        assert (await client.post(CHAT, QUESTION))[0] == 422
        assert (await ask(client, QUESTION))[0] == "miss"
        assert (await ask(client, QUESTION))[0] == "miss"


async def test_answers_expire(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis, ttl_seconds=1)) as client:
        await ready(client)
        await ask(client, QUESTION)
        assert (await ask(client, QUESTION))[0] == "hit"
        await asyncio.sleep(1.1)
        assert (await ask(client, QUESTION))[0] == "miss"


async def test_generate_is_cached_where_it_is_greedy(redis: RedisServer) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response({"generated_text": "blue"})

    async with serving(FakeModel(handle)) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        results: list[str] = []
        for parameters in ({}, {}, {"do_sample": True}, {"temperature": 0.5}, {"top_p": 0.9}):
            _, headers, _ = await client.post("/generate", {"inputs": "sky", "parameters": parameters})
            await stored(client)
            results.append(headers["x-cache"])
    assert results == ["miss", "hit", "bypass", "bypass", "bypass"]


async def test_a_cache_that_dies_costs_no_request_and_comes_back(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        await ask(client, QUESTION)
        redis.stop()
        assert (await ask(client, QUESTION))[0] == "bypass"
        await eventually(lambda: client.metric("llm_gateway_cache_available") == 0)
        began = time.monotonic()
        for _ in range(50):
            assert (await ask(client, QUESTION))[0] == "bypass"
        assert time.monotonic() - began < 2
        redis.start()
        await ready(client)
        assert (await ask(client, QUESTION))[0] == "miss"
        assert (await ask(client, QUESTION))[0] == "hit"


async def test_a_cache_that_hangs_is_left_alone_after_three_requests(redis: RedisServer) -> None:
    async with (
        serving(FakeModel()) as model,
        gateway_for(cached(model, redis, timeout_seconds=0.05, connect_timeout_seconds=0.2)) as client,
    ):
        await ready(client)
        redis.freeze()
        for _ in range(3):
            status, headers, _ = await client.post(CHAT, QUESTION)
            assert (status, headers["x-cache"]) == (200, "bypass")
        assert client.metric("llm_gateway_cache_available") == 0
        assert client.metric("llm_gateway_cache_errors_total", operation="get", kind="TimeoutError") == 3
        redis.thaw()
        await ready(client)


async def test_a_rotated_password_is_picked_up(redis: RedisServer) -> None:
    redis.stop()
    redis.start("--requirepass", "old")
    redis.point_at_it("old")
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        redis.stop()
        redis.start("--requirepass", "new")
        assert (await ask(client, QUESTION))[0] == "bypass"
        refused = {"operation": "connect", "kind": "AuthenticationError"}
        await eventually(lambda: client.metric("llm_gateway_cache_errors_total", **refused) > 0)
        redis.point_at_it("new")
        await ready(client)
        assert (await ask(client, QUESTION))[0] == "miss"


@pytest.mark.parametrize("content", [None, "", "not a url"])
async def test_without_a_url_requests_pass_by(redis: RedisServer, content: str | None) -> None:
    if content is None:
        redis.url_file.unlink()
    else:
        redis.url_file.write_text(content)
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        assert (await ask(client, QUESTION))[0] == "bypass"
        redis.point_at_it()
        await ready(client)


async def test_a_corrupt_entry_is_a_miss(redis: RedisServer) -> None:
    async with serving(FakeModel()) as model, gateway_for(cached(model, redis)) as client:
        await ready(client)
        await ask(client, QUESTION)
        redis.overwrite_all(b"\xff{")
        assert (await ask(client, QUESTION))[0] == "miss"
        assert (await ask(client, QUESTION))[0] == "hit"
