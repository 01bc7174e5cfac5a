"""Requests that nobody foresaw: each is understood or refused in the shape of every other error, whatever is in it."""

import json
from typing import Any

import orjson
import pytest
from http_service.errors import ApiError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llm_gateway import cache_policy, inference, stream_usage
from llm_gateway.config import CacheConfig, GatewayConfig
from llm_gateway.inference import Endpoint
from llm_gateway.semantic_question import question

from tests.gateway_harness import CHAT, QUESTION, FakeModel, config_for, gateway_for, serving

CONFIG = GatewayConfig.model_validate(
    {
        "models": {
            "m": {"url": "http://m:1", "adapters": {"legal": "1"}},
            "e": {"url": "http://e:1", "kind": "embedding"},
        }
    }
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({}, optional={"role": SCALARS | st.just("user"), "content": VALUES}) | VALUES, max_size=4
)
KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["m", "legal", "e", "m@stable", "@", ""]) | VALUES,
    "messages": MESSAGES | VALUES,
    "prompt": VALUES,
    "inputs": VALUES,
    "input": VALUES,
    "parameters": st.dictionaries(st.sampled_from(["adapter_id", "temperature", "top_k"]), VALUES) | VALUES,
    "stream": st.booleans() | VALUES,
    "stream_options": VALUES,
    "temperature": VALUES,
    "n": VALUES,
    "tools": VALUES,
}
REQUESTS = st.fixed_dictionaries({}, optional=KNOWN)


def nested(depth: int) -> bytes:
    """A chat whose only unknown field is this deep."""
    inside = b"[" * depth + b"]" * depth
    return orjson.dumps({**QUESTION, "temperature": 0})[:-1] + b',"deep":' + inside + b"}"


def outcome(endpoint: Endpoint, body: bytes, header: str | None) -> inference.Inference | ApiError:
    """What becomes of a request."""
    try:
        return inference.parse(endpoint, body, header, CONFIG.routes, CONFIG.adapters)
    except ApiError as error:
        return error


def understood(endpoint: Endpoint, body: bytes, header: str | None) -> bool:
    """Whether a request is understood, all that is worked out of it included; not, where it is refused."""
    parsed = outcome(endpoint, body, header)
    if isinstance(parsed, ApiError):
        assert parsed.status in (400, 404)
        assert orjson.loads(parsed.body())["error"]["message"]
        return False
    assert parsed.model in CONFIG.routes
    cache_policy.bypass_reason(parsed, {}, CacheConfig())
    assert cache_policy.key(parsed, "tenant", "1") == cache_policy.key(parsed, "tenant", "1")
    question(parsed, "tenant", "1", 800)
    assert orjson.loads(stream_usage.asking(parsed)).keys() >= parsed.fields.keys()
    return True


@settings(max_examples=400)
@given(
    st.sampled_from(Endpoint), REQUESTS, st.none() | st.sampled_from(["m", "legal", "e", "x"]) | st.text(max_size=20)
)
def test_any_json_is_understood_or_refused(endpoint: Endpoint, fields: dict[str, Any], header: str | None) -> None:
    understood(endpoint, json.dumps(fields).encode(), header)


@given(st.sampled_from(Endpoint), st.binary(max_size=200))
@example(Endpoint.CHAT, b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}')
@example(Endpoint.CHAT, b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}')
@example(Endpoint.CHAT, b'{"model":"m","model":"x","messages":[{}]}')
@example(Endpoint.CHAT, b"\xef\xbb\xbf{}")
def test_any_bytes_are_understood_or_refused(endpoint: Endpoint, body: bytes) -> None:
    understood(endpoint, body, None)


@pytest.mark.parametrize("depth", [1, 100, 248, 249, 250, 254, 255, 300, 1020, 1024, 5000, 100_000])
def test_nesting_of_any_depth(depth: int) -> None:
    assert understood(Endpoint.CHAT, nested(depth), None) is (depth <= 249)


@given(st.binary(max_size=300), st.integers(1, 40), st.booleans())
@example(b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n' * 3, 7, False)
@example(b'data: {"usage":1}\r\n\r\ndata: x\n\n', 3, False)
def test_a_stream_of_anything_goes_on_in_whole(stream: bytes, size: int, asked: bool) -> None:
    events = stream_usage.WholeEvents(asked=asked)
    passed = b"".join(events.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + events.rest()
    if asked or b'"usage"' not in stream:
        assert passed == stream
    else:
        assert len(passed) <= len(stream)


async def test_what_is_refused_is_so_over_http_and_the_next_request_is_answered() -> None:
    bodies = [nested(1000), b"\xff\xfe", b"[]", b'{"model":"m","messages":[{"content":1}]}' * 2, b"null", b""]
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        for body in bodies:
            async with client.session.post(client.url + CHAT, data=body) as answer:
                assert answer.status == 400, body[:40]
                assert (await answer.json())["error"]["type"] == "invalid_request_error"
            assert (await client.post(CHAT, QUESTION))[0] == 200
    assert model.calls == len(bodies)
