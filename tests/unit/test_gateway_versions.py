"""Versions of a model at the gateway: shares, stickiness, shadows, failover, their answers in the cache, a change."""

import asyncio
import itertools
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from llm_gateway.config import ConfigError, Version, load
from llm_gateway.config_watcher import ConfigWatcher
from llm_gateway.versions import choose

from tests.gateway_harness import (
    CHAT,
    DONE,
    QUESTION,
    Client,
    FakeModel,
    Handler,
    chat_answer,
    chat_chunk,
    eventually,
    gateway_for,
    have_redis,
    redis_server,
    serving,
    stream_held,
    stream_of,
)

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens on the discard port."""
FAST = {"backoff_seconds": 0.001}


def version(name: str, url: str, weight: int, **fields: Any) -> dict[str, Any]:
    return {"name": name, "url": url, "revision": f"of-{name}", "weight": weight, **fields}


def config(*versions: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"models": {"m": {"versions": list(versions)}}, "upstream": FAST, **sections}


def says(text: str) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response(chat_answer(text))

    return handle


async def ask(client: Client, headers: dict[str, str] | None = None, **fields: Any) -> tuple[str, str]:
    """The version that answered, and what it said."""
    status, got, body = await client.post(CHAT, {**QUESTION, **fields}, headers)
    assert status == 200, body
    return got["x-model-version"], orjson.loads(body)["choices"][0]["message"]["content"]


# The choice.


def of_weights(weights: dict[str, int]) -> list[Version]:
    return [Version(name=name, url="http://x", weight=weight) for name, weight in weights.items()]


names = st.sampled_from(["stable", "canary", "a", "b"])
shares = st.dictionaries(names, st.integers(0, 100), min_size=1).filter(lambda weights: sum(weights.values()) > 0)


@given(shares, st.binary())
def test_one_key_always_gets_one_version_in_whatever_order_they_are_written(
    weights: dict[str, int], key: bytes
) -> None:
    chosen = choose(of_weights(weights), key)
    assert chosen.weight > 0
    assert choose(of_weights(dict(reversed(weights.items()))), key) == chosen


@given(st.integers(1, 99), st.integers(1, 99), st.binary())
def test_a_growing_canary_keeps_those_it_has(first: int, second: int, key: bytes) -> None:
    small, large = sorted((first, second))
    before = choose(of_weights({"stable": 100 - small, "canary": small}), key).name
    after = choose(of_weights({"stable": 100 - large, "canary": large}), key).name
    assert (before, after) != ("canary", "stable")


@given(st.integers(0, 50), st.integers(0, 50), st.binary())
def test_nobody_is_moved_to_a_version_that_lost(canary: int, moved: int, key: bytes) -> None:
    before = choose(of_weights({"stable": 100 - canary, "canary": canary, "b": 30}), key).name
    after = choose(of_weights({"stable": 100 - canary - moved, "canary": canary + moved, "b": 30}), key).name
    assert before == "stable" or after != "stable"


@pytest.mark.parametrize("weights", [{"stable": 90, "canary": 10}, {"a": 50, "b": 30, "stable": 20}, {"a": 1, "b": 99}])
def test_keys_are_shared_out_as_the_weights_say(weights: dict[str, int]) -> None:
    versions = of_weights(weights)
    counted = Counter(choose(versions, str(number).encode()).name for number in range(20_000))
    for name, weight in weights.items():
        assert counted[name] / 200 == pytest.approx(weight, abs=1.5)


# Through the gateway.


async def test_a_canary_of_10_percent_gets_10_percent_of_5000_requests() -> None:
    async with serving(FakeModel()) as stable, serving(FakeModel()) as canary:
        versions = (version("stable", stable.url, 90), version("canary", canary.url, 10))
        async with gateway_for(config(*versions)) as client:
            remaining = iter(range(5000))

            async def some() -> None:
                for _ in remaining:
                    await ask(client)

            await asyncio.gather(*(some() for _ in range(16)))
            counted = client.metric("llm_gateway_requests_total", model="m", version="canary", code="200")
    assert stable.calls + canary.calls == 5000
    assert canary.calls == counted
    assert 400 <= canary.calls <= 600


@pytest.mark.parametrize("how", ["header", "user"])
async def test_a_session_stays_with_its_version(how: str) -> None:
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(serving(FakeModel())) for _ in range(2)]
        versions = (version("a", a.url, 50), version("b", b.url, 50))
        async with gateway_for(config(*versions)) as client:
            answered: dict[str, set[str]] = {}
            for session, _ in itertools.product((f"s{number}" for number in range(20)), range(4)):
                headers = {"x-session-id": session} if how == "header" else {}
                fields = {"user": session} if how == "user" else {}
                answered.setdefault(session, set()).add((await ask(client, headers, **fields))[0])
    assert all(len(each) == 1 for each in answered.values())
    assert {name for each in answered.values() for name in each} == {"a", "b"}


async def test_a_version_can_be_named_and_its_service_is_not_told() -> None:
    async with serving(FakeModel(says("old"))) as stable, serving(FakeModel(says("new"))) as canary:
        versions = (version("stable", stable.url, 100), version("canary", canary.url, 0))
        async with gateway_for(config(*versions)) as client:
            assert await ask(client, model="m@canary") == ("canary", "new")
            assert await ask(client, {"x-model-version": "canary"}) == ("canary", "new")
            status, headers, _ = await client.post("/generate", {"inputs": "hi"}, {"x-model": "m@canary"})
            assert (status, headers["x-model-version"]) == (200, "canary")
            assert await ask(client) == ("stable", "old")
            status, _, body = await client.post(CHAT, {**QUESTION, "model": "m@canari"})
            assert (status, orjson.loads(body)["error"]) == (
                404,
                {
                    "message": "The model 'm' has no version 'canari'; available: canary, stable.",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "version_not_found",
                },
            )
    assert [orjson.loads(body).get("model") for body in canary.bodies] == ["m", "m", None]


async def test_a_model_without_versions_is_its_stable_one() -> None:
    async with serving(FakeModel()) as model, gateway_for({"models": {"m": {"url": model.url}}}) as client:
        assert (await ask(client))[0] == "stable"
        assert (await ask(client, model="m@stable"))[0] == "stable"


async def test_a_version_that_is_not_there_is_stood_in_for() -> None:
    async with serving(FakeModel(says("old"))) as stable:
        versions = (version("canary", NOWHERE, 100), version("stable", stable.url, 0))
        async with gateway_for(config(*versions)) as client:
            assert await ask(client) == ("stable", "old")
            failed_over = client.metric("llm_gateway_version_failovers_total", model="m", version="canary")
            errors = client.metric("llm_gateway_upstream_errors_total", version="canary", kind="connect")
            assert (failed_over, errors) == (1, 3)
            # Whoever asks for one version wants to know how that one does.
            status, headers, _ = await client.post(CHAT, {**QUESTION, "model": "m@canary"})
            assert (status, headers["x-model-version"]) == (503, "canary")


async def test_the_heaviest_other_version_stands_in() -> None:
    async with serving(FakeModel()) as light, serving(FakeModel()) as heavy:
        versions = [version("a", NOWHERE, 60), version("b", light.url, 10), version("c", heavy.url, 30)]
        async with gateway_for(config(*versions)) as client:
            for _ in range(30):
                assert (await ask(client, {"x-session-id": await _session_of(versions, "a")}))[0] == "c"


async def _session_of(versions: list[dict[str, Any]], name: str) -> str:
    made = [Version.model_validate(each) for each in versions]
    sessions = (str(number) for number in itertools.count())
    return next(each for each in sessions if choose(made, f"m\0{each}".encode()).name == name)


async def test_what_stops_a_version_is_not_given_to_the_next() -> None:
    async def dies(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(FakeModel(dies)) as canary, serving(FakeModel()) as stable:
        versions = (version("canary", canary.url, 100), version("stable", stable.url, 0))
        async with gateway_for(config(*versions)) as client:
            assert (await client.post(CHAT, QUESTION))[0] == 503
    assert (canary.calls, stable.calls) == (3, 0)


# Shadows.


async def test_a_shadow_gets_copies_and_nobody_its_answers() -> None:
    async with serving(FakeModel(says("old"))) as stable, serving(FakeModel(says("new"))) as shadow:
        versions = (version("stable", stable.url, 100), version("next", shadow.url, 100, shadow=True))
        async with gateway_for(config(*versions)) as client:
            for _ in range(20):
                assert await ask(client) == ("stable", "old")
            await eventually(lambda: client.metric("llm_gateway_shadow_requests_total", version="next") == 20)
            assert client.metric("llm_gateway_shadow_requests_total", model="m", version="next", result="ok") == 20
            # Not counted as answers, nor are its tokens.
            assert client.metric("llm_gateway_requests_total") == 20
            assert client.metric("llm_gateway_tokens_total", kind="completion") == 20 * 3
            assert await ask(client, model="m@next") == ("next", "new")
    assert shadow.bodies[:20] == stable.bodies


async def test_a_shadow_gets_its_share_of_copies() -> None:
    async with serving(FakeModel()) as stable, serving(FakeModel()) as shadow:
        versions = (version("stable", stable.url, 100), version("next", shadow.url, 20, shadow=True))
        async with gateway_for(config(*versions)) as client:
            for _ in range(500):
                await ask(client)
            await eventually(lambda: client.metric("llm_gateway_shadow_requests_total") == shadow.calls)
    assert 40 <= shadow.calls <= 160


async def test_a_shadow_that_hangs_or_fails_costs_the_caller_nothing() -> None:
    never = asyncio.Event()

    async def hangs(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async def fails(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    async with AsyncExitStack() as stack:
        stable = await stack.enter_async_context(serving(FakeModel()))
        hanging = await stack.enter_async_context(serving(FakeModel(hangs)))
        failing = await stack.enter_async_context(serving(FakeModel(fails)))
        versions = (
            version("stable", stable.url, 100),
            version("failing", failing.url, 100, shadow=True),
            version("gone", NOWHERE, 100, shadow=True),
        )
        hung = (version("stable", stable.url, 100), version("hanging", hanging.url, 100, shadow=True))
        counted = "llm_gateway_shadow_requests_total"
        async with gateway_for(config(*versions)) as client:
            assert (await ask(client))[0] == "stable"
            await eventually(lambda: client.metric(counted) == 2)
            assert client.metric(counted, version="failing", result="status_500") == 1
            assert client.metric(counted, version="gone", result="connect") == 1
            assert client.metric("llm_gateway_upstream_errors_total") == 0
        async with gateway_for(config(*hung, upstream={"shadow_concurrency": 3})) as client:
            for _ in range(5):
                assert (await ask(client))[0] == "stable"
            assert client.metric(counted, version="hanging", result="skipped") == 2
            assert client.gateway.in_flight == 0
        assert hanging.calls == 3


# The cache.


@pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")
async def test_no_version_gets_the_answer_of_another_one(tmp_path: Path) -> None:
    async with serving(FakeModel(says("old"))) as stable, serving(FakeModel(says("new"))) as canary:
        with redis_server(tmp_path) as redis:
            cache = {"enabled": True, "url_file": str(redis.url_file), "retry_seconds": 0.02, "timeout_seconds": 1}
            versions = [version("stable", stable.url, 50), version("canary", canary.url, 50)]
            async with gateway_for(config(*versions, cache=cache)) as client:
                await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
                for _ in range(2):
                    assert await ask(client, model="m@stable") == ("stable", "old")
                    assert await ask(client, model="m@canary") == ("canary", "new")
                    assert client.gateway.backend.cache is not None
                    await client.gateway.backend.cache.settle()
                assert (stable.calls, canary.calls) == (1, 1)
                # The same question without a version, whichever it gets.
                session = await _session_of(versions, "canary")
                assert await ask(client, {"x-session-id": session}) == ("canary", "new")
                assert (stable.calls, canary.calls) == (1, 1)


@pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")
async def test_the_answer_of_a_stand_in_is_not_kept_for_the_version_that_was_away(tmp_path: Path) -> None:
    async with serving(FakeModel(says("old"))) as stable:
        with redis_server(tmp_path) as redis:
            cache = {"enabled": True, "url_file": str(redis.url_file), "retry_seconds": 0.02, "timeout_seconds": 1}
            versions = (version("canary", NOWHERE, 100), version("stable", stable.url, 0))
            async with gateway_for(config(*versions, cache=cache)) as client:
                await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
                for _ in range(2):
                    assert await ask(client) == ("stable", "old")
                    assert client.gateway.backend.cache is not None
                    await client.gateway.backend.cache.settle()
    assert stable.calls == 2


# Changes while it runs.


async def test_weights_change_while_a_stream_runs(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    path = tmp_path / "gateway.yaml"
    async with (
        serving(FakeModel(stream_held(go_on))) as stable,
        serving(FakeModel(stream_of(DONE))) as canary,
        gateway_for(None) as client,
    ):
        watching = ConfigWatcher(path, client.gateway.configure, client.gateway.metrics)
        path.write_text(yaml.safe_dump(config(version("stable", stable.url, 100))))
        watching.check()
        question = orjson.dumps({**QUESTION, "stream": True})
        async with client.session.post(client.url + CHAT, data=question) as stream:
            assert await stream.content.readuntil(b"\n\n") == chat_chunk("one")
            shifted = config(version("stable", stable.url, 0), version("canary", canary.url, 100))
            path.write_text(yaml.safe_dump(shifted))
            watching.check()
            for _ in range(10):
                assert (await client.post(CHAT, question))[1]["x-model-version"] == "canary"
            go_on.set()
            assert await stream.read() == chat_chunk("two", "stop") + DONE
            assert stream.headers["x-model-version"] == "stable"
    assert (stable.calls, canary.calls) == (1, 10)


STABLE = version("stable", "http://s", 90)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"versions": [STABLE]}, "models.m: has versions whose weights sum to 90, not to 100"),
        (
            {"versions": [STABLE, version("next", "http://n", 10, shadow=True)]},
            "models.m: has versions whose weights sum to 90, not to 100",
        ),
        ({"versions": [STABLE, STABLE]}, "models.m: has two versions of one name"),
        ({"url": "http://m", "versions": [STABLE]}, "models.m: has exactly one of url and versions"),
        ({"versions": []}, "models.m: has exactly one of url and versions"),
        (
            {"versions": [version("stable", "http://s", 101)]},
            "models.m.versions.0.weight: Input should be less than or equal to 100",
        ),
    ],
)
def test_versions_that_cannot_be_shared_out_are_refused(tmp_path: Path, model: dict[str, Any], problem: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({"models": {"m": model}}))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == problem
