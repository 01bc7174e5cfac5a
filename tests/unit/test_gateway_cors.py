"""Calls by scripts of web pages: which origins may, what their browsers are told, and that none may by default."""

import pytest
from llm_gateway.config import GatewayConfig

from tests.gateway_harness import (
    CHAT,
    QUESTION,
    Client,
    FakeModel,
    chat_chunk,
    config_for,
    gateway_for,
    serving,
    stream_of,
)

APP = "https://app.example"
PREFLIGHT = {"origin": APP, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}


async def options(client: Client, path: str = CHAT, **headers: str) -> tuple[int, dict[str, str]]:
    async with client.session.options(client.url + path, headers=headers) as response:
        found = {name.lower(): value for name, value in response.headers.items()}
        return response.status, {name: value for name, value in found.items() if name.startswith(("access", "vary"))}


async def test_a_page_that_is_named_may_ask_and_read() -> None:
    async with (
        serving(FakeModel()) as model,
        gateway_for(config_for(model, server={"cors_origins": [APP, "http://localhost:3000"]})) as client,
    ):
        status, headers = await options(client, **PREFLIGHT)
        assert status == 204
        assert headers["access-control-allow-origin"] == APP
        assert headers["access-control-allow-methods"] == "GET, POST"
        assert {"X-Api-Key", "Authorization", "Content-Type"} <= set(
            headers["access-control-allow-headers"].split(", ")
        )
        assert headers["vary"] == "Origin"
        status, answered, _ = await client.post(CHAT, QUESTION, {"origin": APP})
        assert (status, answered["access-control-allow-origin"], answered["vary"]) == (200, APP, "Origin")
        assert "X-Request-Id" in answered["access-control-expose-headers"]
        status, answered, _ = await client.post(CHAT, {"model": "other", "messages": [{}]}, {"origin": APP})
        assert (status, answered["access-control-allow-origin"]) == (404, APP)
        model.handler = stream_of(chat_chunk("a", "stop"), b"data: [DONE]\n\n")
        _, answered, _ = await client.post(CHAT, {**QUESTION, "stream": True}, {"origin": APP})
        assert answered["access-control-allow-origin"] == APP


async def test_another_page_may_not_read() -> None:
    async with (
        serving(FakeModel()) as model,
        gateway_for(config_for(model, server={"cors_origins": [APP]})) as client,
    ):
        status, headers = await options(client, **{**PREFLIGHT, "origin": "https://other.example"})
        assert (status, headers) == (204, {"vary": "Origin"})
        _, answered, _ = await client.post(CHAT, QUESTION, {"origin": f"{APP}.other"})
        assert "access-control-allow-origin" not in answered
        assert (await options(client))[0] == 405  # no preflight


async def test_any_page_may_where_that_is_asked_for() -> None:
    async with serving(FakeModel()) as model, gateway_for(config_for(model, server={"cors_origins": ["*"]})) as client:
        assert (await options(client, **PREFLIGHT))[1]["access-control-allow-origin"] == "*"
        _, answered, _ = await client.post(CHAT, QUESTION)
        assert answered["access-control-allow-origin"] == "*"
        assert "vary" not in answered


async def test_no_page_may_by_default() -> None:
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        status, headers = await options(client, **PREFLIGHT)
        assert (status, headers) == (405, {})
        _, answered, _ = await client.post(CHAT, QUESTION, {"origin": APP})
        assert not [name for name in answered if name.startswith(("access", "vary"))]


@pytest.mark.parametrize("origin", ["https://app.example/", "app.example", "https://app.example?x", ""])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"must be https://HOST\[:PORT\]"):
        GatewayConfig.model_validate({"models": {"m": {"url": "http://m"}}, "server": {"cors_origins": [origin]}})
