"""The few kinds of panels and variables that our dashboards have, so that each says what it shows and in which unit."""

import json
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

COUNT = "short"
RATIO = "percentunit"
SECONDS = "s"
REQUESTS_PER_SECOND = "reqps"
PER_SECOND = "cps"
CELSIUS = "celsius"
WATT = "watt"
MIB = "mbytes"
USD = "currencyUSD"

_COLUMNS = 24
_DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

Panel = timeseries.Panel | stat.Panel


@dataclass(frozen=True)
class Ask:
    """A query, and how its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values that a label has in a series."""

    name: str
    label: str
    series: str
    of: str
    """The label whose values can be chosen."""


def graph(
    title: str, description: str, unit: str, *asks: Ask, maximum: float | None = None, width: int = 8
) -> timeseries.Panel:
    """A graph over time. `width` is in Grafana's columns, of which a dashboard has 24."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(_DATASOURCE)
        .min(0)
        .span(width)
        .height(8)
    )
    if maximum is not None:
        panel = panel.max(maximum)
    for letter, ask in zip(string.ascii_uppercase, asks, strict=False):
        panel = panel.with_target(
            prometheus.Dataquery().expr(ask.expression).legend_format(ask.legend).range().ref_id(letter)
        )
    return panel


def number(title: str, description: str, unit: str, ask: Ask, *, width: int = 4) -> stat.Panel:
    """The newest value in large type. `width` is in Grafana's columns."""
    query = prometheus.Dataquery().expr(ask.expression).legend_format(ask.legend).instant().ref_id("A")
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(_DATASOURCE)
        .span(width)
        .height(4)
        .with_target(query)
    )


def dashboard(
    uid: str, title: str, description: str, *, variables: Iterable[Variable], rows: Iterable[Row]
) -> dict[str, Any]:
    """A dashboard's JSON. Its data source is a variable, so that it works in every Grafana."""
    builder = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["llm-serving"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in variables:
        builder = builder.with_variable(_query_variable(variable))
    for row in rows:
        if row.panels:
            builder = builder.with_row(builders.Row(row.title))
        for panel in row.panels:
            builder = builder.with_panel(panel)
    document: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(builder.build()))
    for number_of_it, panel in enumerate(document["panels"], start=1):
        panel["id"] = number_of_it
    return document


def _query_variable(variable: Variable) -> builders.QueryVariable:
    return (
        builders.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(_DATASOURCE)
        .query(f"label_values({variable.series}, {variable.of})")
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
