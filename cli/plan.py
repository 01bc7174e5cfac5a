"""`llm-serving plan`: of a stack, or of a model and a load."""

import argparse
from pathlib import Path
from typing import Any

from cli import options as _options
from cli.inputs import OPTIONS, Problems
from llm_serving.capacity.placement import DEFAULT_TOTAL_TOKENS

EXAMPLES = (
    "plan --stack stacks/Pulumi.prod.yaml",
    "plan --stack stacks/Pulumi.prod.yaml --html plan.html",
    "plan --stack stacks/Pulumi.prod.yaml --account",
    "plan --model Llama-3.1-70B --runtime vllm --rps 2 --input-tokens 1000 --output-tokens 200",
    "plan --model Llama-3.1-8B --runtime tgi --rps 9 --input-tokens 500 --output-tokens 100 --quantization awq --json",
)
REFUSED: dict[str, Any] = {}
"""What the answer for a program holds besides findings where the question is wrong."""


def options(name: str, summary: str) -> argparse.ArgumentParser:
    """What the command takes."""
    parser = _options.parser(name, summary, EXAMPLES)
    stack = parser.add_argument_group("of a stack")
    stack.add_argument("--stack", type=Path, metavar="FILE", help="a stack file, as in stacks/Pulumi.prod.yaml")
    stack.add_argument("--html", type=Path, metavar="FILE", help="also write the plan as a page with a chart")
    stack.add_argument("--account", action="store_true", help="also ask AWS about quotas, zones and reservations")
    model = parser.add_argument_group("of a model")
    add = model.add_argument
    add("--model", help="a name of the catalog, a model's folder, or its config.json")
    add("--runtime", default="tgi", help="tgi, vllm or tensorrt-llm; default: tgi")
    add("--rps", metavar="N", help="requests per second, at the busiest time that matters")
    add("--input-tokens", metavar="N", help="tokens of an average prompt")
    add("--output-tokens", metavar="N", help="tokens of an average answer")
    add(
        "--max-total-tokens", metavar="N", help=f"longest prompt and answer, in tokens; default: {DEFAULT_TOTAL_TOKENS}"
    )
    add(
        "--quantization",
        metavar="NAME",
        action="append",
        default=[],
        help="one that would do as well as the checkpoint's own weights; may be repeated",
    )
    add("--kv-cache-dtype", metavar="NAME", help="as the runtime spells it, as in fp8; default: what it computes in")
    add("--gpu-memory-utilization", metavar="FRACTION", help="of a GPU's memory, to use; default: the runtime's")
    add("--min-replicas", metavar="N", help="fewest replicas, whatever the load; default: 1")
    return parser


def run(given: argparse.Namespace) -> int:
    """Plan, and return the exit status; raises InputError with every mistake of the question."""
    problems = Problems()
    if (given.stack is None) == (given.model is None):
        problems.add(OPTIONS, "--stack", "give exactly one of --stack and --model", ("--stack", "--model"))
    for option, value in (("--html", given.html), ("--account", given.account)):
        if value and given.stack is None:
            problems.add(OPTIONS, option, "is for --stack only")
    problems.stop()
    if given.stack is not None:
        from cli import plan_stack  # noqa: PLC0415  the program's settings and pydantic with them

        return plan_stack.run(given, _options.today())
    from cli import plan_model  # noqa: PLC0415

    return plan_model.run(given, Path.cwd(), _options.today())
