"""Measures the LLM gateway before a model that costs nothing: what it adds to an answer, and what it takes for one.

python -m local.bench_gateway

LiteLLM's proxy, which a user would take instead, gets the same load in the same run, with one worker, its own keys off
and no database. The client and the model share the processors with them: so what is compared is how many requests each
answers for a second of its own processor time, and times are those over a direct call.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from local import http_load, machine, memory, ports, processes, stub_model
from local.console import console
from local.errors import LocalError
from local.paths import ROOT, image_sources
from local.weights import uv

RESULTS = ROOT / "bench"
LITELLM = "litellm[proxy]==1.108.7"
"""The newest whose proxy was whole in the package index on 2026-11-26: 1.110's own part of it was not there."""
CONNECTIONS = 16
RATE = 200
"""Requests a second where times are measured: enough to meet each other, few enough to wait for nobody."""
SLOW_RATE = 40
"""Streams a second between which the processors go idle, and each request finds their caches cold."""
SECONDS = 8.0
ROUNDS = 3
HELD = 1000
LIMITS = {"p50_ms": 1.5, "p99_ms": 5.0, "first_token_ms": 1.0, "times": 15}


def run() -> None:
    """Measures both, and writes bench/gateway.json and bench/gateway.md."""
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as folder, console.status("measuring: the LLM gateway"):
        ours, theirs = _both(Path(folder))
    results: dict[str, Any] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "litellm": LITELLM.rpartition("=")[2],
        "load": load,
        "rounds": ROUNDS,
        "gateway": ours,
        "other": theirs,
        "times": round(ours["requests_per_processor_second"] / theirs["requests_per_processor_second"], 1),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gateway.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "gateway.md").write_text(page(results))
    table = Table("measure", "gateway", "LiteLLM", "limit", box=None)
    for row in rows(results):
        table.add_row(*row)
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}/")


def _both(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    litellm = _litellm_program()
    with _served("stub_model", [sys.executable, "-m", "local.stub_model"]) as (model, _):
        with _gateway(folder, model) as (port, pid):
            ours = {**_throughput(port, pid), **_times(model, port, RATE, SLOW_RATE), **_held(port, pid)}
        with _litellm(litellm, folder, model) as (port, pid):
            # Streams at the other rate would wait in its queue for longer than a client does.
            theirs = {**_throughput(port, pid), **_times(model, port, SLOW_RATE)}
    return ours, theirs


def _throughput(port: int, pid: int) -> dict[str, Any]:
    """Requests answered as fast as they are, and what they took."""
    asyncio.run(http_load.closed_loop(port, CONNECTIONS, 2))
    found: list[tuple[int, float]] = []
    for _ in range(ROUNDS):
        before = processes.processor_seconds(pid)
        count = asyncio.run(http_load.closed_loop(port, CONNECTIONS, SECONDS))
        found.append((count, processes.processor_seconds(pid) - before))
    return {
        "requests_per_second": round(statistics.median(count for count, _ in found) / SECONDS),
        "requests_per_processor_second": round(statistics.median(count / used for count, used in found)),
        "memory_mib": memory.resident([pid])[pid] >> 20,
    }


def _times(model: int, port: int, *stream_rates: int) -> dict[str, Any]:
    """What a request takes longer than at the model itself: medians of the rounds, in each of which both were asked."""
    whole: list[tuple[float, float]] = []
    first: dict[int, list[float]] = {rate: [] for rate in stream_rates}
    for _ in range(ROUNDS):
        direct, through = (_latencies(each, RATE, http_load.body()) for each in (model, port))
        whole.append((_added(direct, through, 50), _added(direct, through, 99)))
        stream = http_load.body(stream=True)
        for rate, added in first.items():
            direct, through = (_latencies(each, rate, stream, first=True) for each in (model, port))
            added.append(_added(direct, through, 50))
    return {
        "p50_ms": round(statistics.median(p50 for p50, _ in whole), 2),
        "p99_ms": round(statistics.median(p99 for _, p99 in whole), 2),
        **{_first_token(rate): round(statistics.median(added), 2) for rate, added in first.items()},
    }


def _first_token(rate: int) -> str:
    return f"first_token_ms_at_{rate}"


def _latencies(port: int, rate: float, content: bytes, *, first: bool = False) -> list[float]:
    timings = asyncio.run(http_load.open_loop(port, rate, SECONDS, content))
    return [1000 * (each.first if first else each.last) for each in timings]


def _added(direct: Sequence[float], through: Sequence[float], percent: int) -> float:
    return _percentile(through, percent) - _percentile(direct, percent)


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def _held(port: int, pid: int) -> dict[str, Any]:
    """Many streams at the same time, each for ten seconds."""
    content = http_load.body(stream=True, tokens=stub_model.LONG_TOKENS)
    outcomes = asyncio.run(http_load.at_once(port, HELD, content))
    failed = [each for each in outcomes if isinstance(each, BaseException)]
    return {"held": HELD, "held_failed": len(failed), "held_memory_mib": memory.resident([pid])[pid] >> 20}


@contextmanager
def _gateway(folder: Path, model: int) -> Generator[tuple[int, int]]:
    config = folder / "gateway.yaml"
    config.write_text(yaml.safe_dump({"models": {"m": {"url": f"http://127.0.0.1:{model}"}}}))
    program = [sys.executable, "-m", "llm_gateway", "--config", str(config), "--host", "127.0.0.1", "--port"]
    with _served("llm-gateway", program, PYTHONPATH=image_sources("http-service", "llm-gateway")) as served:
        yield served


@contextmanager
def _litellm(program: str, folder: Path, model: int) -> Generator[tuple[int, int]]:
    config = folder / "litellm.yaml"
    to = {"model": "openai/m", "api_base": f"http://127.0.0.1:{model}/v1", "api_key": http_load.KEY}
    config.write_text(yaml.safe_dump({"model_list": [{"model_name": "m", "litellm_params": to}]}))
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--num_workers", "1", "--port"]
    # Its prices of models are fetched at its start otherwise.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    keyless = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    with _served("litellm", command, **quiet, **keyless) as served:
        yield served


def _litellm_program() -> str:
    """LiteLLM, which is nothing that anybody needs but to compare with."""
    program = "import shutil; print(shutil.which('litellm'))"
    arguments = [uv(), "tool", "run", "--quiet", "--from", LITELLM, "python", "-c", program]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(
            f"{LITELLM} can't be had: {done.stderr.strip()[-300:]}", "check that the package index answers"
        )
    return done.stdout.strip()


@contextmanager
def _served(name: str, program: Sequence[str], **variables: str) -> Generator[tuple[int, int]]:
    """A server on a free port, its last argument; yields the port and its process id once it answers a chat request."""
    port = ports.free()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*program, str(port)], cwd=ROOT, env={**os.environ, **variables}, stdout=log, stderr=log
        )
        try:
            while not _answers(port):
                if process.poll() is not None:
                    log.seek(0)
                    raise LocalError(f"{name} does not start: {log.read()[-300:].decode(errors='replace')}")
                time.sleep(0.2)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    async def ask() -> None:
        with closing(http_load.Connection(port)) as connection:
            await connection.ask(http_load.body())

    try:
        asyncio.run(ask())
    except (LocalError, OSError):
        return False
    return True


