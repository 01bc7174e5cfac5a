"""The gateway's paths: who is asked, what is passed on, and what a caller reads when something is wrong."""

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.gateway_harness import CHAT, QUESTION, FakeModel, chat_answer, config_for, gateway_for, serving


def _error(body: bytes) -> dict[str, Any]:
    fields = orjson.loads(body)
    assert set(fields) == {"error"}
    assert set(fields["error"]) == {"message", "type", "param", "code"}
    return fields["error"]


async def test_a_request_reaches_the_service_of_its_model_as_it_came() -> None:
    async with serving(FakeModel()) as first, serving(FakeModel()) as second:
        models = {"first": {"url": first.url}, "second": {"url": second.url + "/"}}
        async with gateway_for({"models": models}) as client:
            body = b'{ "model":"second","messages":[{"role":"user","content":"hi"}], "temperature": 0.50 }'
            status, headers, answer = await client.post(
                CHAT, body, {"x-api-key": "secret", "authorization": "Bearer secret", "x-request-id": "abc-1"}
            )
    assert (status, orjson.loads(answer)) == (200, chat_answer())
    assert first.calls == 0
    assert (second.paths, second.bodies) == ([CHAT], [body])
    assert second.headers[0]["x-request-id"] == headers["x-request-id"] == "abc-1"
    assert "x-api-key" not in second.headers[0]
    assert "authorization" not in second.headers[0]
    assert headers["server"] == "llm-gateway"
    assert headers["x-cache"] == "bypass"


async def test_completions_reach_the_path_of_the_same_name() -> None:
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        status, _, _ = await client.post("/v1/completions", {"model": "m", "prompt": "Once"})
    assert (status, model.paths) == (200, ["/v1/completions"])


async def test_models_are_listed_by_name() -> None:
    config = {"models": {"b": {"url": "http://b:1"}, "a": {"url": "http://a:1"}}}
    async with gateway_for(config) as client:
        status, headers, body = await client.get("/v1/models")
        loaded_at = client.gateway.loaded_at
    assert (status, headers["content-type"]) == (200, "application/json")
    data = [{"id": name, "object": "model", "created": loaded_at, "owned_by": "llm-gateway"} for name in ("a", "b")]
    assert orjson.loads(body) == {"object": "list", "data": data}


async def test_tgi_endpoints_go_to_the_only_model_or_to_the_one_of_the_header() -> None:
    async with serving(FakeModel()) as first, serving(FakeModel()) as second:
        async with gateway_for(config_for(first)) as client:
            assert (await client.post("/generate", {"inputs": "hi"}))[0] == 200
        models = {"first": {"url": first.url}, "second": {"url": second.url}}
        async with gateway_for({"models": models}) as client:
            assert (await client.post("/generate_stream", {"inputs": "hi"}, {"x-model": "second"}))[0] == 200
            status, _, body = await client.post("/generate", {"inputs": "hi"})
    assert (first.paths, second.paths) == (["/generate"], ["/generate_stream"])
    assert status == 400
    assert _error(body)["message"] == "The header 'x-model' must name the model, one of: first, second."


async def test_an_unknown_model_is_404_with_the_known_names() -> None:
    config = {"models": {"b": {"url": "http://b:1"}, "a": {"url": "http://a:1"}}}
    async with gateway_for(config) as client:
        status, _, body = await client.post(CHAT, {**QUESTION, "model": "c"})
        counted = client.metric("llm_gateway_requests_total", model="", endpoint=CHAT, code="404")
    assert status == 404
    assert _error(body) == {
        "message": "The model 'c' does not exist; available: a, b.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert counted == 1


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    [
        (CHAT, b"", "The request body is not valid JSON", None),
        (CHAT, b"{", "The request body is not valid JSON", None),
        (CHAT, b'{"model": "\xff"}', "The request body is not valid JSON", None),
        (CHAT, b"[" * 5000, "The request body is not valid JSON", None),
        (CHAT, b"[]", "The request body must be a JSON object.", None),
        (CHAT, b'{"model": "m"}', "'messages' must be a list with at least one message.", "messages"),
        (CHAT, b'{"model": "m", "messages": []}', "'messages' must be a list with at least one message.", "messages"),
        (CHAT, b'{"model": "m", "messages": ["hi"]}', "Each of 'messages' must be an object.", "messages"),
        (CHAT, b'{"messages": [{}]}', "The field 'model' must name the model, one of: m.", "model"),
        (CHAT, b'{"model": 7, "messages": [{}]}', "The field 'model' must name the model, one of: m.", "model"),
        (CHAT, b'{"model": "m", "messages": [{}], "stream": 1}', "'stream' must be true or false.", "stream"),
        ("/v1/completions", b'{"model": "m"}', "'prompt' must be a string or a list.", "prompt"),
        ("/generate", b"{}", "'inputs' must be a string.", "inputs"),
        ("/generate", b'{"inputs": "", "parameters": 1}', "'parameters' must be an object.", "parameters"),
    ],
)
async def test_a_malformed_request_is_400_and_says_what_to_change(
    path: str, body: bytes, message: str, param: str | None
) -> None:
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        status, headers, answer = await client.post(path, body)
    error = _error(answer)
    assert (status, headers["content-type"], error["param"]) == (400, "application/json", param)
    assert error["message"].startswith(message)
    assert error["type"] == "invalid_request_error"
    assert model.calls == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_limit_is_413(chunked: bool) -> None:
    async def parts() -> Any:
        for _ in range(8):
            yield b"x" * 512

    async with (
        serving(FakeModel()) as model,
        gateway_for(config_for(model, server={"max_body_bytes": 1000})) as client,
    ):
        data: Any = parts() if chunked else b"x" * 1001
        async with client.session.post(client.url + CHAT, data=data) as response:
            status, body = response.status, await response.read()
    assert status == 413
    assert _error(body)["code"] == "body_too_large"


