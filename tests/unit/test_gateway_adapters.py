"""Adapters at the gateway: routed to their model's service and its versions, named to it, cached by their own name."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from llm_gateway.config import ConfigError, load

from tests.gateway_harness import CHAT, QUESTION, FakeModel, eventually, gateway_for, have_redis, redis_server, serving


def of(model: FakeModel, **route: Any) -> dict[str, Any]:
    return {"url": model.url, "revision": "1", "adapters": {"legal": "7"}, **route}


async def test_it_goes_to_its_models_service_which_is_told_its_name() -> None:
    async with serving(FakeModel()) as model, serving(FakeModel()) as other:
        config = {"models": {"m": of(model), "o": {"url": other.url}}}
        async with gateway_for(config) as client:
            assert (await client.post(CHAT, {**QUESTION, "model": "legal"}))[0] == 200
            assert (await client.post("/v1/completions", {"model": "m", "prompt": "hi"}))[0] == 200
            _, _, body = await client.get("/v1/models")
            assert [entry["id"] for entry in orjson.loads(body)["data"]] == ["legal", "m", "o"]
            assert client.metric("llm_gateway_requests_total", model="legal") == 1
    assert [orjson.loads(body)["model"] for body in model.bodies] == ["legal", "m"]
    assert other.calls == 0


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
async def test_tgis_own_endpoints_get_it_as_their_parameter(path: str) -> None:
    async with serving(FakeModel()) as model, gateway_for({"models": {"m": of(model)}}) as client:
        question = {"inputs": "hi", "parameters": {"max_new_tokens": 2}}
        for name in ({"x-model": "legal"}, {"x-model": "m"}, {}):
            assert (await client.post(path, question, name))[0] == 200
        assert (await client.post(path, {"inputs": "hi"}, {"x-model": "legal"}))[0] == 200
        beside = {"inputs": "hi", "parameters": {"adapter_id": "legal"}}
        assert (await client.post(path, beside, {"x-model": "legal"}))[0] == 200
        status, _, body = await client.post(path, beside)
        assert (status, orjson.loads(body)["error"]["message"]) == (
            400,
            "Name the adapter in the header 'x-model', not in 'parameters.adapter_id'.",
        )
    assert [orjson.loads(body).get("parameters") for body in model.bodies] == [
        {"max_new_tokens": 2, "adapter_id": "legal"},
        {"max_new_tokens": 2},
        {"max_new_tokens": 2},
        {"adapter_id": "legal"},
        {"adapter_id": "legal"},
    ]


async def test_it_shares_its_models_versions() -> None:
    async with serving(FakeModel()) as stable, serving(FakeModel()) as canary:
        versions = [
            {"name": "stable", "url": stable.url, "weight": 100},
            {"name": "canary", "url": canary.url, "weight": 0},
        ]
        async with gateway_for({"models": {"m": {"versions": versions, "adapters": {"legal": "7"}}}}) as client:
            for model, version in (("legal", "stable"), ("legal@canary", "canary")):
                status, headers, _ = await client.post(CHAT, {**QUESTION, "model": model})
                assert (status, headers["x-model-version"]) == (200, version)
    assert [orjson.loads(body)["model"] for body in (*stable.bodies, *canary.bodies)] == ["legal", "legal"]


@pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")
async def test_answers_are_cached_by_adapter_and_by_both_revisions(tmp_path: Path) -> None:
    async with serving(FakeModel()) as model:
        with redis_server(tmp_path) as redis:
            cache = {"enabled": True, "url_file": str(redis.url_file), "retry_seconds": 0.02, "timeout_seconds": 1}
            calls: list[int] = []
            for route in (of(model), of(model, adapters={"legal": "8"}), of(model, revision="2")):
                async with gateway_for({"models": {"m": route}, "cache": cache}) as client:
                    await eventually(lambda client=client: client.metric("llm_gateway_cache_available") == 1)
                    for name in ("legal", "legal", "m", "m"):
                        await client.post(CHAT, {**QUESTION, "model": name})
                        store = client.gateway.backend.cache
                        assert store is not None
                        await store.settle()
                    calls.append(model.calls)
    # A new adapter leaves the model's answers as they are; a new model leaves none.
    assert calls == [2, 3, 5]


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ({"legal": {"url": "http://a:1"}}, "models.m.adapters.legal has the name of models.legal"),
        (
            {"o": {"url": "http://a:1", "adapters": {"legal": "1"}}},
            "models.o.adapters.legal has the name of models.m.adapters.legal",
        ),
        ({"m": {"url": "http://a:1", "adapters": {"m": "1"}}}, "models.m.adapters.m has the name of models.m"),
    ],
)
def test_a_name_that_says_two_things_is_refused(tmp_path: Path, models: dict[str, Any], problem: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"models": {"m": {"url": "http://m:1", "adapters": {"legal": "1"}}, **models}}))
    with pytest.raises(ConfigError, match=problem):
        load(path)
