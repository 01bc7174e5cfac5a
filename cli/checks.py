"""`llm-serving checks`: every code that a finding may have."""

import argparse
from typing import Any

from cli import inputs, output
from cli import options as _options
from llm_serving.capacity import checks
from llm_serving.capacity.findings import Check

REFUSED: dict[str, Any] = {}
"""What the answer for a program holds besides findings where the question is wrong."""


def everything() -> list[Check]:
    """Every kind of finding, of the checks and of the command line itself, by code."""
    known = {**checks.ALL, **{check.code: check for check in inputs.CHECKS}}
    return [known[code] for code in sorted(known)]


def as_json(check: Check) -> dict[str, Any]:
    """A kind of finding for a program."""
    return {
        "code": check.code,
        "severity": check.severity,
        "summary": check.summary,
        "failures": list(check.failures),
    }


def options(name: str, summary: str) -> argparse.ArgumentParser:
    """What the command takes."""
    return _options.parser(name, summary, ("checks", "checks --json"))


def run(given: argparse.Namespace) -> int:
    """Print the list."""
    if given.as_json:
        output.emit_json({"checks": [as_json(check) for check in everything()]})
        return 0
    from rich.table import Table  # noqa: PLC0415  a program's answer does without

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("code", "worst", "what is wrong", "prevents"):
        table.add_column(heading, no_wrap=heading != "what is wrong")
    for check in everything():
        table.add_row(check.code, check.severity, check.summary, " ".join(check.failures))
    output.console().print(table)
    return 0
