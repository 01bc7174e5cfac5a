"""What the tests of the local runtimes share: reading their answers, and starting one as a process."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2] / "local" / "images" / "runtime"
Client = TestClient[Any, Any]


async def events(client: Client, path: str, body: dict[str, Any]) -> list[Any]:
    """What a stream sends: the bodies of its events, and its end."""
    async with client.post(path, json={**body, "stream": True}) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        lines = (await answer.text()).split("\n\n")
    assert lines[-1] == ""
    data = [line.removeprefix("data: ") for line in lines[:-1]]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


async def samples(client: Client, path: str) -> dict[str, float]:
    """A runtime's Prometheus samples, by name and, in braces, what labels other than the common ones say."""
    common = ("model_name", "engine", "engine_type")
    async with client.get(path) as answer:
        assert answer.status == 200
        families = list(text_string_to_metric_families(await answer.text()))
    found: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        rest = ",".join(value for name, value in sample.labels.items() if name not in common)
        found[f"{sample.name}{{{rest}}}" if rest else sample.name] = sample.value
    return found


async def until(client: Client, path: str, name: str, wanted: float) -> None:
    """Waits until a sample has a value."""
    async with asyncio.timeout(5):
        while (await samples(client, path)).get(name) != wanted:  # noqa: ASYNC110  what is waited for is behind HTTP
            await asyncio.sleep(0.01)


async def refused(url: str) -> None:
    """Waits until nothing listens at an address."""
    where = urlsplit(url)
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection(where.hostname, where.port)
                writer.close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was still in the queue of the socket that closed
                pass
            await asyncio.sleep(0.01)


async def launch(module: str, *arguments: str, **environment: str) -> Process:
    """A runtime's process, its two outputs as one."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *arguments),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=PIPE,
        stderr=STDOUT,
    )


@asynccontextmanager
async def serving(
    module: str, *arguments: str, ready: bytes, engine: str = "echo", **environment: str
) -> AsyncGenerator[Process]:
    """A runtime, with the echo engine unless it is to have the real one, once it has written that it serves."""
    process = await launch(module, *arguments, LOCAL_ENGINE=engine, **environment)
    try:
        await written(process, ready)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def written(process: Process, text: bytes) -> None:
    """Waits until a process has written a line with this in it."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while text not in (line := await process.stdout.readline()):
            assert line, "the process ended"