async def test_a_body_that_does_not_arrive_is_408() -> None:
    async def parts() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with (
        serving(FakeModel()) as model,
        gateway_for(config_for(model, server={"body_timeout_seconds": 0.05})) as client,
        client.session.post(client.url + CHAT, data=parts()) as response,
    ):
        status, body = response.status, await response.read()
    assert status == 408
    assert _error(body)["code"] == "body_timeout"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", CHAT, 405, "method_not_allowed", "POST"),
        ("POST", "/v1/models", 405, "method_not_allowed", "GET"),
        ("GET", "/", 404, "not_found", None),
        ("POST", "/v1/moderations", 404, "not_found", None),
    ],
)
async def test_what_is_not_served_is_refused_in_the_same_shape(
    method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async with (
        gateway_for({"models": {"m": {"url": "http://m:1"}}}) as client,
        client.session.request(method, client.url + path) as response,
    ):
        body = await response.read()
        answered, allowed = response.status, response.headers.get("Allow")
    assert (answered, allowed, _error(body)["code"]) == (status, allow, code)


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (
            web.json_response({"error": "Input validation error", "error_type": "validation"}, status=422),
            422,
            {"message": "Input validation error", "type": "validation", "param": None, "code": None},
        ),
        (
            web.json_response({"error": {"message": "no", "type": "bad", "code": "x"}}, status=400),
            400,
            {"message": "no", "type": "bad", "param": None, "code": "x"},
        ),
        (
            web.json_response({"error": "Model is overloaded", "error_type": "overloaded"}, status=429),
            429,
            {"message": "Model is overloaded", "type": "overloaded", "param": None, "code": None},
        ),
        (
            web.Response(text="<html>", status=429),
            429,
            {
                "message": "The model refused the request with status 429.",
                "type": "rate_limit_error",
                "param": None,
                "code": None,
            },
        ),
        (
            web.json_response({"error": "CUDA error at 10.0.0.7"}, status=500),
            502,
            {
                "message": "The model failed to answer.",
                "type": "upstream_error",
                "param": None,
                "code": "upstream_500",
            },
        ),
    ],
)
async def test_errors_of_the_service_arrive_in_openai_shape(
    answer: web.Response, status: int, error: dict[str, Any]
) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)

    async with serving(FakeModel(handle)) as model, gateway_for(config_for(model)) as client:
        answered, _, body = await client.post(CHAT, QUESTION)
    assert (answered, _error(body)) == (status, error)


async def test_a_bad_request_id_is_replaced() -> None:
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        _, headers, _ = await client.post(CHAT, QUESTION, {"x-request-id": "a b"})
    assert len(headers["x-request-id"]) == 32


async def test_health_and_metrics() -> None:
    async with gateway_for(None) as client:
        assert (await client.get("/health/live"))[0] == 200
        assert (await client.get("/health/ready"))[0] == 503
        status, _, body = await client.post(CHAT, QUESTION)
        assert (status, _error(body)["code"]) == (503, "starting")
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        assert (await client.get("/health/ready"))[0] == 200
        await client.post(CHAT, QUESTION)
        status, headers, body = await client.get("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert (
        b'llm_gateway_requests_total{code="200",endpoint="/v1/chat/completions",model="m",version="stable"} 1.0' in body
    )
    assert b'llm_gateway_tokens_total{kind="prompt",model="m"} 12.0' in body
    assert b'llm_gateway_tokens_total{kind="completion",model="m"} 3.0' in body
    assert b"llm_gateway_requests_in_flight 0.0" in body
