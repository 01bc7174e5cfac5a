"""Small charts as PNG: series over time, and one number in large type, with values in Grafana's units."""

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from matplotlib.figure import Figure

LEGEND_ENTRIES = 8
"""Of more series than this, a legend names the first ones."""
_WIDTH_INCHES, _HEIGHT_INCHES, _DOTS_PER_INCH = 6.4, 2.8, 100
_COLOURS = ("#1f6feb", "#d1570d", "#2da44e", "#8250df", "#bf3989", "#0a7b83", "#9a6700", "#57606a")


@dataclass(frozen=True)
class Series:
    """Values over time."""

    name: str
    times: Sequence[float]
    """Seconds since the epoch."""
    values: Sequence[float]


def _digits(value: float) -> str:
    """Three significant digits; more where there are more before the point, rather than an exponent."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _significant(value: float, suffix: str = "") -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{_digits(value / limit)} {letter}{suffix}".rstrip()
    return f"{_digits(value)} {suffix}".rstrip()


def _seconds(value: float) -> str:
    for limit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if abs(value) >= 2 * limit:
            return f"{_digits(value / limit)} {name}"
    return f"{_digits(value)} s" if abs(value) >= 1 or value == 0 else f"{_digits(value * 1000)} ms"


_UNITS: Mapping[str, Callable[[float], str]] = {
    "short": _significant,
    "percentunit": lambda value: f"{_digits(value * 100)} %",
    "s": _seconds,
    "reqps": lambda value: _significant(value, "req/s"),
    "cps": lambda value: _significant(value, "/s"),
    "celsius": lambda value: f"{_digits(value)} \N{DEGREE SIGN}C",
    "watt": lambda value: _significant(value, "W"),
    "mbytes": lambda value: f"{_digits(value / 1024)} GiB" if abs(value) >= 1024 else f"{_digits(value)} MiB",
    "currencyUSD": lambda value: f"${value:,.4g}",
}


def text(value: float, unit: str) -> str:
    """A value as Grafana would write it, roughly, in one of the units that our dashboards have."""
    if not math.isfinite(value):
        return "no value"
    return _UNITS.get(unit, _significant)(value)


def graph(series: Sequence[Series], unit: str, span: tuple[float, float], problem: str = "") -> bytes:
    """A graph of series from the first to the second time of `span`, as PNG; says so where there is nothing in it."""
    figure, axes = _axes()
    if not series:
        return _nothing(figure, axes, problem)
    for index, item in enumerate(series):
        name = item.name if index < LEGEND_ENTRIES else "_"
        colour = _COLOURS[index % len(_COLOURS)]
        # A single value is a point: a line through it would not be seen.
        axes.plot(
            item.times, item.values, label=name, color=colour, linewidth=1.4, marker="." if len(item.times) < 2 else ""
        )
    axes.set_xlim(*span)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#e4e8ec", linewidth=0.6)

    def at(seconds: float, _: int) -> str:
        return time.strftime("%H:%M", time.gmtime(seconds))

    def in_unit(value: float, _: int) -> str:
        return text(value, unit)

    axes.xaxis.set_major_formatter(at)
    axes.yaxis.set_major_formatter(in_unit)
    if any(item.name for item in series):
        axes.legend(fontsize=7, loc="upper left", frameon=False, ncols=2)
    return _png(figure)


def number(series: Sequence[Series], unit: str, span: tuple[float, float], problem: str = "") -> bytes:
    """The newest value of the first series in large type over its course, as PNG."""
    figure, axes = _axes()
    if not series:
        return _nothing(figure, axes, problem)
    first = series[0]
    axes.set_axis_off()
    axes.set_xlim(*span)
    axes.fill_between(first.times, first.values, color="#1f6feb", alpha=0.15, linewidth=0)
    axes.text(0.5, 0.5, text(first.values[-1], unit), fontsize=40, ha="center", va="center", transform=axes.transAxes)
    return _png(figure)


def _axes() -> tuple[Figure, Any]:
    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), dpi=_DOTS_PER_INCH)
    # Fixed margins: laying the chart out anew for its labels takes as long as drawing it.
    axes = cast("Any", figure).add_axes((0.11, 0.1, 0.87, 0.86))
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _nothing(figure: Figure, axes: Any, problem: str) -> bytes:
    axes.set_axis_off()
    said = problem or "No data"
    axes.text(
        0.5, 0.5, said, fontsize=12, ha="center", va="center", color="#57606a", wrap=True, transform=axes.transAxes
    )
    return _png(figure)


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    # Without the version in it, the same chart is the same file.
    cast("Any", figure).savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
