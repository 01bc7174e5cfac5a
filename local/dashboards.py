"""Draws Grafana's dashboards without Grafana: each panel's queries against any Prometheus, as PNG and as one HTML page.

For a person to look at an environment that has no Grafana, and for a test to show that every panel has something in it.
"""

import base64
import html
import io
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import httpx

from llm_serving.observability import Query, queries
from llm_serving.observability.queries import panels
from local import charts
from local.charts import Series
from local.errors import LocalError

POINTS = 240
"""Values of a graph over its whole width."""
SCRAPE_SECONDS = 30
"""Time between two scrapes: Prometheus Operator's default. A rate needs more than two of them."""
TIMEOUT_SECONDS = 30
_COLUMNS = 24


class RefusedError(LocalError):
    """A query that Prometheus does not take."""


class Prometheus:
    """The HTTP API of a Prometheus, at `url`, which may have a path."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def over(self, expression: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], Series]]:
        """The series of an expression from `start` to `end` (seconds since the epoch), each with its labels.

        Raises LocalError where the server can't be reached, RefusedError where it refuses the expression.
        """
        parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        address = f"{self._url}/api/v1/query_range"
        try:
            answer = self._client.post(address, data=parameters)
            body = cast("dict[str, Any]", answer.json())
        except (httpx.HTTPError, ValueError) as error:
            problem = str(error) or type(error).__name__
            raise LocalError(f"Prometheus at {self._url} does not answer: {problem}") from error
        if body.get("status") != "success":
            raise RefusedError(f"Prometheus refused {expression}: {body.get('error', answer.status_code)}")
        found: list[dict[str, Any]] = body["data"]["result"]
        return [(item["metric"], _series(item["values"])) for item in found]


def _series(values: Iterable[tuple[float, str]]) -> Series:
    points = [(float(when), float(value)) for when, value in values]
    return Series("", [when for when, _ in points], [value for _, value in points])


@dataclass(frozen=True)
class Drawn:
    """A panel that was drawn."""

    dashboard: str
    """The dashboard's uid."""
    title: str
    png: Path
    series: int
    """How many series its queries have; 0 is an empty panel."""
    problem: str = ""
    """What Prometheus said where it refused a query."""


@dataclass(frozen=True)
class Span:
    """The time that is shown."""

    end: float
    """Seconds since the epoch."""
    seconds: float

    @classmethod
    def until_now(cls, seconds: float) -> "Span":
        """The last so many seconds."""
        return cls(time.time(), seconds)

    @property
    def start(self) -> float:
        """Its beginning, in seconds since the epoch."""
        return self.end - self.seconds

    @property
    def step(self) -> float:
        """Seconds between two values."""
        return max(self.seconds / POINTS, 1)

    @property
    def rate(self) -> str:
        """The range of rates, as Grafana would choose it: four scrapes at least."""
        return f"{max(4 * SCRAPE_SECONDS, round(self.step) + SCRAPE_SECONDS)}s"


def render(
    url: str,
    documents: Mapping[str, Mapping[str, Any]],
    folder: Path,
    span: Span,
    variables: Mapping[str, str] | None = None,
) -> list[Drawn]:
    """Draws every panel of dashboards, given as Grafana's JSON by uid, into `folder`.

    Leaves `UID.html` and the folder `UID` with a PNG a panel for each dashboard, and `index.html`. Variables that
    `variables` doesn't give match everything. Raises LocalError where Prometheus does not answer.
    """
    drawn: list[Drawn] = []
    with Prometheus(url) as prometheus:
        for uid, document in documents.items():
            (folder / uid).mkdir(parents=True, exist_ok=True)
            asker = _Asker(prometheus, span, variables or {})
            found = list(_dashboard(asker, uid, document, folder / uid))
            (folder / f"{uid}.html").write_text(_page(document, found, span), encoding="utf-8")
            drawn += [item for item, _ in found]
    (folder / "index.html").write_text(_index(documents, drawn), encoding="utf-8")
    return drawn


