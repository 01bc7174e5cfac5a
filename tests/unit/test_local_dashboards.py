"""Dashboards drawn from a server that answers as Prometheus does."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from llm_serving.observability import dashboards
from local import charts
from local.charts import Series
from local.dashboards import Prometheus, Span, render
from local.errors import LocalError
from tests.unit.observability.sample import INPUTS

SPAN = Span(end=1_700_003_600, seconds=3600)
DOCUMENTS = dashboards(INPUTS)
PNG = b"\x89PNG\r\n\x1a\n"


def some(uid: str, *titles: str) -> dict[str, dict[str, Any]]:
    """A dashboard with some of its panels only."""
    document = DOCUMENTS[uid]
    return {uid: {**document, "panels": [panel for panel in document["panels"] if panel["title"] in titles]}}


class Stub:
    """Answers range queries: nothing for what reads `absent`, an error for what reads `refused`, else two series."""

    def __init__(self, absent: str = "", refused: str = "") -> None:
        self.absent, self.refused = absent, refused
        self.asked: list[dict[str, str]] = []

    def answer(self, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.asked.append(query)
        if self.refused and self.refused in query["query"]:
            return 400, {"status": "error", "errorType": "bad_data", "error": "parse error"}
        start, end = float(query["start"]), float(query["end"])
        metrics = [{"model": "qwen", "pod": "qwen-1"}, {"model": "llama", "pod": "llama-1"}]
        found = [
            {"metric": metric, "values": [[start + (end - start) * step / 4, str(step * factor)] for step in range(5)]}
            for factor, metric in enumerate(metrics, start=1)
        ]
        result = [] if self.absent and self.absent in query["query"] else found
        return 200, {"status": "success", "data": {"resultType": "matrix", "result": result}}


@contextmanager
def serving(stub: Stub) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            assert self.path == "/prometheus/api/v1/query_range"
            status, body = stub.answer({name: values[0] for name, values in parse_qs(sent).items()})
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/prometheus/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_panel_of_every_dashboard_becomes_a_picture(tmp_path: Path) -> None:
    stub = Stub()
    with serving(stub) as url:
        drawn = render(url, DOCUMENTS, tmp_path, SPAN)
    shown = sum(panel["type"] != "row" for document in DOCUMENTS.values() for panel in document["panels"])
    assert len(drawn) == shown
    assert all(item.series >= 2 and not item.problem for item in drawn)
    assert all(item.png.read_bytes().startswith(PNG) for item in drawn)
    for uid, document in DOCUMENTS.items():
        page = (tmp_path / f"{uid}.html").read_text()
        mine = [item for item in drawn if item.dashboard == uid]
        assert page.count("data:image/png;base64,") == len(mine)
        assert all(item.png.parent == tmp_path / uid for item in mine)
        assert document["title"] in page
        assert f'href="{uid}.html"' in (tmp_path / "index.html").read_text()


def test_queries_are_asked_as_grafana_would(tmp_path: Path) -> None:
    stub = Stub()
    with serving(stub) as url:
        render(url, some("llm-serving-cache", "Tokens saved", "Lookups"), tmp_path, SPAN, {"model": "qwen"})
    assert all("$" not in query["query"] for query in stub.asked)
    assert all('model=~"qwen"' in query["query"] for query in stub.asked)
    assert ["[3600s]" in stub.asked[0]["query"], "[120s]" in stub.asked[1]["query"]] == [True, True]
    assert {(query["start"], query["end"], query["step"]) for query in stub.asked} == {
        ("1700000000.000", "1700003600.000", "15.000")
    }


def test_an_empty_panel_says_so_and_is_counted(tmp_path: Path) -> None:
    with serving(Stub(absent="DCGM_FI_DEV_GPU_TEMP")) as url:
        drawn = render(url, some("llm-serving-gpu", "Temperature", "GPUs"), tmp_path, SPAN)
    assert [(item.title, item.series) for item in drawn] == [("GPUs", 2), ("Temperature", 0)]
    assert "2 panels, 1 of them empty" in (tmp_path / "index.html").read_text()


def test_a_refused_query_is_told_in_its_panel(tmp_path: Path) -> None:
    with serving(Stub(refused="DCGM_FI_DEV_GPU_TEMP")) as url:
        drawn = render(url, some("llm-serving-gpu", "Temperature", "GPUs"), tmp_path, SPAN)
    (bad,) = [item for item in drawn if item.problem]
    assert bad.title == "Temperature"
    assert bad.problem.endswith("parse error")


def test_a_prometheus_that_is_not_there() -> None:
    with (
        Prometheus("http://127.0.0.1:9") as prometheus,
        pytest.raises(LocalError, match=r"Prometheus at http://127\.0\.0\.1:9 does not answer"),
    ):
        prometheus.over("up", 0, 1, 1)


def test_the_same_chart_is_the_same_file() -> None:
    series = [Series("a", [0, 60, 120], [1, float("nan"), 3]), Series("b", [60], [2])]
    assert charts.graph(series, "s", (0, 120)) == charts.graph(series, "s", (0, 120))
    assert charts.graph(series, "s", (0, 120)) != charts.graph(series[:1], "s", (0, 120))


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0.1234, "percentunit", "12.3 %"),
        (0.35, "s", "350 ms"),
        (2, "s", "2 s"),
        (200_000, "s", "2.31 d"),
        (12_345, "short", "12.3 k"),
        (1.5, "reqps", "1.5 req/s"),
        (40_960, "mbytes", "40 GiB"),
        (1000, "mbytes", "1000 MiB"),
        (0.9997, "s", "1000 ms"),
        (12.5, "percentunit", "1250 %"),
        (1234.5, "currencyUSD", "$1,234"),
        (61, "celsius", "61 °C"),
        (float("nan"), "s", "no value"),
    ],
)
def test_values_are_written_in_their_unit(value: float, unit: str, written: str) -> None:
    assert charts.text(value, unit) == written


def test_rates_are_taken_over_four_scrapes_at_least() -> None:
    assert Span(0, 3600).rate == "120s"
    assert (Span(0, 86_400).step, Span(0, 86_400).rate) == (360, "390s")
