"""`llm-serving fit`: whether a model runs on an instance type, and with how much room."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cli import options as _options
from cli import output
from cli.inputs import UNKNOWN, InputError, Problems, resolve_model
from cli.options import LEAST_UTILIZATION, MOST_GPUS, MOST_REQUESTS, MOST_TOKENS, Numbers
from llm_serving.capacity import catalog, drivers, fit, legality, planner
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.placement import DEFAULT_TOTAL_TOKENS, Placement

DEFAULT_CONCURRENT_REQUESTS = 128
"""The default of Placement, and of a stack file."""
EXAMPLES = (
    "fit --model Llama-3.1-8B --instance g6.xlarge --runtime tgi",
    "fit --model Llama-3.1-70B --instance g5.12xlarge --runtime vllm --quantization awq --json",
    "fit --model ./my-model/config.json --instance p5.48xlarge --runtime vllm --tp 4",
)
REFUSED = {"fits": False}
"""What the answer for a program holds besides findings where the question is wrong."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the command answers."""

    placement: Placement
    fit: fit.Fit
    findings: tuple[Finding, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing stops it."""
        return not any(finding.severity == "error" for finding in self.findings)


def options(name: str, summary: str) -> argparse.ArgumentParser:
    """What the command takes."""
    parser = _options.parser(name, summary, EXAMPLES)
    add = parser.add_argument
    add("--model", required=True, help="a name of the catalog, a model's folder, or its config.json")
    add("--instance", required=True, metavar="TYPE", help="an EC2 instance type with GPUs, as in g6.xlarge")
    add("--runtime", required=True, help="tgi, vllm or tensorrt-llm")
    add("--tp", metavar="N", help="GPUs of a node that share the model; default: all of the instance")
    add("--nodes", "--pp", metavar="N", help="nodes that a replica spans; default: 1")
    add("--dtype", metavar="NAME", help="what to compute in, as the runtime spells it; default: the checkpoint's")
    add("--quantization", metavar="NAME", help="as the runtime spells it, as in awq; default: the checkpoint's")
    add("--kv-cache-dtype", metavar="NAME", help="as the runtime spells it, as in fp8; default: what it computes in")
    add("--max-input-tokens", metavar="N", help="longest prompt, in tokens")
    add(
        "--max-total-tokens", metavar="N", help=f"longest prompt and answer, in tokens; default: {DEFAULT_TOTAL_TOKENS}"
    )
    add("--max-batch-prefill-tokens", metavar="N", help="most prompt tokens read in one step; default: the runtime's")
    add("--max-concurrent-requests", metavar="N", help="requests that are let in at once; default: 128")
    add("--gpu-memory-utilization", metavar="FRACTION", help="of a GPU's memory, to use; default: the runtime's")
    add("--expected-concurrency", metavar="N", help="requests at once that there should be room for")
    add("--mean-total-tokens", metavar="N", help="tokens of an average request; default: the most")
    return parser


def placement(given: argparse.Namespace, base: Path) -> Placement:
    """What is asked about; raises InputError with every mistake of the question.

    :param base: Where a relative path of a model begins.
    """
    problems = Problems()
    model = resolve_model(problems, given.model, base)
    instance = problems.found(UNKNOWN, "--instance", lambda: catalog.instance(given.instance))
    runtime = problems.found(UNKNOWN, "--runtime", lambda: catalog.runtime(given.runtime))
    numbers = Numbers(given, problems)
    gpus = numbers.whole("--tp", 1, MOST_GPUS)
    nodes = numbers.whole("--nodes", 1, MOST_GPUS)
    max_input_tokens = numbers.whole("--max-input-tokens", 1, MOST_TOKENS)
    max_total_tokens = numbers.whole("--max-total-tokens", 2, MOST_TOKENS)
    max_batch_prefill_tokens = numbers.whole("--max-batch-prefill-tokens", 1, MOST_TOKENS)
    max_concurrent_requests = numbers.whole("--max-concurrent-requests", 1, MOST_REQUESTS)
    gpu_memory_utilization = numbers.real("--gpu-memory-utilization", LEAST_UTILIZATION, 1)
    expected_concurrency = numbers.whole("--expected-concurrency", 1, MOST_REQUESTS)
    mean_total_tokens = numbers.whole("--mean-total-tokens", 1, MOST_TOKENS)
    if model is None or instance is None or runtime is None or problems.findings:
        raise InputError(problems.findings)
    return Placement(
        model=model,
        runtime=runtime,
        instance=instance,
        gpus=gpus or max(1, instance.gpus),
        nodes=nodes or 1,
        dtype=given.dtype,
        quantization=given.quantization,
        kv_cache_dtype=given.kv_cache_dtype,
        max_input_tokens=max_input_tokens,
        max_total_tokens=max_total_tokens or DEFAULT_TOTAL_TOKENS,
        max_batch_prefill_tokens=max_batch_prefill_tokens,
        max_concurrent_requests=max_concurrent_requests or DEFAULT_CONCURRENT_REQUESTS,
        gpu_memory_utilization=gpu_memory_utilization,
        target_concurrency=expected_concurrency,
        mean_total_tokens=mean_total_tokens,
    )


def report(asked: Placement, today: date) -> Report:
    """Everything that the checks of one placement say, drivers as on the newest node image that the catalog knows."""
    result = fit.fit(asked)
    findings = [*legality.check(asked), *fit.findings(asked, result)]
    if image := planner.newest_node_image(asked.instance.architecture):
        findings.extend(drivers.check(asked, image, today=today))
    return Report(asked, result, tuple(findings))


def as_json(answer: Report) -> dict[str, Any]:
    """The answer for a program."""
    asked, result = answer.placement, answer.fit
    return {
        "fits": answer.fits,
        "model": asked.model.name,
        "instance": asked.instance.name,
        "runtime": asked.runtime.name,
        "runtime_version": asked.runtime.version,
        "tensor_parallel": asked.gpus,
        "nodes": asked.nodes,
        "max_total_tokens": asked.max_total_tokens,
        "kv_pool_tokens": result.kv_pool_tokens,
        "max_context": result.max_context,
        "concurrent_requests": result.concurrent_requests,
        "per_gpu_gib": output.budget_json(result.per_gpu),
        "findings": output.findings_json(answer.findings),
    }


def lines(answer: Report) -> Iterator[str]:
    """The answer for a person."""
    asked, result = answer.placement, answer.fit
    budget, gpu = result.per_gpu, asked.instance.gpu.name
    machine = f"{asked.instance.name} ({max(1, asked.instance.gpus)} x {gpu})"
    split = f"tensor parallel {asked.gpus}" + (f", {asked.nodes} nodes" if asked.nodes > 1 else "")
    yield f"{asked.model.name} on {machine} with {asked.runtime.name} {asked.runtime.version}, {split}"
    yield ""
    legend = "  ".join(f"{output.glyph(part)} {part.name}" for part in output.legend([budget]))
    yield f"each GPU   {output.bar(budget)}  {budget.total:.1f} GiB, of which {budget.usable:.1f} GiB usable"
    yield f"           {legend}"
    yield f"weights    {budget.weights:8.1f} GiB"
    yield f"overhead   {budget.overhead:8.1f} GiB"
    yield f"KV cache   {budget.kv_cache:8.1f} GiB, {result.kv_pool_tokens} tokens"
    yield f"context    {result.max_context:8} tokens at most; {asked.max_total_tokens} asked for"
    yield f"requests   {result.concurrent_requests:8} at once, each of {asked.max_total_tokens} tokens"
    yield ""
    yield from output.finding_lines(answer.findings)
    yield "fits" if answer.fits else "does not fit"


def run(given: argparse.Namespace) -> int:
    """Answer, and return the exit status: 1 where it does not fit."""
    answer = report(placement(given, Path.cwd()), _options.today())
    if given.as_json:
        output.emit_json(as_json(answer))
    else:
        output.emit(lines(answer))
    return 0 if answer.fits else 1
