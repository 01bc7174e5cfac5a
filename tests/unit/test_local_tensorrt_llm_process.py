"""trtllm-serve as a process: exit statuses, where it listens, and what SIGTERM does to requests that run."""

import asyncio
import signal
import socket
from typing import Any

import aiohttp
import pytest
from local_runtime.tensorrt_llm.__main__ import main

from local import ports
from tests.unit.local_runtime_harness import launch, refused, serving, written

MODULE = "local_runtime.tensorrt_llm"
READY = b"Uvicorn running"


async def test_arguments_that_are_refused() -> None:
    process = await launch(MODULE, "m", "--foo")
    output, _ = await process.communicate()

    assert process.returncode == 2
    assert b"Error: No such option" in output
    assert b"Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m", "--config", "/missing.yaml"], "FileNotFoundError: [Errno 2] No such file or directory"),
        (["/missing", "--port", "0"], "must be a folder with one *.gguf file and has nothing"),
        (["m", "--host", "192.0.2.1"], "RuntimeError: Failed to bind socket to 192.0.2.1:8000"),
    ],
)
def test_what_stops_it_before_it_serves(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["trtllm-serve", *arguments])

    assert main() == 1
    assert message in caplog.text


async def test_where_it_listens_and_what_sigterm_does() -> None:
    port = ports.free()
    url = f"http://127.0.0.1:{port}"
    body: dict[str, Any] = {"model": "m", "prompt": "a", "stream": True}
    pace = {"LOCAL_ECHO_TOKENS": "40", "LOCAL_ECHO_SECONDS_PER_TOKEN": "0.05"}
    async with (
        serving(MODULE, "m", "--port", str(port), ready=READY, **pace) as process,
        aiohttp.ClientSession() as http,
    ):
        # Without --host nobody but the pod itself reaches it: another address is what probes and Services use.
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port)):
            pass
        async with http.post(f"{url}/v1/completions", json=body) as answer:
            await answer.content.readline()
            process.send_signal(signal.SIGTERM)
            await written(process, b"Shutting down")
            await refused(url)
            assert (await answer.text()).split("\n\n")[-2] == "data: [DONE]"
        assert await asyncio.wait_for(process.wait(), 10) == 0
