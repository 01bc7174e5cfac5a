"""The embedder as a process: it starts as its image starts it, drains on SIGTERM, says in a line why it does not."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession
from embedder import onnx_model

from local import ports
from local.paths import image_sources
from tests.embedder_harness import CAT, CLS, HIDDEN, SEP, write_model

SOURCE = image_sources("embedder", "http-service")


def environment(**settings: str) -> dict[str, str]:
    variables = {f"EMBEDDER_{name}": value for name, value in settings.items()}
    return {**os.environ, "PYTHONPATH": SOURCE, "PYTHONUNBUFFERED": "1", **variables}


async def test_it_serves_and_ends_when_it_is_told(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    onnx_model.write(tmp_path / "model", tmp_path / "graph")
    home = tmp_path / "home"
    home.mkdir()
    port = ports.free()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "embedder", "--host", "127.0.0.1", "--port", str(port)),
        env={
            **environment(MODEL_DIR=str(tmp_path / "graph"), MODEL_NAME="tiny", DRAIN_QUIET_SECONDS="0", THREADS="1"),
            "HOME": str(home),
            "CI": "",  # ONNX Runtime reports nothing from there anyway
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first = orjson.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    async with ClientSession() as session:
        body: dict[str, Any] = {"model": "tiny", "input": ["secret cat", [CLS, CAT, SEP]]}
        async with session.post(f"http://127.0.0.1:{port}/v1/embeddings", json=body) as response:
            answer = await response.json()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\nsecret cat\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    process.send_signal(signal.SIGTERM)
    rest = await asyncio.wait_for(process.stdout.read(), 30)
    complaints = await process.stderr.read()
    status = await process.wait()

    assert (first["message"], first["dimensions"]) == ("listening", HIDDEN)
    assert [len(each["embedding"]) for each in answer["data"]] == [HIDDEN] * 2
    assert status == 0
    lines = [orjson.loads(line) for line in rest.splitlines()]
    unreadable = "Error handling request from 127.0.0.1"
    assert [line["message"] for line in lines] == ["request", unreadable, "draining", "drained"]
    assert lines[1]["exception"].endswith("aiohttp.http_exceptions.BadHttpMessage")
    assert (lines[0]["status"], lines[0]["inputs"]) == (200, 2)
    assert b"secret" not in rest
    assert complaints == b""
    # ONNX Runtime keeps the id that it reports its use with there, unless it is told not to report.
    assert list(home.rglob("*")) == []


def failed(**settings: str) -> str:
    """What an embedder with these settings says when it does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "embedder", "--port", "0"],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return orjson.loads(line)["message"]


def test_why_it_does_not_start_is_one_line(tmp_path: Path) -> None:
    assert failed(THREADS="none").startswith("EMBEDDER_THREADS: Input should be a valid integer")
    assert failed(MODEL_DIR=str(tmp_path)) == f"{tmp_path}/config.json cannot be read: No such file or directory"


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is here")
def test_without_pytorch_the_image_is_named(tmp_path: Path) -> None:
    write_model(tmp_path)

    assert failed(BACKEND="torch", MODEL_DIR=str(tmp_path)).startswith("the image has no torch: use the CUDA image")


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is here")
def test_on_a_machine_without_a_gpu_the_check_says_so(tmp_path: Path) -> None:
    assert failed(BACKEND="torch", DEVICE="cuda").startswith("PyTorch cannot be imported (No module named 'torch')")