_Panel = tuple[Drawn, Mapping[str, Any]]


@dataclass(frozen=True)
class _Asker:
    """Asks a panel's queries."""

    prometheus: Prometheus
    span: Span
    variables: Mapping[str, str]

    def ask(self, asked: Sequence[Query]) -> tuple[list[Series], str]:
        """The series of a panel, and what Prometheus said of a query that it refused."""
        span = self.span
        series: list[Series] = []
        for query in asked:
            expression = query.resolved(rate=span.rate, span=f"{round(span.seconds)}s", variables=self.variables)
            try:
                answers = self.prometheus.over(expression, span.start, span.end, span.step)
            except RefusedError as error:
                return [], str(error)
            series += [Series(query.series_name(labels), found.times, found.values) for labels, found in answers]
        return series, ""


def _dashboard(asker: _Asker, uid: str, document: Mapping[str, Any], folder: Path) -> Iterator[_Panel]:
    asked: dict[str, list[Query]] = {}
    for query in queries(document):
        asked.setdefault(query.panel, []).append(query)
    for number, panel in enumerate(panels(document), start=1):
        title = str(panel["title"])
        series, problem = asker.ask(asked[title])
        image = folder / f"{number:02d}-{_slug(title)}.png"
        draw = charts.number if panel["type"] == "stat" else charts.graph
        image.write_bytes(draw(series, asked[title][0].unit, (asker.span.start, asker.span.end), problem))
        yield Drawn(uid, title, image, len(series), problem), panel


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 1.5rem; color: #1b1f24; background: #f6f7f9; }
main { display: grid; grid-template-columns: repeat(24, 1fr); gap: .75rem; }
section { background: #fff; border: 1px solid #d8dde3; border-radius: 6px; padding: .6rem; min-width: 0; }
h1 { margin: 0 0 .25rem; } h2 { font-size: 1rem; margin: 0 0 .25rem; } p { margin: 0 0 .5rem; color: #57606a; }
img { width: 100%; } code { font-size: 12px; overflow-wrap: anywhere; }
"""


def _page(document: Mapping[str, Any], found: Sequence[_Panel], span: Span) -> str:
    sections = "\n".join(_section(drawn, panel) for drawn, panel in found)
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(span.end))
    title, about = html.escape(str(document["title"])), html.escape(str(document.get("description", "")))
    head = f"<h1>{title}</h1>\n<p>{about} The {span.seconds / 60:.0f} minutes until {until}.</p>"
    return _document(title, f"{head}\n<main>\n{sections}\n</main>")


def _section(drawn: Drawn, panel: Mapping[str, Any]) -> str:
    image = base64.b64encode(drawn.png.read_bytes()).decode()
    width = min(int(panel["gridPos"]["w"]), _COLUMNS)
    expressions = "<br>".join(f"<code>{html.escape(target['expr'])}</code>" for target in panel["targets"])
    title = html.escape(drawn.title)
    return (
        f'<section style="grid-column: span {width}"><h2>{title}</h2><p>{html.escape(str(panel["description"]))}</p>'
        f'<img alt="{title}" src="data:image/png;base64,{image}">'
        f"<details><summary>Queries</summary>{expressions}</details></section>"
    )


def _index(documents: Mapping[str, Mapping[str, Any]], drawn: Sequence[Drawn]) -> str:
    lines = io.StringIO()
    for uid, document in documents.items():
        mine = [item for item in drawn if item.dashboard == uid]
        empty = sum(not item.series for item in mine)
        lines.write(
            f'<li><a href="{html.escape(uid)}.html">{html.escape(str(document["title"]))}</a>:'
            f" {len(mine)} panels, {empty} of them empty</li>\n"
        )
    return _document("Dashboards", f"<h1>Dashboards</h1>\n<ul>\n{lines.getvalue()}</ul>")


def _document(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )
