"""`llm-serving plan --model`: the cheapest hardware of the catalog for a model and a load, and why not the others."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import output
from cli.inputs import OPTIONS, RANGE, UNKNOWN, InputError, Problems, resolve_model
from cli.options import LEAST_UTILIZATION, MOST_TOKENS, Numbers
from llm_serving.capacity import catalog, legality, planner
from llm_serving.capacity.catalog import RuntimeRelease
from llm_serving.capacity.cost import usd
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import DEFAULT_TOTAL_TOKENS, Placement
from llm_serving.capacity.planner import Option, Plan
from llm_serving.capacity.throughput import Load

if TYPE_CHECKING:
    from rich.table import Table

NAME_CODES = ("QUANT_UNKNOWN", "KV_DTYPE")
"""Codes of findings about a name that the runtime does not know."""
LEAST_REQUESTS = 0.000_001
"""Fewest requests per second that may be asked for: one in twelve days."""
MOST_REQUESTS = 1_000_000
"""Most requests per second, and most replicas, that may be asked for."""
_OPTIONS = {
    "requests_per_second": "--rps",
    "mean_input_tokens": "--input-tokens",
    "mean_output_tokens": "--output-tokens",
    "max_total_tokens": "--max-total-tokens",
    "min_replicas": "--min-replicas",
}
"""What the planner calls an option of the command line."""


def answer(given: argparse.Namespace, base: Path, today: date) -> Plan:
    """The plan; raises InputError with every mistake of the question.

    :param base: Where a relative path of a model begins.
    """
    problems = Problems()
    model = resolve_model(problems, given.model, base)
    runtime = problems.found(UNKNOWN, "--runtime", lambda: catalog.runtime(given.runtime))
    numbers = Numbers(given, problems)
    load = (
        numbers.real("--rps", LEAST_REQUESTS, MOST_REQUESTS),
        numbers.whole("--input-tokens", 1, MOST_TOKENS),
        numbers.whole("--output-tokens", 1, MOST_TOKENS),
    )
    for option, value in (
        ("--rps", given.rps),
        ("--input-tokens", given.input_tokens),
        ("--output-tokens", given.output_tokens),
    ):
        if value is None:
            problems.add(OPTIONS, option, "is missing: a model is planned for a load")
    max_total_tokens = numbers.whole("--max-total-tokens", 2, MOST_TOKENS)
    min_replicas = numbers.whole("--min-replicas", 1, MOST_REQUESTS)
    gpu_memory_utilization = numbers.real("--gpu-memory-utilization", LEAST_UTILIZATION, 1)
    if model is not None and runtime is not None:
        problems.findings.extend(_unknown_names(given, model, runtime))
    if model is None or runtime is None or problems.findings:
        raise InputError(problems.findings)
    try:
        return planner.plan(
            model,
            runtime,
            Load(load[0] or 0, load[1] or 0, load[2] or 0),
            today=today,
            quantizations=(None, *given.quantization),
            kv_cache_dtype=given.kv_cache_dtype,
            max_total_tokens=max_total_tokens or DEFAULT_TOTAL_TOKENS,
            gpu_memory_utilization=gpu_memory_utilization,
            min_replicas=min_replicas or 1,
        )
    except ValueError as error:
        for line in str(error).splitlines():
            name, _, text = line.partition(": ")
            problems.add(RANGE, _OPTIONS.get(name, "--model"), text or line)
        raise InputError(problems.findings) from None


def _unknown_names(given: argparse.Namespace, model: ModelShape, runtime: RuntimeRelease) -> Iterator[Finding]:
    """What the runtime says of the formats' names, once: the planner would pass over one without a word."""
    anywhere = next(iter(catalog.instances().values()))
    asked = Placement(model, runtime, anywhere, 1, kv_cache_dtype=given.kv_cache_dtype)
    placements = [asked, *(replace(asked, quantization=name, kv_cache_dtype=None) for name in given.quantization)]
    found = dict.fromkeys(finding for placement in placements for finding in legality.check(placement))
    yield from (finding for finding in found if finding.code in NAME_CODES and finding.severity == "error")


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan for a program."""
    return {
        "model": plan.model.name,
        "runtime": plan.runtime.name,
        "runtime_version": plan.runtime.version,
        "load": {
            "requests_per_second": plan.load.requests_per_second,
            "mean_input_tokens": plan.load.mean_input_tokens,
            "mean_output_tokens": plan.load.mean_output_tokens,
        },
        "best": _option_json(plan.best) if plan.best else None,
        "runners_up": [_option_json(option) for option in plan.runners_up],
        "ruled_out": dict(plan.ruled_out),
        "assumption": plan.assumption,
        "findings": output.findings_json(plan.best.warnings if plan.best else ()),
    }


def _option_json(option: Option) -> dict[str, Any]:
    return {
        "instance": option.instance.name,
        "instances": option.instances,
        "replicas": option.replicas,
        "tensor_parallel": option.tensor_parallel,
        "quantization": option.quantization,
        "kv_pool_tokens": option.fit.kv_pool_tokens,
        "max_context": option.fit.max_context,
        "concurrent_requests": option.fit.concurrent_requests,
        "per_gpu_gib": output.budget_json(option.fit.per_gpu),
        "utilization": round(option.utilization, 3),
        "seconds_per_output_token": round(option.seconds_per_output_token, 4),
        "seconds_to_first_token": round(option.throughput.prefill_seconds, 4),
        "usd_per_hour": option.cost.usd_per_hour,
        "usd_per_month": option.cost.usd_per_month,
        "usd_per_million_output_tokens": option.cost.usd_per_million_output_tokens,
        "usd_per_thousand_requests": option.cost.usd_per_thousand_requests,
    }


def headline(plan: Plan) -> Iterator[str]:
    """What was asked, and the answer in a sentence."""
    load = plan.load
    yield (
        f"{plan.model.name} with {plan.runtime.name} {plan.runtime.version}: {load.requests_per_second:g} requests/s of"
        f" {load.mean_input_tokens:g} input and {load.mean_output_tokens:g} output tokens"
    )
    if plan.best is None:
        yield "no instance type of the catalog would do"
        return
    best = plan.best
    split = f", {best.tensor_parallel} GPUs a replica" if best.tensor_parallel > 1 else ""
    weights = f", {best.quantization} weights" if best.quantization else ""
    price = f"{usd(best.cost.usd_per_hour)} USD an hour, {usd(best.cost.usd_per_month)} a month"
    replicas = f"{best.replicas} replica{'s' * (best.replicas > 1)}"
    yield f"{best.instances} x {best.instance.name} for {replicas}{split}{weights}: {price}"


def options_table(plan: Plan) -> "Table":
    """The choice and the runners-up."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "instances", "replicas", "TP", "weights"):
        table.add_column(heading, no_wrap=True)
    for heading in ("USD/h", "USD/month", "USD/M output tokens", "load", "ms/token", "KV tokens", "context"):
        table.add_column(heading, justify="right", no_wrap=True)
    if plan.best:
        table.add_row(*_row("best", plan.best))
    for option in plan.runners_up:
        table.add_row(*_row("", option))
    return table


