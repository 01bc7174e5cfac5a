"""Asks a running embedder, started as its image starts it, for vectors: many callers at once, then one with everything.

What `verify_embedder` compares besides the backends' own vectors: the way through HTTP, queue and batches.
"""

import base64
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from embedder.model import Vectors

from local import ports
from local.errors import LocalError
from local.paths import image_sources

CALLERS = 32
_START_SECONDS = 300
_STOP_SECONDS = 30
_MODEL = "verified"


@dataclass(frozen=True, slots=True)
class Served:
    """What a running embedder answered."""

    vectors: dict[str, Vectors]
    start_seconds: float
    seconds: float
    """For one request for each text, from `CALLERS` callers at once."""
    inputs_per_batch: float
    """On average, of those requests."""
    exit_status: int
    """After SIGTERM."""
    log: list[str]
    """The first lines that it wrote: what the driver check said is among them."""


def ask(python: Path, model: Path, backend: str, device: str, texts: Sequence[str]) -> Served:
    """Starts `python -m embedder` on a free port, asks it for the vectors of `texts`, stops it.

    Raises LocalError where it does not start, or an answer is not as it should be.
    """
    begun = time.monotonic()
    with _running(python, model, backend, device) as (process, url, log):
        started = time.monotonic() - begun
        begun = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as callers:
            single = [each[0] for each in callers.map(partial(_embed, url, "base64"), ([text] for text in texts))]
        seconds = time.monotonic() - begun
        batches, inputs = (_metric(url, f"llm_embedder_batch_inputs_{name}") for name in ("count", "sum"))
        whole = _embed(url, "float", texts)
        process.send_signal(signal.SIGTERM)
        status = process.wait(_STOP_SECONDS)
        name = f"served {backend} {device}"
        return Served(
            vectors={f"{name}, alone": np.array(single, np.float32), f"{name}, at once": np.array(whole, np.float32)},
            start_seconds=round(started, 1),
            seconds=round(seconds, 3),
            inputs_per_batch=round(inputs / batches, 1),
            exit_status=status,
            log=log.read_text(encoding="utf-8").splitlines()[:3],
        )


@contextmanager
def _running(
    python: Path, model: Path, backend: str, device: str
) -> Generator[tuple[subprocess.Popen[bytes], str, Path]]:
    port = ports.free()
    settings = {
        "BACKEND": backend,
        "DEVICE": device,
        "MODEL_DIR": str(model),
        "MODEL_NAME": _MODEL,
        "TRUNCATE": "true",
        "DRAIN_QUIET_SECONDS": "0.2",
    }
    path = os.pathsep.join([image_sources("embedder", "http-service"), os.environ.get("PYTHONPATH", "")])
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **offline, **{f"EMBEDDER_{name}": value for name, value in settings.items()}}
    command = [str(python), "-m", "embedder", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(process, url, Path(log.name))
            yield process, url, Path(log.name)
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=1) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    last = log.read_text(encoding="utf-8").splitlines()[-1:]
    raise LocalError("the embedder did not start", "it said: " + " ".join(last))


def _embed(url: str, encoding: str, texts: Sequence[str]) -> list[Any]:
    body = json.dumps({"model": _MODEL, "input": list(texts), "encoding_format": encoding}).encode()
    request = urllib.request.Request(f"{url}/v1/embeddings", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_START_SECONDS) as answer:  # noqa: S310
            found = json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise LocalError(f"the embedder refused a request: {error.read().decode()}") from error
    if [each["index"] for each in found] != list(range(len(texts))):
        raise LocalError("the embedder's answer has other inputs than the request")
    vectors = [each["embedding"] for each in found]
    return [np.frombuffer(base64.b64decode(each), "<f4") for each in vectors] if encoding == "base64" else vectors


def _metric(url: str, name: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310
        match = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(match[1]) if match else 0.0
