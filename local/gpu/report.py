"""Writes a page beside each bench/memory_fit_GPU.json, which `local.gpu.memory_fit` wrote on a machine with that GPU.

python -m local.gpu.report
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local.gpu.results import Row
from local.paths import ROOT

FOLDER = ROOT / "bench"
_GIB, _KIB = 1 << 30, 1 << 10


def page(content: Mapping[str, Any]) -> str:
    """The measurements as a page: what had to hold, and what a model takes besides weights and cache."""
    machine: Mapping[str, str] = content["machine"]
    rows = [Row(**row) for row in content["rows"]]
    off = sum(not row.holds for row in rows)
    return f"""# The memory fit, measured

On one {machine["gpu"]}, driver {machine["driver_version"]}, {machine["memory.total_mib"]} MiB by nvidia-smi;
PyTorch {machine["torch"]}, CUDA {machine["cuda"]}, transformers {machine["transformers"]}.
Random weights, and no runtime's own kernels. Predictions are those of the day of the run. Weights and cache may be
{content["tolerance_percent"]:g} % off; overhead and use may not be above the prediction with the smaller pass, and are
for information with the larger one. Of {len(rows)} rows {off} did not hold. The JSON has all of them.
Written by `python -m local.gpu.report`.

| shape | what | predicted | measured | difference |
|---|---|---|---|---|
{chr(10).join(dict.fromkeys(_lines(rows)))}
"""


def _lines(rows: list[Row]) -> Iterator[str]:
    """Yield lines of the table; what was measured twice with one result is the same line."""
    for row in rows:
        if row.limit is None and row.holds and not row.what.startswith(("overhead", "CUDA context")):
            continue
        what = row.what if row.holds else f"{row.what}, **{row.note or 'off'}**"
        if row.what.startswith("GPU in use"):  # told apart by their notes only
            what = f"{row.what}, {row.note}"
        sizes = (_size(row.predicted_bytes), _size(row.measured_bytes))
        yield f"| {' | '.join((row.shape, what, *sizes, _percent(row.difference_percent)))} |"


def _percent(value: float | None) -> str:
    # Without the sign of a zero that rounding left.
    return "" if value is None else f"{round(value, 2) + 0:+.2f} %"


def _size(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / _GIB:.3f} GiB" if value >= _GIB / 10 else f"{value / _KIB:g} KiB"


def sources() -> list[Path]:
    """The measurements that there are."""
    return sorted(FOLDER.glob("memory_fit_*.json"))


def main() -> None:
    """Write the pages."""
    for source in sources():
        source.with_suffix(".md").write_text(page(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
