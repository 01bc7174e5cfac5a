"""The options of the commands, as text and as numbers.

Numbers are taken as text and read here, so that all mistakes of a command line are told at once, by code, and to
programs as JSON. Typer would do the parsing, but its release of today loads pydantic for it: half of the time that
`llm-serving fit` may take in all.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from cli.inputs import RANGE, Problems

MOST_TOKENS = 100_000_000
"""Longest sequence that may be asked for: ten times the longest context that a model was published with."""
MOST_GPUS = 1024
"""Most GPUs of a node, and most nodes of a replica, that may be asked for; the checks know the real limits."""
MOST_REQUESTS = 10_000
"""Most requests at once, as in a stack file."""
LEAST_UTILIZATION = 0.1
"""Smallest fraction of a GPU's memory that may be asked for."""


def parser(name: str, summary: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command, with examples below its help and the option --json.

    :param examples: Command lines, each without `llm-serving`.
    """
    lines = "\n".join(f"  llm-serving {example}" for example in examples)
    made = argparse.ArgumentParser(
        prog=f"llm-serving {name}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{lines}\n\nexit status: 0; 1 where something stops a deployment or an option is wrong",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--json", action="store_true", dest="as_json", help="print the answer for a program")
    return made


class Numbers:
    """Reads the numbers of a command line, and remembers what is wrong with them."""

    def __init__(self, given: argparse.Namespace, problems: Problems):
        self._given = given
        self._problems = problems

    def whole(self, option: str, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`; None where the option is not given, or wrong and remembered."""
        value = self._read(option, low, high, int)
        return None if value is None else int(value)

    def real(self, option: str, low: float, high: float) -> float | None:
        """A number from `low` to `high`; None where the option is not given, or wrong and remembered."""
        return self._read(option, low, high, float)

    def _read(self, option: str, low: float, high: float, kind: type[int] | type[float]) -> float | None:
        text: str | None = getattr(self._given, option.removeprefix("--").replace("-", "_"))
        if text is None:
            return None
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        if math.isnan(value):
            self._problems.add(RANGE, option, f"{text!r} is no {_NAMES[kind]} from {low:.10g} to {high:.10g}")
        else:
            near = f"{high if value > high else low:.10g}"
            message = f"{text} is outside {low:.10g} to {high:.10g}; nearest valid value: {near}"
            self._problems.add(RANGE, option, message, (near,))
        return None


_NAMES: Mapping[Any, str] = {int: "whole number", float: "number"}


def today() -> date:
    """The day that support dates are compared with."""
    return datetime.now(UTC).date()
