"""Embeddings through the gateway: passed on as they come, and only to models that make them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.gateway_harness import CHAT, QUESTION, Client, FakeModel, Handler, gateway_for, serving

EMBEDDINGS = "/v1/embeddings"
ANSWER: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}],
    "model": "minilm",
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}


async def _vectors(_: web.Request) -> web.Response:
    return web.json_response(ANSWER)


@asynccontextmanager
async def both(handler: Handler = _vectors) -> AsyncGenerator[tuple[Client, FakeModel, FakeModel]]:
    """A gateway with an embedding service, which does as `handler` says, and a model that generates."""
    async with serving(FakeModel(handler)) as embedder, serving(FakeModel()) as model:
        models = {"minilm": {"kind": "embedding", "url": embedder.url}, "m": {"url": model.url}}
        async with gateway_for({"models": models}) as client:
            yield client, embedder, model


async def test_a_request_reaches_the_embedding_service_as_it_came_and_is_counted() -> None:
    async with both() as (client, embedder, model):
        body = b'{ "model":"minilm", "input":["one", "two"], "encoding_format":"float" }'
        status, headers, answer = await client.post(EMBEDDINGS, body, {"x-api-key": "secret"})
        again = await client.post(EMBEDDINGS, body, {"x-api-key": "secret"})
        tokens = client.metric("llm_gateway_tokens_total", model="minilm", kind="prompt")
        counted = client.metric(
            "llm_gateway_requests_total", model="minilm", version="stable", endpoint=EMBEDDINGS, code="200"
        )
    assert (status, orjson.loads(answer), again[0]) == (200, ANSWER, 200)
    assert headers["x-cache"] == "bypass"
    assert (embedder.paths, embedder.bodies) == ([EMBEDDINGS] * 2, [body] * 2)
    assert "x-api-key" not in embedder.headers[0]
    assert model.calls == 0
    assert (tokens, counted) == (10, 2)


async def test_both_kinds_are_listed() -> None:
    async with both() as (client, _embedder, _model):
        _, _, body = await client.get("/v1/models")
    assert [each["id"] for each in orjson.loads(body)["data"]] == ["m", "minilm"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "message"),
    [
        (CHAT, {**QUESTION, "model": "minilm"}, {}, "The model 'minilm' makes embeddings: ask it at /v1/embeddings."),
        (
            "/v1/completions",
            {"model": "minilm", "prompt": "Once"},
            {},
            "The model 'minilm' makes embeddings: ask it at /v1/embeddings.",
        ),
        (
            "/generate",
            {"inputs": "hi"},
            {"x-model": "minilm"},
            "The model 'minilm' makes embeddings: ask it at /v1/embeddings.",
        ),
        (
            EMBEDDINGS,
            {"model": "m", "input": "one"},
            {},
            "The model 'm' makes no embeddings: ask it at /v1/chat/completions or /v1/completions.",
        ),
        (EMBEDDINGS, {"input": "one"}, {}, "The field 'model' must name the model, one of: minilm."),
    ],
)
async def test_a_model_is_asked_at_the_endpoints_of_its_kind_only(
    path: str, body: dict[str, Any], headers: dict[str, str], message: str
) -> None:
    async with both() as (client, embedder, model):
        status, _, answer = await client.post(path, body, headers)
    assert status == 400
    error = orjson.loads(answer)["error"]
    assert (error["message"], error["type"], error["param"]) == (message, "invalid_request_error", "model")
    assert (embedder.calls, model.calls) == (0, 0)


async def test_an_unknown_model_is_404_with_the_models_of_the_endpoint() -> None:
    async with both() as (client, _embedder, _model):
        status, _, answer = await client.post(EMBEDDINGS, {"model": "c", "input": "one"})
    assert status == 404
    assert orjson.loads(answer)["error"]["message"] == "The model 'c' does not exist; available: minilm."


async def test_tgis_endpoints_take_the_only_model_that_generates() -> None:
    async with both() as (client, embedder, model):
        assert (await client.post("/generate", {"inputs": "hi"}))[0] == 200
    assert (embedder.calls, model.calls) == (0, 1)


async def test_a_full_embedder_says_when_to_come_again() -> None:
    async def full(_: web.Request) -> web.Response:
        error = {"message": "Too much waits.", "type": "server_error", "code": "overloaded"}
        return web.json_response({"error": error}, status=503, headers={"Retry-After": "7"})

    async with both(full) as (client, _embedder, _model):
        status, headers, answer = await client.post(EMBEDDINGS, {"model": "minilm", "input": "one"})
    assert (status, headers["retry-after"]) == (503, "7")
    assert orjson.loads(answer)["error"]["code"] == "upstream_503"
