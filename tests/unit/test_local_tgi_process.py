"""The launcher as a process: exit statuses, its log, and what SIGTERM does to requests that run."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from local_runtime.llama import NoModelError, find_model

from local import ports
from tests.unit.local_runtime_harness import refused, written

ROOT = Path(__file__).resolve().parents[2] / "local" / "images" / "runtime"


async def launch(*arguments: str, **environment: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "local_runtime.tgi", *arguments),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=PIPE,
        stderr=PIPE,
    )


@asynccontextmanager
async def serving(*arguments: str, **environment: str) -> AsyncGenerator[tuple[Process, str]]:
    """A launcher with the echo engine, and its address."""
    port = ports.free()
    server = ("--hostname", "127.0.0.1", "--port", str(port), *arguments)
    process = await launch(*server, LOCAL_ENGINE="echo", **environment)
    try:
        await written(process, b"Connected")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--foo"], 2, "error: unexpected argument '--foo' found"),
        (["--max-input-tokens", "5", "--max-total-tokens", "5"], 1, "must be < `max_total_tokens`(5)"),
    ],
)
async def test_refused_arguments(arguments: list[str], status: int, message: str) -> None:
    process = await launch(*arguments)
    _, errors = await process.communicate()

    assert process.returncode == status
    assert message in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    process = await launch("--model-id", str(tmp_path), "--json-output")
    output, errors = await process.communicate()

    assert (process.returncode, errors) == (1, b"")
    line = json.loads(output.splitlines()[-1])
    assert line["level"] == "ERROR"
    assert "must be a folder with one *.gguf file and has model.safetensors" in line["message"]


def test_the_model_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()

    assert find_model(str(tmp_path)) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    with pytest.raises(NoModelError, match=r"has a\.gguf, b\.gguf"):
        find_model(str(tmp_path))


async def chunks(answer: aiohttp.ClientResponse) -> list[str]:
    return (await answer.text()).split("\n\n")


async def test_sigterm_finishes_what_runs_and_takes_nothing_new() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "stream": True}
    pace = {"LOCAL_ECHO_TOKENS": "20", "LOCAL_ECHO_SECONDS_PER_TOKEN": "0.05"}
    async with serving(**pace) as (process, url), aiohttp.ClientSession() as http:
        async with http.get(f"{url}/health") as answer:  # its connection stays open, idle
            assert answer.status == 200
        async with http.post(f"{url}/v1/chat/completions", json=body) as answer:
            await answer.content.readline()
            process.send_signal(signal.SIGTERM)
            await refused(url)
            assert (await chunks(answer))[-2] == "data: [DONE]"
        assert await process.wait() == 0


async def test_the_graceful_timeout_is_kept() -> None:
    body = {"inputs": "a"}
    pace = {"LOCAL_ECHO_TOKENS": "20", "LOCAL_ECHO_SECONDS_PER_TOKEN": "1"}
    async with (
        serving("--graceful-termination-timeout", "1", **pace) as (process, url),
        aiohttp.ClientSession() as http,
    ):
        request = asyncio.create_task(http.post(f"{url}/generate", json=body))
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)

        assert await asyncio.wait_for(process.wait(), 10) == 0
        with pytest.raises(aiohttp.ClientError):
            await request
