"""What the commands print: a GPU's memory as a bar, findings as lines, JSON for programs."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from llm_serving.capacity.findings import Finding

if TYPE_CHECKING:
    from rich.console import Console

    from llm_serving.capacity.fit import Budget

BAR_WIDTH = 32
"""Characters of a bar: one is 3 % of a GPU's memory."""
SEVERITIES = ("error", "warning", "unchecked")
"""Worst first: the order in which findings are shown."""
WIDTH_IN_A_FILE = 160
"""Columns where the output isn't a terminal: wide enough that no table is cut short."""
_COLOURS = {"error": "red", "warning": "yellow", "unchecked": "cyan"}
_ANSI = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "white": 37}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a GPU's memory."""

    name: str
    gib: float
    glyph: str
    """What a bar is drawn with; parts differ in shape, so that colour is never needed to tell them apart."""
    plain: str
    """The same for an output that has ASCII only."""
    colour: str


def parts(budget: "Budget") -> list[Part]:
    """What a GPU's memory goes to, in the order in which a bar shows it; more than it has where a model is too big."""
    left_alone = min(budget.reserve, budget.total - budget.weights - budget.overhead)
    return [
        Part("weights", budget.weights, "█", "#", "blue"),
        Part("overhead", budget.overhead, "▓", "%", "magenta"),
        Part("KV cache", budget.kv_cache, "▒", "=", "green"),
        Part("left alone", max(0.0, left_alone), "░", ".", "white"),
    ]


def _shown(budget: "Budget") -> list[Part]:
    """The parts of a bar: what is wanted beyond what may be used is a part of its own."""
    shown = parts(budget)
    excess = budget.weights + budget.overhead - budget.usable
    if excess <= 0:
        return shown
    weights = replace(shown[0], gib=min(budget.weights, budget.usable))
    overhead = replace(shown[1], gib=budget.usable - weights.gib)
    return [weights, overhead, Part("too much", excess, "▚", "x", "red")]


def segments(budget: "Budget", *, unicode: bool, width: int = BAR_WIDTH) -> list[tuple[str, Part]]:
    """The pieces of a bar of `width` characters: a whole GPU, or, where more is wanted than it has, what is wanted."""
    shown = _shown(budget)
    whole = sum(part.gib for part in shown)
    pieces: list[tuple[str, Part]] = []
    begin = 0
    reached = 0.0
    for part in shown:
        reached += part.gib
        end = round(width * reached / whole)
        pieces.append(((part.glyph if unicode else part.plain) * (end - begin), part))
        begin = end
    return pieces


def styled(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Text in a colour where an output, standard output by default, is a terminal; see no-color.org."""
    if not (stream or sys.stdout).isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_ANSI[colour]}m{text}\x1b[0m"


def bar(budget: "Budget") -> str:
    """The bar for this process's output, coloured where it is a terminal."""
    return "".join(styled(text, part.colour) for text, part in segments(budget, unicode=unicode()))


def legend(budgets: Iterable["Budget"]) -> list[Part]:
    """The parts that some bars have, each once."""
    found = {part.name: part for budget in budgets for part in _shown(budget)}
    return list(found.values())


def glyph(part: Part) -> str:
    """What a part of a bar is drawn with on standard output."""
    return part.glyph if unicode() else part.plain


def unicode(stream: TextIO | None = None) -> bool:
    """Whether an output, standard output by default, takes the characters that bars are drawn with."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    try:
        "█▓▒░▚".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, the worst first, otherwise as they came."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def finding_lines(findings: Iterable[Finding], stream: TextIO | None = None) -> Iterator[str]:
    """A line for each finding, the worst first, for an output, standard output by default."""
    for finding in by_severity(findings):
        yield f"{styled(f'{finding.severity:9}', _COLOURS[finding.severity], stream)} {finding}"


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding for a program."""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "setting": finding.setting,
        "message": finding.message,
        "alternatives": list(finding.alternatives),
    }


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings for a program, the worst first."""
    return [finding_json(finding) for finding in by_severity(findings)]


def budget_json(budget: "Budget") -> dict[str, float]:
    """A GPU's memory for a program, in GiB to three digits."""
    names = ("total", "usable", "weights", "kv_cache", "overhead", "headroom")
    return {name: round(getattr(budget, name), 3) for name in names}


def emit_json(value: Mapping[str, Any]) -> None:
    """Print an object for a program."""
    emit([json.dumps(value, indent=2)])


def emit(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print lines to an output, standard output by default."""
    (stream or sys.stdout).writelines(f"{line}\n" for line in lines)


def console() -> "Console":
    """Standard output as Rich writes to it."""
    from rich.console import Console  # noqa: PLC0415  JSON and `fit` do without it

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH_IN_A_FILE)
