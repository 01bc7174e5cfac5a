"""Measures the capacity checks on this machine: one fit, a plan, a stack of 100 services, and the command as a process.

python -m local.bench_capacity
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any

from rich.table import Table

from llm_serving.capacity import catalog, checks, fit, legality, parallelism, planner
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.stack import Cache, Pool, Service, Stack
from llm_serving.capacity.throughput import Load
from local import machine
from local.console import console
from local.errors import LocalError
from local.paths import ROOT

RESULTS = ROOT / "bench"
SERVICES = 100
PROCESSES = 15
"""Runs of a process, of which the median counts."""
LOAD = Load(requests_per_second=2, mean_input_tokens=1000, mean_output_tokens=200)
FIT = ("-m", "cli", "fit", "--model", "Llama-3.1-70B", "--instance", "g5.12xlarge", "--runtime", "vllm", "--json")
LIMITS = {
    "fit_ms": 1,
    "plan_ms": 50,
    "stack_ms": 1000,
    "process_ms": 300,
}
"""What each may take at most, in milliseconds."""


def run() -> None:
    """Measures everything, and writes bench/capacity.json and bench/capacity.md."""
    today = datetime.now(UTC).date()
    placements = every_placement()
    plans = [_milliseconds(lambda model=model: planner.plan(model, catalog.runtime("vllm"), LOAD, today=today))
             for model in catalog.models().values()]  # fmt: skip
    stack = large_stack()
    begun = time.perf_counter()
    findings = checks.check(stack, today=today)
    checked = (time.perf_counter() - begun) * 1000
    results: dict[str, Any] = {
        "measured": today.isoformat(),
        "machine": machine.described(),
        "placements": len(placements),
        "fit_ms": _median(placements, fit.fit),
        "answer_ms": _median(placements, _answer),
        "models": len(plans),
        "instances": len(catalog.instances()),
        "plan_ms": round(statistics.median(plans), 2),
        "slowest_plan_ms": round(max(plans), 2),
        "services": len(stack.services),
        "stack_ms": round(checked, 1),
        "stack_findings": len(findings),
        **_process("process", *FIT),
        **_process("python", "-c", "pass"),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "capacity.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "capacity.md").write_text(page(results))
    table = Table("measure", "value", "at most", box=None)
    for row in _rows(results):
        table.add_row(*row)
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}/")


def every_placement() -> list[Placement]:
    """Every model on every instance type with whole GPUs by every runtime, split over as many GPUs as is legal."""
    return [
        Placement(model, runtime, instance, parallelism.legal_sizes(model, runtime.name, instance.gpus)[-1])
        for model in catalog.models().values()
        for runtime in catalog.runtimes().values()
        for instance in catalog.instances().values()
        if instance.gpus
    ]


def large_stack() -> Stack:
    """A stack of 100 services: every model of the catalog in turn, on pools of every instance type in turn."""
    types = [instance for instance in catalog.instances().values() if instance.gpus]
    pools = {f"pool-{number}": _pool(f"pool-{number}", instance.name) for number, instance in enumerate(types)}
    models = list(catalog.models().values())
    runtimes = list(catalog.runtimes())
    services = {
        f"service-{number}": Service(
            name=f"service-{number}",
            model=model,
            model_reference=model.name,
            runtime=runtime,
            pool=pool.name,
            replicas=2,
            gpus=catalog.instance(pool.instance_types[0]).gpus,
            weight_gb=20,
            max_input_tokens=4096,
            max_total_tokens=8192,
            max_concurrent_requests=128,
            timeout_seconds=300,
            cpu_millicores=2000,
            memory_mib=8192,
        )
        for number, (model, runtime, pool) in enumerate(
            islice(zip(cycle(models), cycle(runtimes), cycle(pools.values()), strict=False), SERVICES)
        )
    }
    return Stack(
        name="bench",
        region="us-east-1",
        zones=("us-east-1a", "us-east-1b"),
        kubernetes_version="1.36",
        system_pool=Pool("system", ("m7i.large",), 2, 2, 4, "AL2023_x86_64_STANDARD", 50, gpu=False),
        gpu_pools=pools,
        services=services,
        cache=Cache("valkey", "8.2", "cache.r7g.large", 1),
        response_transfer_mode="STREAM",
        api_timeout_seconds=300,
        gateway_replicas=2,
        installs_device_plugin=True,
    )


def _pool(name: str, instance: str) -> Pool:
    return Pool(name, (instance,), 2, 4, 8, "AL2023_x86_64_NVIDIA", 500, gpu=True)


def _answer(placement: Placement) -> None:
    """Everything that `llm-serving fit` computes, but for drivers."""
    legality.check(placement)
    fit.findings(placement, fit.fit(placement))


def _median(placements: Sequence[Placement], compute: Callable[[Placement], object]) -> float:
    return round(statistics.median(_milliseconds(lambda each=each: compute(each)) for each in placements), 3)


def _milliseconds(compute: Callable[[], object]) -> float:
    begun = time.perf_counter()
    compute()
    return (time.perf_counter() - begun) * 1000


def _process(name: str, *arguments: str) -> dict[str, float]:
    """Median times of a process of this Python in milliseconds: from its start to its end, and of the processor."""
    walls: list[float] = []
    processors: list[float] = []
    for _ in range(PROCESSES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False
        )
        walls.append((time.perf_counter() - begun) * 1000)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append((after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000)
        if done.stderr:
            raise LocalError(f"`{' '.join(arguments)}` failed while it was measured: {done.stderr.strip()[-400:]}")
    return {
        f"{name}_ms": round(statistics.median(walls), 1),
        f"{name}_processor_ms": round(statistics.median(processors), 1),
    }


def page(results: Mapping[str, Any]) -> str:
    """The measurements as a page."""
    rows = "\n".join(f"| {name} | {value} | {limit} |" for name, value, limit in _rows(results))
    return f"""# The capacity checks, measured

On {results["measured"]}, {machine.sentence(results["machine"])}. Written by `make bench`. Medians, unless they
say otherwise. The stack is the worst case: many of its services do not fit, and what would do is sought for each. Other
tools are not beside it: hf-mem reads checkpoints over the network, and accelerate's estimate-memory loads PyTorch and
asks the hub.

| measure | value | at most |
|---|---|---|
{rows}
"""


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    def at_most(name: str) -> str:
        return f"{LIMITS[name]} ms"

    def process(name: str) -> str:
        return f"{results[f'{name}_ms']} ms, of the processor {results[f'{name}_processor_ms']} ms"

    return [
        (f"one fit ({results['placements']} placements)", f"{results['fit_ms']} ms", at_most("fit_ms")),
        ("one fit with every check and what would do instead", f"{results['answer_ms']} ms", ""),
        (
            f"a plan for one model over {results['instances']} instance types ({results['models']} models)",
            f"{results['plan_ms']} ms, slowest {results['slowest_plan_ms']} ms",
            at_most("plan_ms"),
        ),
        (
            f"every check of a stack of {results['services']} services, {results['stack_findings']} findings",
            f"{results['stack_ms']} ms",
            at_most("stack_ms"),
        ),
        ("`llm-serving fit --json`, the whole process", process("process"), at_most("process_ms")),
        ("`python -c pass`, the whole process", process("python"), ""),
    ]


if __name__ == "__main__":
    run()
