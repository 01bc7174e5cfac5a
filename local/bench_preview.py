"""Measures a preview of prod, `terraform plan` of the same AWS resources beside it, and the program's own evaluation.

python -m local.bench_preview
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from local import cloud, machine, preview, seeds, terraform_cli, toolchain
from local.console import console
from local.engine import Engine, Outcome, committed
from local.errors import LocalError
from local.paths import ROOT
from local.plugins.aws.bridge import Bridge
from local.plugins.aws.sdk import installed
from local.terraform_program import Writer

Result = TypeVar("Result")
RESULTS = ROOT / "bench"
STACK = "prod"
RUNS = 3
"""Runs of which the median counts. What is compared takes turns, so that both meet the same load."""
SERVICES = (1, 25, 50, 100)
EVALUATED = ("seconds", "processor_seconds", "import_seconds")
LIMITS = {"command_seconds": 60, "terraform_ratio": 0.7, "evaluation_seconds": 3}
"""At most so many seconds; at least so many times as fast as Terraform."""


def run() -> None:
    """Measures everything, and writes bench/preview.json and bench/preview.md."""
    with console.status("measuring: a preview of prod, and terraform plan beside it"):
        side_by_side: dict[str, Any] = preview.alone("local.bench_preview", "--here")
    results: dict[str, Any] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "load": round(os.getloadavg()[0], 1),
        "runs": RUNS,
        **side_by_side,
        "evaluation": [_evaluation(services) for services in SERVICES],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "preview.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "preview.md").write_text(page(results))
    table = Table("measure", "value", "at most", box=None)
    for row in _rows(results):
        table.add_row(*row)
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}/")


def side_by_side() -> dict[str, Any]:
    """Times the whole command, the engine's step in it, and Terraform's plan on one emulator, by turns.

    For a process whose state folder is a throw-away one.
    """
    found = terraform_cli.version()
    results: dict[str, Any] = {"terraform_version": found}
    with tempfile.TemporaryDirectory() as name, preview.throw_away_cloud(committed(STACK)) as variables:
        folder = Path(name)
        engine = Engine(STACK, toolchain.program("pulumi"), variables)
        seeds.put_images(cloud.client("ecr"), seeds.tagged_images(engine.stack_file()))
        engine.select()
        if found:
            terraform_cli.prepare(folder, generated())
        times: dict[str, list[float]] = {"command": [], "engine": [], "terraform": []}
        for _ in range(RUNS):
            _timed(times["command"], _command)
            results.update(counted(_timed(times["engine"], engine.preview)))
            if found:
                results["terraform_resources"] = _timed(
                    times["terraform"], lambda: terraform_cli.plan(folder, variables)
                )
    for name, seconds in times.items():
        results[f"{name}_seconds"] = round(statistics.median(seconds), 1) if seconds else None
        results[f"{name}_all_seconds"] = [round(each, 1) for each in seconds]
    return results


def generated() -> dict[str, Any]:
    """Returns prod's AWS resources as a Terraform program, from the state that the real providers plan for them."""
    bridge = Bridge("")
    try:
        writer = Writer(installed(), bridge.terraform)
    finally:
        bridge.end()
    return writer.program(preview.recorded(STACK)["deployment"]["resources"])


def counted(outcome: Outcome) -> dict[str, int]:
    """How many resources of which kind the engine planned."""
    kinds = Counter(str(step["urn"]).split("::")[2].rpartition("$")[2].partition(":")[0] for step in outcome.steps)
    return {
        "resources": outcome.changed,
        "aws_resources": kinds["aws"],
        "kubernetes_resources": kinds["kubernetes"],
    }


def _command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local", "preview", STACK], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"`make preview` failed while it was measured: {done.stderr.strip()[-400:]}")


def _timed(times: list[float], act: Callable[[], Result]) -> Result:
    begun = time.monotonic()
    result = act()
    times.append(time.monotonic() - begun)
    return result