def _row(rank: str, option: Option) -> list[str]:
    return [
        rank,
        f"{option.instances} x {option.instance.name}",
        str(option.replicas),
        str(option.tensor_parallel),
        option.quantization or "the checkpoint's",
        usd(option.cost.usd_per_hour),
        usd(option.cost.usd_per_month),
        usd(option.cost.usd_per_million_output_tokens),
        f"{option.utilization:.0%}",
        f"{option.seconds_per_output_token * 1000:.0f}",
        str(option.fit.kv_pool_tokens),
        str(option.fit.max_context),
    ]


def run(given: argparse.Namespace, base: Path, today: date) -> int:
    """Plan, print, and return the exit status: 1 where nothing would do."""
    plan = answer(given, base, today)
    if given.as_json:
        output.emit_json(plan_json(plan))
    else:
        _show(plan)
    return 0 if plan.best else 1


def by_reason(plan: Plan) -> dict[str, list[str]]:
    """The instance types that are out, those with the same reason but for their own name together."""
    reasons: dict[str, list[str]] = {}
    for name, reason in plan.ruled_out.items():
        reasons.setdefault(reason.replace(name, "this type"), []).append(name)
    return reasons


def _show(plan: Plan) -> None:
    from rich.table import Table  # noqa: PLC0415  a program's answer does without

    console = output.console()
    output.emit([*headline(plan), ""])
    if plan.best:
        console.print(options_table(plan))
        console.print()
        if plan.best.warnings:
            output.emit([*output.finding_lines(plan.best.warnings), ""])
        console.print(plan.assumption)
        console.print()
    out = Table("out", "why", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for reason, names in by_reason(plan).items():
        out.add_row(", ".join(names), reason)
    console.print(out)
