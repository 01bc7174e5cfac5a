"""Measures the local environment on this machine, and writes the numbers down with the machine they are from."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from local import (
    bench_capacity,
    bench_gateway,
    bench_models,
    bench_preview,
    bench_semantic,
    bench_services,
    machine,
    memory,
)
from local.console import console
from local.errors import LocalError
from local.paths import ROOT
from local.processes import daemons
from local.status import pods

RESULTS = ROOT / "bench"


def run() -> None:
    """Measures the checks, a push, the cache, the gateway, previews, a hundred services, then the environment."""
    bench_capacity.run()
    bench_models.run()
    bench_semantic.run()
    bench_gateway.run()
    _make("down")
    bench_preview.run()
    bench_services.run()
    start = _timed("up")
    unchanged = _timed("up")
    ask = _timed("ask")
    workload = pods()
    results: dict[str, Any] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "nodes": len({pod.node for pod in workload}),
        "pods": len(workload),
        "start_seconds": round(start, 1),
        "unchanged_seconds": round(unchanged, 1),
        "ask_seconds": round(ask, 2),
        "memory_mib": _memory(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "environment.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "environment.md").write_text(_markdown(results))
    table = Table("measure", "value", box=None)
    for name, value in _rows(results):
        table.add_row(name, value)
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}/")


def _timed(command: str) -> float:
    begun = time.monotonic()
    _make(command)
    return time.monotonic() - begun


def _make(command: str) -> None:
    with console.status(f"measuring: {command}"):
        arguments = [sys.executable, "-m", "local", command]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"`{command}` failed while it was measured: {done.stderr.strip()[-400:]}", f"make {command}")


def _memory() -> dict[str, int]:
    running = [(daemon.name, daemon.pid) for daemon in daemons() if daemon.pid]
    sizes = memory.resident([pid for _, pid in running])
    each = {name: sizes[pid] >> 20 for name, pid in running}
    return {**each, "total": sum(each.values())}


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("`make up`, everything built, nothing running", f"{results['start_seconds']} s"),
        ("`make up`, nothing to change", f"{results['unchanged_seconds']} s"),
        ("`make ask`, from the shell", f"{results['ask_seconds']} s"),
        (
            f"memory of all processes ({results['nodes']} nodes, {results['pods']} pods)",
            f"{results['memory_mib']['total']} MiB",
        ),
    ]


def _markdown(results: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(results))
    return f"""# The local environment, measured

On {results["measured"]}, {machine.sentence(results["machine"])}. Written by `make bench`.
The first start makes every resource of the stack where there are none yet.

| measure | value |
|---|---|
{rows}
"""
