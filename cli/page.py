"""A stack's plan as one HTML file: a chart of GPU memory, tables, findings. It loads nothing and needs no scripts.

Colours follow the reader's light or dark setting. Every number of the chart is in the table below it as well, and parts
of a bar differ in pattern, so that neither colour nor the chart is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from cli import output
from llm_serving.capacity.findings import Finding

LABEL_WIDTH = 250
"""Pixels left of the bars."""
CHART_WIDTH = 640
"""Pixels of the longest bar."""
ROW_HEIGHT = 44
"""Pixels from one bar to the next."""
BAR_HEIGHT = 22
AXIS_HEIGHT = 34
TICKS = 6
"""About how many marks the axis has."""
LABELLED = 'aria-labelledby="chart-title chart-text"'
_CLASSES = ("weights", "overhead", "cache", "outside")
"""Class of each part of a bar, in the order of `output.parts`."""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1c2024; --quiet: #5b6570; --line: #d5dae0;
  --weights: #2f5fb3; --overhead: #8a4fa3; --cache: #2b8a57; --outside: #c9ced4; --error: #b3261e; --warning: #8a5a00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181c; --ink: #e6e9ec; --quiet: #9aa5b0; --line: #363d45;
    --weights: #7aa5f0; --overhead: #c08adb; --cache: #5fc48d; --outside: #4a525b;
    --error: #ff8a80; --warning: #f0b84a; }
}
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
figure { margin: 0; overflow-x: auto; } figcaption, .note { color: var(--quiet); font-size: .9rem; }
svg { max-width: 100%; height: auto; min-width: 40rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .quiet { fill: var(--quiet); } svg .grid { stroke: var(--line); }
svg .limit { stroke: var(--ink); stroke-width: 2; }
.weights { fill: var(--weights); } .overhead { fill: url(#overhead); } .cache { fill: url(#cache); }
.outside { fill: var(--outside); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .6rem; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.error { color: var(--error); } .warning { color: var(--warning); } .unchecked { color: var(--quiet); }
"""
PATTERNS = """<defs>
<pattern id="overhead" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="6" height="6" fill="var(--overhead)"/>
<rect width="2" height="6" fill="var(--page)" opacity=".35"/></pattern>
<pattern id="cache" width="6" height="6" patternUnits="userSpaceOnUse">
<rect width="6" height="6" fill="var(--cache)"/>
<circle cx="3" cy="3" r="1.2" fill="var(--page)" opacity=".45"/></pattern>
</defs>"""


@dataclass(frozen=True, slots=True)
class Bar:
    """The memory of one GPU of a service, for the chart."""

    label: str
    detail: str
    parts: Sequence[output.Part]
    total_gib: float
    usable_gib: float


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of text; columns named in `numbers` are set as numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


def page(
    title: str,
    summary: Sequence[str],
    bars: Sequence[Bar],
    tables: Sequence[tuple[str, Table]],
    found: Sequence[Finding],
) -> str:
    """The whole page.

    :param summary: Paragraphs below the title.
    :param tables: Tables with their titles, in the order of the page.
    """
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>",
            *(f"<p>{escape(line)}</p>" for line in summary),
            "<h2>Memory of a GPU</h2>",
            chart(bars),
            *(f"<h2>{escape(name)}</h2>\n{table(rows)}" for name, rows in tables),
            "<h2>Findings</h2>",
            findings(found),
            "</main>\n</body>\n</html>\n",
        ]
    )


def chart(bars: Sequence[Bar]) -> str:
    """The memory of one GPU of each service as stacked bars over one axis, with a legend."""
    if not bars:
        return '<p class="note">No service could be placed.</p>'
    most = max(max(bar.total_gib, sum(part.gib for part in bar.parts)) for bar in bars)
    height = ROW_HEIGHT * len(bars) + AXIS_HEIGHT + 30
    width = LABEL_WIDTH + CHART_WIDTH + 20
    described = "; ".join(
        f"{bar.label}: " + ", ".join(f"{part.name} {part.gib:.1f}" for part in bar.parts) for bar in bars
    )
    return "\n".join(
        [
            "<figure>",
            f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" {LABELLED}>',
            '<title id="chart-title">Memory of one GPU of each service, in GiB</title>',
            f'<desc id="chart-text">{escape(described)}</desc>',
            PATTERNS,
            *_axis(most, ROW_HEIGHT * len(bars)),
            *(line for row, bar in enumerate(bars) for line in _bar(bar, row * ROW_HEIGHT, most)),
            *_legend(bars[0].parts, ROW_HEIGHT * len(bars) + AXIS_HEIGHT),
            "</svg>",
            "<figcaption>GiB of one GPU. The line is what the runtime may use of it.</figcaption>\n</figure>",
        ]
    )


def _x(gib: float, most: float) -> float:
    return round(LABEL_WIDTH + CHART_WIDTH * gib / most, 1)


def _bar(bar: Bar, top: int, most: float) -> Iterator[str]:
    yield f'<text x="0" y="{top + 16}">{escape(_short(bar.label, 32))}</text>'
    yield f'<text class="quiet" x="0" y="{top + 33}">{escape(_short(bar.detail, 34))}</text>'
    reached = 0.0
    for part, name in zip(bar.parts, _CLASSES, strict=True):
        begin, end = _x(reached, most), _x(reached + part.gib, most)
        reached += part.gib
        yield (
            f'<rect class="{name}" x="{begin}" y="{top + 6}" width="{round(end - begin, 1)}" height="{BAR_HEIGHT}">'
            f"<title>{escape(part.name)}: {part.gib:.1f} GiB</title></rect>"
        )
    limit = _x(bar.usable_gib, most)
    yield f'<line class="limit" x1="{limit}" x2="{limit}" y1="{top + 2}" y2="{top + BAR_HEIGHT + 10}"/>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _axis(most: float, height: int) -> Iterator[str]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if most / step <= TICKS)
    for gib in range(0, int(most) + 1, step):
        x = _x(gib, most)
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{height}"/>'
        yield f'<text class="quiet" x="{x}" y="{height + 16}" text-anchor="middle">{gib}</text>'


def _legend(parts: Sequence[output.Part], top: int) -> Iterator[str]:
    x = LABEL_WIDTH
    for part, name in zip(parts, _CLASSES, strict=True):
        yield f'<rect class="{name}" x="{x}" y="{top}" width="14" height="14"/>'
        yield f'<text x="{x + 20}" y="{top + 12}">{escape(part.name)}</text>'
        x += 44 + 8 * len(part.name)


def table(rows: Table) -> str:
    """A table that scrolls sideways where the page is narrow."""

    def cell(tag: str, column: int, text: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        number = ' class="number"' if column in rows.numbers else ""
        return f"<{tag}{scope}{number}>{escape(text)}</{tag}>"

    head = "".join(cell("th", column, text) for column, text in enumerate(rows.headings))
    body = "\n".join(
        "<tr>" + "".join(cell("td", column, text) for column, text in enumerate(row)) + "</tr>" for row in rows.rows
    )
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def findings(found: Sequence[Finding]) -> str:
    """The findings, the worst first."""
    if not found:
        return "<p>None.</p>"
    return "\n".join(
        [
            "<ul>",
            *(
                f'<li><strong class="{finding.severity}">{finding.severity}</strong>'
                f" <code>{escape(finding.setting)}</code>: {escape(finding.message)} <code>{finding.code}</code></li>"
                for finding in output.by_severity(found)
            ),
            "</ul>",
        ]
    )
