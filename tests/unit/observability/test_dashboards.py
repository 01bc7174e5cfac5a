"""The dashboards as data: stable, explained, with units, and asking for known metrics only."""

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_serving.observability import MonitoredModel, Query, dashboards, promql, queries
from llm_serving.observability.queries import panels
from tests.unit.observability.sample import INPUTS

DASHBOARDS = dashboards(INPUTS)
_UNITS = {"short", "percentunit", "s", "reqps", "cps", "celsius", "watt", "mbytes", "currencyUSD"}


def _variables(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["templating"]["list"]


def test_there_is_one_for_each_subject() -> None:
    assert list(DASHBOARDS) == ["llm-serving-service", "llm-serving-gpu", "llm-serving-cost", "llm-serving-cache"]
    assert all(document["uid"] == uid and len(uid) <= 40 for uid, document in DASHBOARDS.items())


def test_they_are_the_same_each_time() -> None:
    assert json.dumps(DASHBOARDS) == json.dumps(dashboards(replace(INPUTS)))


def test_without_a_cache_there_is_no_dashboard_for_it() -> None:
    assert "llm-serving-cache" not in dashboards(replace(INPUTS, cache=False))


@pytest.mark.parametrize("document", DASHBOARDS.values(), ids=list(DASHBOARDS))
def test_every_panel_is_explained_and_has_a_unit_and_the_chosen_data_source(document: dict[str, Any]) -> None:
    found = list(panels(document))
    titles = [panel["title"] for panel in found]
    assert len(titles) == len(set(titles))
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    for panel in found:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]


@pytest.mark.parametrize("document", DASHBOARDS.values(), ids=list(DASHBOARDS))
def test_panels_lie_side_by_side_and_not_on_each_other(document: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize("document", DASHBOARDS.values(), ids=list(DASHBOARDS))
def test_variables_are_the_data_source_and_one_choice(document: dict[str, Any]) -> None:
    source, choice = _variables(document)
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    series = choice["query"].removeprefix("label_values(").split(",")[0]
    assert promql.sources(series)


QUERIES = [query for document in DASHBOARDS.values() for query in queries(document)]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.dashboard}-{query.panel}-{query.ref}")
def test_every_query_asks_for_known_metrics_only(query: Query) -> None:
    assert promql.sources(query.expression)
    assert "$" not in query.resolved().replace('"$1"', "")


def test_variables_are_filled_in() -> None:
    query = replace(QUERIES[0], expression='a{m=~"$model"}[$__rate_interval] + b[$__range] + c{n=~"${node}"}')
    assert query.resolved(rate="2m", span="6h") == 'a{m=~".*"}[2m] + b[6h] + c{n=~".*"}'
    assert query.resolved(variables={"model": "qwen", "node": "n"}) == 'a{m=~"qwen"}[5m] + b[1h] + c{n=~"n"}'


def test_series_are_named_by_the_legend() -> None:
    query = replace(QUERIES[0], legend="{{model}} p95")
    assert query.series_name({"model": "qwen"}) == "qwen p95"
    assert replace(query, legend="").series_name({"__name__": "x", "b": "2", "a": "1"}) == "a=1, b=2"


def test_a_runtime_that_lacks_a_metric_has_no_panel_for_it() -> None:
    blind = dashboards(replace(INPUTS, models=(MonitoredModel("m", "l4", runtime="tensorrt-llm"),)))
    titles = {panel["title"] for panel in panels(blind["llm-serving-service"])}
    assert "Time to first token by model" in titles
    assert not titles & {"Requests waiting", "KV cache in use"}
