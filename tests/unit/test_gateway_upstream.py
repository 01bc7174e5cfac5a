"""Failures of a model service before it answers: what is tried again, and how a request ends that nobody can answer."""

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from local import ports
from tests.gateway_harness import (
    CHAT,
    DONE,
    QUESTION,
    FakeModel,
    chat_answer,
    chat_chunk,
    config_for,
    eventually,
    gateway_for,
    serving,
)

FAST = {"backoff_seconds": 0.001}


@asynccontextmanager
async def socket_server(replies: list[bytes | None]) -> AsyncGenerator[tuple[str, list[int]]]:
    """A raw server that, connection by connection, reads a request and sends a reply; None resets the connection.

    The last reply is repeated. Yields its URL and a list that grows by one with each connection.
    """
    connections: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        reply = replies[min(len(connections), len(replies)) - 1]
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        if reply is None:
            writer.transport.abort()
            return
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    finally:
        server.close()
        await server.wait_closed()


def http(body: bytes) -> bytes:
    """A raw answer that closes its connection."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + body


async def test_a_reset_before_any_answer_is_tried_again_on_another_connection() -> None:
    answer = orjson.dumps(chat_answer())
    async with (
        socket_server([None, b"", http(answer)]) as (url, connections),
        gateway_for({"models": {"m": {"url": url}}, "upstream": FAST}) as client,
    ):
        status, _, body = await client.post(CHAT, QUESTION)
        retries = [
            client.metric("llm_gateway_upstream_retries_total", model="m", kind=kind)
            for kind in ("reset", "disconnected")
        ]
    assert (status, body) == (200, answer)
    assert len(connections) == 3
    assert sum(retries) == 2


STREAM_HEADERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)


def chunked(part: bytes) -> bytes:
    """A part of a body, as HTTP frames it."""
    return b"%x\r\n%s\r\n" % (len(part), part)


async def test_a_stream_that_breaks_off_before_its_first_part_is_tried_again() -> None:
    events = chat_chunk("whole", "stop") + DONE
    whole = STREAM_HEADERS + chunked(events) + b"0\r\n\r\n"
    async with (
        socket_server([STREAM_HEADERS, STREAM_HEADERS, whole]) as (url, connections),
        gateway_for({"models": {"m": {"url": url}}, "upstream": FAST}) as client,
    ):
        status, headers, body = await client.post(CHAT, {**QUESTION, "stream": True})
        retries = client.metric("llm_gateway_upstream_retries_total", model="m", kind="reset")
        loads = dict(client.gateway.backend.upstream.loads)
    assert (status, headers["content-type"], body) == (200, "text/event-stream", events)
    assert (len(connections), retries, loads) == (3, 2, {})


async def test_a_stream_of_which_nothing_ever_comes_is_503() -> None:
    async with (
        socket_server([STREAM_HEADERS]) as (url, connections),
        gateway_for({"models": {"m": {"url": url}}, "upstream": FAST}) as client,
    ):
        status, headers, body = await client.post(CHAT, {**QUESTION, "stream": True})
    assert (status, headers["retry-after"], len(connections)) == (503, "1", 3)
    assert orjson.loads(body)["error"]["code"] == "model_unavailable"


async def test_a_refused_connection_is_tried_again_until_the_service_is_there() -> None:
    port = ports.free()
    config = {"models": {"m": {"url": f"http://127.0.0.1:{port}"}}, "upstream": {"backoff_seconds": 0.1}}
    model = FakeModel()
    async with gateway_for(config) as client:
        call = asyncio.create_task(client.post(CHAT, QUESTION))
        retried = {"model": "m", "kind": "connect"}
        await eventually(lambda: client.metric("llm_gateway_upstream_retries_total", **retried) > 0)
        runner = web.ServerRunner(web.Server(model), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        status, _, _ = await call
        await runner.cleanup()
    assert (status, model.calls) == (200, 1)


async def test_after_the_last_try_the_answer_is_503() -> None:
    config = {"models": {"m": {"url": f"http://127.0.0.1:{ports.free()}"}}, "upstream": FAST}
    async with gateway_for(config) as client:
        status, headers, body = await client.post(CHAT, QUESTION)
        errors = client.metric("llm_gateway_upstream_errors_total", model="m", kind="connect")
        retries = client.metric("llm_gateway_upstream_retries_total", model="m", kind="connect")
    assert (status, headers["retry-after"]) == (503, "1")
    assert orjson.loads(body)["error"]["code"] == "model_unavailable"
    assert (errors, retries) == (3, 2)


def held_config(port: int, timeout_seconds: float) -> dict[str, Any]:
    """A model that is scaled to zero, at a port where nobody listens yet."""
    adapters = {"adapters": {"legal": "1"}}
    route = {"url": f"http://127.0.0.1:{port}", "hold": True, "timeout_seconds": timeout_seconds, **adapters}
    return {"models": {"m": route}, "upstream": FAST}


async def test_a_request_is_held_for_the_first_pod_of_a_model_that_has_none() -> None:
    port, model = ports.free(), FakeModel()
    async with gateway_for(held_config(port, 30)) as client:
        assert client.metric("llm_gateway_model_requests_in_flight", model="m") == 0
        # One of an adapter waits for the same pod, and is counted with the others.
        questions = [QUESTION, QUESTION, {**QUESTION, "model": "legal"}]
        calls = [asyncio.create_task(client.post(CHAT, question)) for question in questions]
        await eventually(lambda: client.metric("llm_gateway_model_requests_in_flight", model="m") == 3)
        await asyncio.sleep(1)  # longer than all the tries of a model that isn't held
        assert not any(call.done() for call in calls)
        runner = web.ServerRunner(web.Server(model), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        answers = await asyncio.gather(*calls)
        await runner.cleanup()
        assert client.metric("llm_gateway_model_requests_in_flight", model="m") == 0
        assert client.metric("llm_gateway_upstream_errors_total", model="m") == 0
    assert [status for status, _, _ in answers] == [200] * 3
    assert model.calls == 3


async def test_a_request_is_not_held_for_longer_than_it_may_take() -> None:
    async with gateway_for(held_config(ports.free(), 0.7)) as client:
        status, headers, body = await client.post(CHAT, QUESTION)
        assert client.metric("llm_gateway_upstream_errors_total", model="m", kind="no_pod") == 1
        assert client.metric("llm_gateway_model_requests_in_flight", model="m") == 0
    assert (status, headers["retry-after"]) == (503, "30")
    error = orjson.loads(body)["error"]
    assert (error["code"], error["message"]) == (
        "model_starting",
        "The model is starting, and was not ready within 0.7 seconds. Ask again.",
    )


async def test_what_a_pod_may_have_got_is_not_held() -> None:
    async with socket_server([None]) as (url, connections):
        config = {"models": {"m": {"url": url, "hold": True}}, "upstream": FAST}
        async with gateway_for(config) as client:
            status, _, body = await client.post(CHAT, QUESTION)
            assert client.metric("llm_gateway_upstream_errors_total", model="m") == 3
    assert (status, orjson.loads(body)["error"]["code"]) == (503, "model_unavailable")
    assert len(connections) == 3


async def test_not_now_is_tried_again_and_passed_on_in_the_end() -> None:
    answers = [503, 503, 200, 503, 503, 503]

    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response(chat_answer(), status=answers[model.calls - 1])

    async with serving(FakeModel(handle)) as model, gateway_for(config_for(model, upstream=FAST)) as client:
        assert (await client.post(CHAT, QUESTION))[0] == 200
        status, _, body = await client.post(CHAT, QUESTION)
    assert (status, orjson.loads(body)["error"]["code"]) == (503, "upstream_503")
    assert model.calls == 6


@pytest.mark.parametrize("status", [400, 429, 500, 502, 504])
async def test_any_other_answer_is_not_tried_again(status: int) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=status)

    async with serving(FakeModel(handle)) as model, gateway_for(config_for(model, upstream=FAST)) as client:
        answered, _, _ = await client.post(CHAT, QUESTION)
    assert model.calls == 1
    assert answered == (502 if status in (500, 502) else status)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"garbage\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "incomplete"),
        (http(b"x" * 2000), "too_long"),
    ],
)
async def test_a_broken_answer_is_502_and_not_tried_again(reply: bytes, code: str) -> None:
    async with socket_server([reply]) as (url, connections):
        config = {"models": {"m": {"url": url}}, "upstream": {**FAST, "max_response_bytes": 1000}}
        async with gateway_for(config) as client:
            status, _, body = await client.post(CHAT, QUESTION)
    assert (status, orjson.loads(body)["error"]["code"]) == (502, code)
    assert len(connections) == 1


async def test_a_service_that_hangs_is_504_at_the_deadline() -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        serving(FakeModel(hang)) as model,
        gateway_for({"models": {"m": {"url": model.url, "timeout_seconds": 0.1}}}) as client,
    ):
        status, _, body = await client.post(CHAT, QUESTION)
        errors = client.metric("llm_gateway_upstream_errors_total", model="m", kind="timeout")
    assert (status, errors, model.calls) == (504, 1, 1)
    assert orjson.loads(body)["error"]["message"] == "The model did not answer within 0.1 seconds."


async def test_connections_are_asked_whether_their_other_side_is_there() -> None:
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        assert (await client.post(CHAT, QUESTION))[0] == 200
        opened = [each for each in _sockets() if _peer(each) == int(model.url.rpartition(":")[2])]
        assert opened
        for each in opened:
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            probed_for_s = sum(
                each.getsockopt(socket.IPPROTO_TCP, option) * times
                for option, times in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 3))
            )
            assert probed_for_s == 10
            assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


def _sockets() -> list[socket.socket]:
    """This process's own sockets that the gateway has made."""
    return [each for each in gc.get_objects() if isinstance(each, socket.socket) and each.family == socket.AF_INET]


def _peer(each: socket.socket) -> int:
    """The port on the other side; 0 where there is none."""
    try:
        return each.getpeername()[1]
    except OSError:
        return 0