def rows(results: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The measurements: name, the gateway's, the other's, the limit."""
    ours, theirs = results["gateway"], results["other"]

    def both(name: str, unit: str) -> tuple[str, str]:
        return f"{ours[name]} {unit}", f"{theirs[name]} {unit}"

    return [
        (f"added at {RATE} requests/s, p50", *both("p50_ms", "ms"), f"{LIMITS['p50_ms']} ms"),
        (f"added at {RATE} requests/s, p99", *both("p99_ms", "ms"), f"{LIMITS['p99_ms']:g} ms"),
        (
            f"added to the first token at {RATE} streams/s, p50",
            f"{ours[_first_token(RATE)]} ms",
            "",
            f"{LIMITS['first_token_ms']:g} ms",
        ),
        (f"the same at {SLOW_RATE} streams/s", *both(_first_token(SLOW_RATE), "ms"), ""),
        (f"requests/s with {CONNECTIONS} connections", *both("requests_per_second", ""), ""),
        (
            "requests for a second of its processor time",
            *both("requests_per_processor_second", ""),
            f"{results['times']} times as many; at least {LIMITS['times']}",
        ),
        ("memory after that", *both("memory_mib", "MiB"), ""),
        (
            f"{ours['held']} streams at once",
            f"{ours['held_failed']} failed, {ours['held_memory_mib']} MiB",
            "",
            "0 failed",
        ),
    ]


def page(results: Mapping[str, Any]) -> str:
    """The measurements as a page."""
    lines = "\n".join(f"| {' | '.join(cell.strip() for cell in row)} |" for row in rows(results))
    return f"""# The LLM gateway, measured

On {results["measured"]}, {machine.sentence(results["machine"])}. Written by `make bench`.

Between a client and a model that answers at once, both on the same machine, which had a load of {results["load"]}
when it began. The gateway and LiteLLM's proxy, {results["litellm"]}, were asked in turn, {results["rounds"]}
rounds each: medians. Neither had a cache; LiteLLM had one worker, no database and no keys of its own. Times are
those over a direct call. The client and the model take their part of the processors, so requests a second say less than
requests for a second of processor time. Where LiteLLM answers fewer than {RATE} requests/s, what it adds at that
rate is the wait in its queue, and streams are not asked of it at that rate. At {SLOW_RATE} a second processors go idle
between requests, so that each one takes longer.

| measure | LLM gateway | LiteLLM | limit |
|---|---|---|---|
{lines}
"""


if __name__ == "__main__":
    run()
