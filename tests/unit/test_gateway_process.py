"""The gateway as a process: it starts, drains on SIGTERM without losing a request, and logs no prompt."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiohttp import ClientConnectorError, ClientSession, web

from local import ports
from tests.gateway_harness import (
    CHAT,
    DONE,
    QUESTION,
    SOURCE,
    FakeModel,
    chat_chunk,
    config_for,
    eventually,
    serving,
    stream_held,
)

STREAM = {**QUESTION, "stream": True}


class Process:
    """A gateway started as the image starts it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.lines: list[dict[str, Any]] = []

    async def log(self, message: str) -> dict[str, Any]:
        """The next log line with this message."""
        assert self.process.stdout is not None
        while line := await asyncio.wait_for(self.process.stdout.readline(), 10):
            self.lines.append(orjson.loads(line))
            if self.lines[-1]["message"] == message:
                return self.lines[-1]
        raise AssertionError(f"the process ended without the line {message!r}: {self.lines}")

    async def end(self) -> int:
        """The exit status, all its log read."""
        assert self.process.stdout is not None
        rest = await asyncio.wait_for(self.process.stdout.read(), 10)
        self.lines += [orjson.loads(line) for line in rest.splitlines()]
        return await self.process.wait()


@asynccontextmanager
async def started(folder: Path, config: dict[str, Any]) -> AsyncGenerator[Process]:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    port = ports.free()
    arguments = ["-m", "llm_gateway", "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, "PYTHONPATH": SOURCE, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        gateway = Process(process, f"http://127.0.0.1:{port}")
        await gateway.log("listening")
        yield gateway
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_sigterm_lets_what_is_in_flight_end_and_takes_latecomers(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async with (
        serving(FakeModel(stream_held(go_on))) as model,
        ClientSession() as session,
        started(tmp_path, config_for(model, server={"drain_quiet_seconds": 0.2})) as gateway,
    ):
        async with session.get(gateway.url + "/health/ready") as ready:
            assert ready.status == 200
        async with session.post(gateway.url + CHAT, json=STREAM) as stream:
            assert await stream.content.readuntil(b"\n\n") == chat_chunk("one")
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.log("draining")
            async with session.get(gateway.url + "/health/ready") as ready:
                assert (ready.status, ready.headers["Connection"]) == (503, "close")
            async with session.get(gateway.url + "/v1/models") as late:
                assert (late.status, late.headers["Connection"]) == (200, "close")
            go_on.set()
            assert await stream.read() == chat_chunk("two", "stop") + DONE
        async with session.post(gateway.url + CHAT, json=STREAM) as late:
            assert late.headers["Connection"] == "close"
            assert await late.read() == chat_chunk("one") + chat_chunk("two", "stop") + DONE
        assert await gateway.end() == 0
        try:
            async with session.get(gateway.url + "/health/live"):
                raise AssertionError("the gateway still listens")
        except ClientConnectorError:
            pass
    assert gateway.lines[-1]["message"] == "drained"


async def test_the_drain_ends_at_its_deadline(tmp_path: Path) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        serving(FakeModel(handle)) as model,
        ClientSession() as session,
        started(tmp_path, config_for(model, server={"drain_deadline_seconds": 0.3})) as gateway,
    ):
        call = asyncio.create_task(session.post(gateway.url + CHAT, json=QUESTION))
        await eventually(lambda: model.calls == 1)
        gateway.process.send_signal(signal.SIGTERM)
        assert (await gateway.log("drain deadline reached"))["in_flight"] == 1
        assert await gateway.end() == 0
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def test_the_log_tells_all_but_what_was_said(tmp_path: Path) -> None:
    async with (
        serving(FakeModel()) as model,
        ClientSession() as session,
        started(tmp_path, config_for(model)) as gateway,
    ):
        headers = {"x-api-key": "key-in-clear", "x-request-id": "abc"}
        async with session.post(gateway.url + CHAT, json=QUESTION, headers=headers) as response:
            assert response.status == 200
        line = await gateway.log("request")
        gateway.process.send_signal(signal.SIGINT)
        assert await gateway.end() == 0
    assert {name: line[name] for name in line if name not in ("time", "duration_ms", "tenant")} == {
        "level": "info",
        "logger": "llm_gateway.access",
        "message": "request",
        "request_id": "abc",
        "method": "POST",
        "endpoint": CHAT,
        "status": 200,
        "model": "m",
        "version": "stable",
        "cache": "bypass",
        "cache_reason": "disabled",
        "tries": 1,
        "prompt_tokens": 12,
        "completion_tokens": 3,
    }
    everything = orjson.dumps(gateway.lines)
    for secret in (b"sky", b"Scattering", b"key-in-clear"):
        assert secret not in everything


async def test_a_token_may_be_as_long_as_api_gateway_hands_on(tmp_path: Path) -> None:
    async with (
        serving(FakeModel()) as model,
        started(tmp_path, config_for(model)) as gateway,
        ClientSession() as session,
    ):
        for length, expected in ((10_000, 200), (20_000, 400)):
            headers = {"authorization": "Bearer " + "a" * length}
            async with session.post(gateway.url + CHAT, json=QUESTION, headers=headers) as response:
                assert response.status == expected
    assert model.calls == 1


async def test_the_log_quotes_nothing_of_a_request_that_cannot_be_read(tmp_path: Path) -> None:
    start = f"POST {CHAT} HTTP/1.1\r\nHost: gateway\r\n"
    unreadable = (
        start + "Authorization: Bearer in-clear" + "a" * 20_000 + "\r\n\r\n",
        start + "Authorization: Bearer in-clear\0\r\n\r\n",
        start + "x-api-key in-clear\r\n\r\n",
        start + "Transfer-Encoding: chunked\r\n\r\nin-clear\r\n",
    )
    async with serving(FakeModel()) as model, started(tmp_path, config_for(model)) as gateway:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        for request in unreadable:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request.encode())
            assert b" 400 " in await reader.readline()
            writer.close()
            line = await gateway.log("Error handling request from 127.0.0.1")
            assert "aiohttp.http_exceptions." in line["exception"]
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.end() == 0
    assert "in-clear" not in str(gateway.lines)


async def test_it_is_not_ready_until_there_is_a_good_configuration(tmp_path: Path) -> None:
    async with serving(FakeModel()) as model, ClientSession() as session, started(tmp_path, {"models": {}}) as gateway:
        async with session.get(gateway.url + "/health/ready") as ready:
            assert ready.status == 503
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config_for(model)))
        await gateway.log("configuration applied")
        async with session.get(gateway.url + "/health/ready") as ready:
            assert ready.status == 200
