"""Traces at a collector that parses what it gets: the spans of each kind of request, and that they cost no request."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from llm_gateway.cache_policy import tenant
from llm_gateway.config import GatewayConfig
from llm_gateway.tracing import is_sampled
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.gateway_harness import (
    CHAT,
    DONE,
    QUESTION,
    SOURCE,
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
    stream_of,
)

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE_ID}-{CALLER}-00"}


class Collector:
    """An OTLP/HTTP receiver."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.path == "/v1/traces"
        await self.go_on.wait()
        self.bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    @property
    def spans(self) -> dict[str, list[Span]]:
        """The spans so far by name, in the order of their ends."""
        found: dict[str, list[Span]] = {}
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                assert attributes(resource.resource)["service.name"] == "llm-gateway"
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found.setdefault(span.name, []).append(span)
        return found


def attributes(thing: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in thing.attributes}


@asynccontextmanager
async def collecting() -> AsyncGenerator[Collector]:
    collector = Collector()
    runner = web.ServerRunner(web.Server(collector), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        collector.go_on.set()
        await runner.cleanup()


def tracer_of(client: Client) -> Any:
    return client.gateway.tracer


@asynccontextmanager
async def traced(collector: Collector, model: FakeModel, **sections: Any) -> AsyncGenerator[Client]:
    """A gateway that sends its traces to `collector`, in front of `model`, which is served, too."""
    async with serving(model):
        traces = {"endpoint": collector.url, **sections.pop("traces", {})}
        async with gateway_for(config_for(model, traces=traces, **sections)) as client:
            yield client


async def flushed(client: Client, collector: Collector) -> dict[str, list[Span]]:
    """The spans of all requests so far: a change of configuration away from traces sends what waits."""
    await eventually(lambda: client.gateway.in_flight == 0)
    tracer, client.gateway.tracer = client.gateway.tracer, None
    assert tracer is not None
    await tracer.close()
    return collector.spans


async def test_a_plain_request_is_a_server_span_with_its_try_at_the_model() -> None:
    model = FakeModel()
    async with collecting() as collector, traced(collector, model) as client:
        sent = {**SAMPLED, "tracestate": "vendor=1", "X-Request-Id": "id-1", "Authorization": "Bearer key"}
        status, _, _ = await client.post(CHAT, QUESTION, sent)
        spans = await flushed(client, collector)
        assert client.metric("llm_gateway_trace_spans_total", result="exported") == 2
    assert status == 200
    (server,), (attempt,) = spans[f"POST {CHAT}"], spans["chat m"]
    assert server.kind == Span.SPAN_KIND_SERVER
    assert server.trace_id.hex() == TRACE_ID
    assert server.parent_span_id.hex() == CALLER
    known = attributes(server)
    assert known == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": CHAT,
        "url.path": CHAT,
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "llm_gateway.version": known["llm_gateway.version"],
        "llm_gateway.request_id": "id-1",
        "llm_gateway.tenant": tenant({"authorization": "Bearer key"}),
        "llm_gateway.cache": "bypass",
        "llm_gateway.cache_reason": "disabled",
        "llm_gateway.tries": 1,
    }
    assert attempt.kind == Span.SPAN_KIND_CLIENT
    assert attempt.parent_span_id == server.span_id
    assert attributes(attempt)["gen_ai.usage.output_tokens"] == 3
    assert attributes(attempt)["http.response.status_code"] == 200
    assert server.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.end_time_unix_nano <= server.end_time_unix_nano
    (headers,) = model.headers
    assert headers["traceparent"] == f"00-{TRACE_ID}-{attempt.span_id.hex()}-01"
    assert headers["tracestate"] == "vendor=1"


async def test_a_streamed_request_has_the_event_of_its_first_token() -> None:
    model = FakeModel(stream_of(chat_chunk("a"), chat_chunk("b", "stop"), DONE))
    async with collecting() as collector, traced(collector, model) as client:
        await client.post(CHAT, {**QUESTION, "stream": True}, SAMPLED)
        spans = await flushed(client, collector)
    (server,) = spans[f"POST {CHAT}"]
    assert [event.name for event in server.events] == ["first_token"]
    assert server.start_time_unix_nano <= server.events[0].time_unix_nano <= server.end_time_unix_nano
    assert attributes(server)["llm_gateway.stream"] is True


async def test_a_retried_request_has_a_span_for_each_try() -> None:
    async def once_not_now(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503) if model.calls == 1 else web.json_response(chat_answer())

    model = FakeModel(once_not_now)
    async with collecting() as collector, traced(collector, model, upstream={"backoff_seconds": 0.001}) as client:
        assert (await client.post(CHAT, QUESTION, SAMPLED))[0] == 200
        spans = await flushed(client, collector)
    first, second = spans["chat m"]
    assert first.status.code == 2
    assert attributes(first)["error.type"] == "unavailable"
    assert attributes(second)["http.request.resend_count"] == 1
    assert second.status.code == 0
    assert [headers["traceparent"].split("-")[2] for headers in model.headers] == [
        first.span_id.hex(),
        second.span_id.hex(),
    ]


async def test_a_failed_request_says_why() -> None:
    async def broken(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500, text="boom")

    async with collecting() as collector, traced(collector, FakeModel(broken)) as client:
        status, _, _ = await client.post(CHAT, QUESTION, SAMPLED)
        await client.post(CHAT, {**QUESTION, "model": "unheard-of"}, SAMPLED)
        spans = await flushed(client, collector)
    failed, refused = spans[f"POST {CHAT}"]
    assert failed.status.code == 2
    assert attributes(failed)["http.response.status_code"] == status
    assert attributes(spans["chat m"][0])["http.response.status_code"] == 500
    assert spans["chat m"][0].status.code == 2
    assert refused.status.code == 0  # the caller's fault is none of the server's
    assert attributes(refused)["error.type"] == "model_not_found"
    assert "gen_ai.request.model" not in attributes(refused)


@pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")
async def test_a_cached_request_has_a_lookup_and_no_try(redis: RedisServer) -> None:
    cache = {"enabled": True, "url_file": str(redis.url_file), "timeout_seconds": 1, "retry_seconds": 0.02}
    async with collecting() as collector, traced(collector, FakeModel(), cache=cache) as client:
        await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
        await client.post(CHAT, QUESTION, UNSAMPLED)
        store = client.gateway.backend.cache
        assert store is not None
        await store.settle()
        await client.post(CHAT, QUESTION, SAMPLED)
        spans = await flushed(client, collector)
    assert sorted(spans) == [f"POST {CHAT}", "cache lookup"]
    (server,), (lookup,) = spans[f"POST {CHAT}"], spans["cache lookup"]
    assert lookup.parent_span_id == server.span_id
    assert attributes(server)["llm_gateway.cache"] == "hit"


async def test_who_has_decided_is_followed_and_its_header_passed_on() -> None:
    model = FakeModel()
    async with collecting() as collector, traced(collector, model, traces={"sample_percent": 100}) as client:
        await client.post(CHAT, QUESTION, UNSAMPLED)
        await client.post(CHAT, QUESTION)
        spans = await flushed(client, collector)
    assert model.headers[0]["traceparent"] == UNSAMPLED["traceparent"]
    (server,) = spans[f"POST {CHAT}"]
    assert server.trace_id.hex() != TRACE_ID
    assert server.parent_span_id == b""


@pytest.mark.parametrize(
    "traceparent", [None, "", "nonsense", f"00-{'0' * 32}-{CALLER}-01", f"ff-{TRACE_ID}-{CALLER}-01"]
)
def test_a_header_that_decides_nothing_leaves_it_to_the_percentage(traceparent: str | None) -> None:
    assert is_sampled(traceparent, 100)
    assert not is_sampled(traceparent, 0)


@pytest.mark.parametrize("down", [True, False])
async def test_a_collector_that_is_down_or_slow_delays_no_request(down: bool) -> None:
    async with collecting() as collector, serving(FakeModel()) as model:
        collector.go_on.clear()
        endpoint = "http://127.0.0.1:9" if down else collector.url
        config = config_for(model, traces={"endpoint": endpoint, "sample_percent": 100})
        async with gateway_for(config) as client:
            started = time.monotonic()
            for _ in range(1100):  # more spans than may wait
                assert (await client.post(CHAT, QUESTION))[0] == 200
            assert time.monotonic() - started < 30  # far less than an export's 5 s for each batch, one after another
            assert client.metric("llm_gateway_requests_total", code="200") == 1100
            lost = client.metric("llm_gateway_trace_spans_total", result="dropped")
            assert lost + client.metric("llm_gateway_trace_spans_total", result="failed") > 0
            collector.go_on.set()


async def test_no_prompt_answer_or_key_is_in_what_is_exported() -> None:
    async def secretive(_: web.Request) -> web.StreamResponse:
        return web.json_response(chat_answer("canary-answer"))

    question = {**QUESTION, "messages": [{"role": "user", "content": "canary-prompt"}], "user": "canary-user"}
    headers = {**SAMPLED, "x-api-key": "canary-key", "Authorization": "Bearer canary-token"}
    async with collecting() as collector, traced(collector, FakeModel(secretive)) as client:
        assert b"canary-answer" in (await client.post(CHAT, question, headers))[2]
        await client.post(CHAT, {**question, "model": "canary-model"}, headers)
        await client.post(CHAT, b'{"canary-broken', headers)
        await client.post("/canary-path?canary=query", question, headers)
        spans = await flushed(client, collector)
    assert len(spans[f"POST {CHAT}"]) == 3
    assert len(spans["POST"]) == 1
    assert b"canary" not in b"".join(collector.bodies)


async def test_traces_are_turned_on_and_off_while_the_gateway_runs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "llm_gateway.access")
    async with collecting() as collector, serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        assert tracer_of(client) is None
        await client.post(CHAT, QUESTION, SAMPLED)
        client.gateway.configure(GatewayConfig.model_validate(config_for(model, traces={"endpoint": collector.url})))
        await client.post(CHAT, QUESTION, SAMPLED)
        tracer = tracer_of(client)
        client.gateway.configure(GatewayConfig.model_validate(config_for(model)))
        assert tracer_of(client) is None
        await client.post(CHAT, QUESTION, SAMPLED)
        assert tracer is not None
        await tracer.close()
        await eventually(lambda: client.gateway.in_flight == 0)
    assert len(collector.spans[f"POST {CHAT}"]) == 1
    fields: list[dict[str, Any]] = [vars(each)["fields"] for each in caplog.records if each.message == "request"]
    assert [each.get("trace_id") for each in fields] == [None, TRACE_ID, None]
    assert model.headers[0]["traceparent"] == SAMPLED["traceparent"]


def test_a_gateway_without_traces_does_not_load_the_exporter() -> None:
    program = "import llm_gateway.__main__, sys; print(sorted(set({!r}) & set(sys.modules)))"
    heavy = ["llm_gateway.trace_export", "opentelemetry.exporter", "google.protobuf", "requests"]
    command = [sys.executable, "-c", program.format(heavy)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, check=True)
    assert orjson.loads(done.stdout) == []