def _evaluation(services: int) -> dict[str, Any]:
    """Medians of processes that evaluate the program once each."""
    measured: list[dict[str, float]] = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-m", "local.evaluation", str(services)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise LocalError(f"the program failed while it was measured: {done.stderr.strip()[-400:]}")
        measured.append(json.loads(done.stdout))
    return {
        "services": services,
        "resources": int(measured[0]["resources"]),
        **{name: round(statistics.median(each[name] for each in measured), 2) for name in EVALUATED},
    }


def slopes(evaluation: list[Mapping[str, Any]]) -> list[float]:
    """Milliseconds of a processor for each service more, between measured numbers of services: alike where linear."""
    return [
        round(
            (after["processor_seconds"] - before["processor_seconds"])
            / (after["services"] - before["services"])
            * 1000,
            1,
        )
        for before, after in pairwise(evaluation)
    ]


def page(results: Mapping[str, Any]) -> str:
    """The measurements as a page."""
    rows = "\n".join(f"| {name} | {value} | {limit} |" for name, value, limit in _rows(results))
    return f"""# A preview, measured

On {results["measured"]}, {machine.sentence(results["machine"])}, load {results["load"]} at the end. Written by
`make bench`. Medians of {results["runs"]} runs, which take turns.

The Terraform program is generated from the state that the providers plan for prod: the same AWS resources with the same
inputs, and references where one takes another's output. It has none of the Kubernetes objects, charts, lookups and
checks that are in the preview, and it is there already: that favours Terraform. Both have an empty state, the same
emulator and the same provider binary. The whole command also starts that emulator and ends it.

The evaluation is the whole program, its checks included, against Pulumi's mocks. Charts are rendered by the Kubernetes
provider, which has no part in it.

| measure | value | limit |
|---|---|---|
{rows}
"""


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    aws, other = results["aws_resources"], results["kubernetes_resources"]
    made = (
        f"{aws} AWS resources, {other} Kubernetes ones, {results['resources'] - aws - other} components and providers"
    )
    rows = [
        ("`make preview STACK=prod`, tools built", _seconds(results["command_seconds"]), _limit("command_seconds")),
        (f"in it, `pulumi preview` alone: {made}", _seconds(results["engine_seconds"]), ""),
        *_beside(results),
    ]
    for each in results["evaluation"]:
        limit = _limit("evaluation_seconds") if each["services"] == max(SERVICES) else ""
        name = f"evaluation, {each['services']} model services, {each['resources']} resources"
        took = f"{each['seconds']} s, of the processor {each['processor_seconds']} s"
        rows.append((name, f"{took}; before it the SDKs' import, {each['import_seconds']} s", limit))
    steps = ", ".join(str(each) for each in slopes(results["evaluation"]))
    rows.append(("of the processor for each service more, from one row to the next", f"{steps} ms", "alike: linear"))
    return rows


def _beside(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    if results["terraform_seconds"] is None:
        return [("`terraform plan` of the same AWS resources", "not measured: no `terraform` on PATH", "")]
    ours, theirs = results["engine_seconds"], results["terraform_seconds"]
    planned = (
        f"`terraform plan`, Terraform {results['terraform_version']}: {results['terraform_resources']} AWS resources"
    )
    ratio = f"{theirs / ours:.2f} times as fast, {ours / theirs:.2f} times as long"
    return [
        (planned, _seconds(theirs), ""),
        ("`pulumi preview` beside `terraform plan`", ratio, f"at least {LIMITS['terraform_ratio']} times as fast"),
    ]


def _seconds(value: float) -> str:
    return f"{value} s"


def _limit(name: str) -> str:
    return f"{LIMITS[name]} s"


if __name__ == "__main__":
    if "--here" in sys.argv:
        console.file = sys.stderr
        sys.stdout.write(json.dumps(side_by_side()) + "\n")
    else:
        run()
