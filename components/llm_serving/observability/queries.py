"""The queries of a dashboard, read out of its JSON: what a test asks Prometheus, and what is drawn without Grafana."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    dashboard: str
    """The dashboard's uid."""
    panel: str
    """The panel's title, which no other panel of the dashboard has."""
    description: str
    """What the panel shows."""
    unit: str
    """Grafana's name for the unit of the values."""
    ref: str
    """The query's letter in its panel."""
    expression: str
    """PromQL with Grafana's variables in it."""
    legend: str
    """Template for a series' name: labels in double braces."""
    instant: bool
    """Whether it asks for the newest values only."""

    def resolved(self, *, rate: str = "5m", span: str = "1h", variables: Mapping[str, str] | None = None) -> str:
        """The PromQL with values for the variables; one that isn't given matches everything.

        `rate` is the range that rates are taken over, `span` the range that the dashboard shows, as Prometheus
        durations.
        """
        values = {"__rate_interval": rate, "__range": span, **(variables or {})}
        return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ".*"), self.expression)

    def series_name(self, labels: Mapping[str, str]) -> str:
        """The name that Grafana gives to a series; its labels where the legend says nothing."""
        name = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), self.legend).strip()
        return name or ", ".join(f"{label}={value}" for label, value in sorted(labels.items()) if label != "__name__")


def queries(dashboard: Mapping[str, Any]) -> list[Query]:
    """All queries of a dashboard's JSON, in the order of its panels."""
    return list(_queries(dashboard))


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All panels of a dashboard's JSON but the rows, those inside of collapsed rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panels(panel)
        else:
            yield panel


def _queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Query(
                dashboard=dashboard["uid"],
                panel=panel["title"],
                description=panel["description"],
                unit=panel["fieldConfig"]["defaults"]["unit"],
                ref=target["refId"],
                expression=target["expr"],
                legend=target.get("legendFormat", ""),
                instant=bool(target.get("instant", False)),
            )
