"""Chat requests by the thousand, each timed: what a benchmark sends to a gateway, and to the model behind it.

Written on asyncio's own streams of bytes, for the same reason as `local.stub_model`.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from local.errors import LocalError

KEY = "sk-bench"
_WAIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from the sending of a request to the first byte of its answer's body, and to the last."""

    first: float
    last: float


class Connection:
    """One connection to a server on this machine, that is used again and again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> Timing:
        """Sends a request and reads its answer. Raises LocalError where it is not 200 and whole."""
        reader, writer = self._streams or await asyncio.open_connection("127.0.0.1", self._port)
        self._streams = reader, writer
        begun = time.perf_counter()
        writer.write(_request(body, self._port))
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                first, end = await _read_body(head, reader)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            raise LocalError(f"no whole answer came from port {self._port}: {type(error).__name__}") from None
        last = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200") or not end:
            raise LocalError(f"port {self._port} answered {head.partition(bytes([13]))[0].decode()}")
        return Timing(first - begun, last - begun)

    def close(self) -> None:
        """Closes it."""
        if self._streams:
            self._streams[1].close()


async def _read_body(head: bytes, reader: asyncio.StreamReader) -> tuple[float, bool]:
    """When the body began, and whether it is whole; a stream is with its `[DONE]`."""
    lower = head.lower()
    if b"content-length:" in lower:
        length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        return time.perf_counter(), True
    first, last = 0.0, b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunk = await reader.readexactly(size + 2)
        first, last = first or time.perf_counter(), chunk
    await reader.readexactly(2)
    return first, b"[DONE]" in last


def body(*, stream: bool = False, tokens: int = 10) -> bytes:
    """A chat request."""
    question = {"role": "user", "content": "Why is the sky blue? Answer in a few words, and mention who found out."}
    fields = {"model": "m", "messages": [question], "max_tokens": tokens, "temperature": 0.7, "stream": stream}
    return json.dumps(fields).encode()


def _request(content: bytes, port: int) -> bytes:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def closed_loop(port: int, connections: int, seconds: float) -> int:
    """How many requests so many connections get answered, each sending the next when it has its answer."""
    until, content = time.perf_counter() + seconds, body()

    async def run() -> int:
        count = 0
        with closing(Connection(port)) as connection:
            while time.perf_counter() < until:
                await connection.ask(content)
                count += 1
        return count

    return sum(await asyncio.gather(*(run() for _ in range(connections))))


async def open_loop(port: int, rate: float, seconds: float, content: bytes) -> list[Timing]:
    """The timings of requests that begin at this rate, whether or not those before them have ended."""
    free: list[Connection] = []
    begun = time.perf_counter()

    async def one(number: int) -> Timing:
        await asyncio.sleep(begun + number / rate - time.perf_counter())
        connection = free.pop() if free else Connection(port)
        timing = await connection.ask(content)
        free.append(connection)
        return timing

    timings = await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    for connection in free:
        connection.close()
    return timings


async def at_once(port: int, streams: int, content: bytes) -> Sequence[BaseException | Timing]:
    """What came of so many requests that all run at the same time."""
    connections = [Connection(port) for _ in range(streams)]
    try:
        return await asyncio.gather(*(each.ask(content) for each in connections), return_exceptions=True)
    finally:
        for each in connections:
            each.close()
