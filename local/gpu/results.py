"""What was predicted and measured: written down row by row, and shown as a table."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from llm_serving.capacity.fit import GIB

TOLERANCE = 2.0
"""Percent that weights and cache may differ by."""
Limit = Literal["near", "at least measured"]
"""What a prediction must be."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prediction and what became of it."""

    shape: str
    what: str
    predicted_bytes: float | None = None
    measured_bytes: float | None = None
    difference_percent: float | None = None
    """How far the prediction is above what was measured."""
    limit: Limit | None = None
    """None where the row is for information."""
    holds: bool = True
    note: str = ""


@dataclass(slots=True)
class Report:
    """All rows, written after each so that a run that is stopped leaves what it has."""

    path: Path
    machine: Mapping[str, Any]
    rows: list[Row] = field(default_factory=list[Row])

    def add(
        self,
        shape: str,
        what: str,
        predicted: float | None,
        measured: float | None,
        *,
        limit: Limit | None = "near",
        note: str = "",
    ) -> None:
        """Adds a row; one without a measurement (no GPU) is left out."""
        if measured is None:
            return
        difference = 100 * (predicted - measured) / measured if predicted is not None and measured else None
        holds = True
        if limit is not None:
            near = difference is not None and abs(difference) <= TOLERANCE
            holds = near if limit == "near" else predicted is not None and predicted >= measured
        rounded = None if difference is None else round(difference, 4)
        self._append(Row(shape, what, predicted, measured, rounded, limit, holds, note))

    def fail(self, shape: str, what: str, reason: str) -> None:
        """Adds a row for something that could not be measured."""
        self._append(Row(shape, what, holds=False, note=reason))

    def _append(self, row: Row) -> None:
        self.rows.append(row)
        content = {"machine": self.machine, "tolerance_percent": TOLERANCE, "rows": list(map(asdict, self.rows))}
        self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def table(self) -> Table:
        """The rows as a person reads them."""
        title = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        table = Table("shape", "what", "predicted", "measured", "off by", "", "note", title=title)
        for row in self.rows:
            off = "" if row.difference_percent is None else f"{row.difference_percent:+.2f} %"
            mark = ("ok" if row.holds else "DIFFERS") if row.limit or not row.holds else ""
            table.add_row(
                row.shape, row.what, _size(row.predicted_bytes), _size(row.measured_bytes), off, mark, row.note
            )
        return table


def _size(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / GIB:.3f} GiB" if value >= GIB / 10 else f"{value / 1024:.1f} KiB"
