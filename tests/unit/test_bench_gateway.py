"""The gateway's measurement: what it sends is answered whole by the model it has, and its page says what was found."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from local import bench_gateway, http_load, stub_model
from local.errors import LocalError

FIGURES: dict[str, Any] = {"p50_ms": 0.8, "p99_ms": 2.1, "first_token_ms_at_40": 0.6, "memory_mib": 60}
OURS = {**FIGURES, "first_token_ms_at_200": 0.4, "requests_per_second": 1200, "requests_per_processor_second": 1500}
HELD = {"held": 1000, "held_failed": 0, "held_memory_mib": 90}
THEIRS = {**FIGURES, "requests_per_second": 90, "requests_per_processor_second": 95}


@asynccontextmanager
async def model() -> AsyncGenerator[int]:
    server = await asyncio.start_server(stub_model.answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_whole_answer_and_a_stream_on_one_connection() -> None:
    async with model() as port:
        with closing(http_load.Connection(port)) as connection:
            whole = await connection.ask(http_load.body())
            stream = await connection.ask(http_load.body(stream=True))
    assert 0 < whole.first <= whole.last
    assert stream.last - stream.first > (stub_model.TOKENS - 1) * stub_model.PAUSE_SECONDS / 2


async def test_loads_ask_as_often_as_they_say() -> None:
    async with model() as port:
        assert len(await http_load.open_loop(port, 100, 0.3, http_load.body())) == 30
        assert await http_load.closed_loop(port, 2, 0.2) > 2
        outcomes = await http_load.at_once(port, 20, http_load.body(stream=True))
    assert [type(each) for each in outcomes] == [http_load.Timing] * 20


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}", "answered HTTP/1.1 429 Too Many Requests"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "no whole answer came from port"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "answered HTTP/1.1 200 OK"),
    ],
)
async def test_what_is_no_whole_answer_counts_as_none(answer: bytes, problem: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with closing(http_load.Connection(port)) as connection, pytest.raises(LocalError, match=problem):
            await connection.ask(http_load.body(stream=True))


def test_the_page() -> None:
    machine = {"cpu": "Some CPU", "cores": 2, "memory_gib": 24, "linux": "6.1"}
    results = {
        "measured": "2026-11-26", "machine": machine, "litellm": "1.108.7", "load": 0.1, "rounds": 3,
        "gateway": {**OURS, **HELD}, "other": THEIRS, "times": 15.8,
    }  # fmt: skip
    lines = bench_gateway.page(results).splitlines()
    assert "| added at 200 requests/s, p50 | 0.8 ms | 0.8 ms | 1.5 ms |" in lines
    assert "| requests for a second of its processor time | 1500 | 95 | 15.8 times as many; at least 15 |" in lines
    assert "| 1000 streams at once | 0 failed, 90 MiB |  | 0 failed |" in lines
