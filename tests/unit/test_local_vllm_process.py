"""`vllm serve` as a process: exit statuses, what it warns of, and what SIGTERM does to requests that run."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from local_runtime.vllm.__main__ import main
from local_runtime.vllm.storage import StorageError, download
from moto import mock_aws

from local import ports
from tests.unit.local_runtime_harness import launch, serving, written

MODULE = "local_runtime.vllm"
READY = b"Starting vLLM server"
BODY: dict[str, Any] = {"prompt": "a", "max_tokens": 40, "stream": True}
PACE = {"LOCAL_ECHO_TOKENS": "40", "LOCAL_ECHO_SECONDS_PER_TOKEN": "0.05"}


async def test_arguments_that_are_refused() -> None:
    process = await launch(MODULE, "serve", "m", "--foo")
    output, _ = await process.communicate()

    assert process.returncode == 2
    assert b"vllm: error: unrecognized arguments: --foo" in output
    assert b"Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--gpu-memory-utilization", "2"], {}, "Input should be less than or equal to 1"),
        ([], {"VLLM_PORT": "tcp://10.96.0.7:8000"}, "appears to be a URI"),
        (["--fail-on-environ-validation"], {"VLLM_FOO": "1"}, "ValueError: Unknown vLLM environment variable detected"),
        ([], {"VLLM_FOO": "1"}, "Unknown vLLM environment variable detected: VLLM_FOO"),
        ([], {}, "must be a folder with one *.gguf file and has nothing"),
    ],
)
def test_what_stops_it_before_it_loads(
    arguments: list[str],
    variables: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("sys.argv", ["vllm", "serve", "/missing", *arguments])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main() == 1
    assert message in caplog.text


async def events(answer: aiohttp.ClientResponse) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in (await answer.text()).splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line)["choices"][0]["finish_reason"] for line in lines]


@pytest.mark.parametrize(("seconds", "reason"), [("0", "abort"), ("30", "length")])
async def test_sigterm_aborts_or_finishes_what_runs_as_it_is_told(seconds: str, reason: str) -> None:
    port = ports.free()
    url = f"http://127.0.0.1:{port}"
    arguments = ("serve", "m", "--host", "127.0.0.1", "--port", str(port), "--shutdown-timeout", seconds)
    async with serving(MODULE, *arguments, ready=READY, **PACE) as process, aiohttp.ClientSession() as http:
        async with http.post(f"{url}/v1/completions", json=BODY) as answer:
            await answer.content.readline()
            process.send_signal(signal.SIGTERM)
            await written(process, b"stopping engine client")
            if reason == "length":
                async with http.post(f"{url}/v1/completions", json=BODY) as refused:  # the port is open until the end
                    assert await events(refused) == ["abort"]
            reasons = await events(answer)
            assert reasons[-1] == reason
            assert (len(reasons) == 39) == (reason == "length")  # of 40, and one was read above
        assert await asyncio.wait_for(process.wait(), 10) == 0


@mock_aws
def test_weights_from_s3(tmp_path: Path) -> None:
    session: Any = boto3.Session()
    s3 = session.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="weights")
    for key in ("models/tiny/1/model.gguf", "models/tiny/1/README.md", "models/tiny/10/model.gguf"):
        s3.put_object(Bucket="weights", Key=key, Body=key.encode())

    folder = download("s3://weights/models/tiny/1", {"VLLM_CACHE_ROOT": str(tmp_path)})

    assert [path.name for path in folder.iterdir()] == ["model.gguf"]
    assert (folder / "model.gguf").read_text() == "models/tiny/1/model.gguf"
    with pytest.raises(StorageError, match=r"s3://missing/a: .*NoSuchBucket"):
        download("s3://missing/a", {"VLLM_CACHE_ROOT": str(tmp_path)})
