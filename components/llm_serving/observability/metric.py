"""What a metric is: its name, kind and labels, and where it comes from."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric behaves over time, as in Prometheus's text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


class Source(StrEnum):
    """What exports a metric. A query has an answer only where all its sources are scraped."""

    GATEWAY = "llm-gateway"
    RUNTIME = "inference runtime"
    EMBEDDER = "embedder"
    GPU = "dcgm-exporter"
    KUBERNETES = "kube-state-metrics"
    PROMETHEUS = "prometheus"
    RECORDED = "recording rule"


_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    Kind.COUNTER: ("",),
    Kind.GAUGE: ("",),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    Kind.SUMMARY: ("", "_sum", "_count"),
}


@dataclass(frozen=True)
class Metric:
    """A metric as it is exported; a counter's name has the `_total` that its exporter gives it."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    """The labels of its own, without those that a scrape adds."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names that its samples have."""
        return tuple(self.name + suffix for suffix in _SUFFIXES[self.kind])


def counters(*names: str, labels: tuple[str, ...] = ()) -> tuple[Metric, ...]:
    """Counters that share their labels."""
    return tuple(Metric(name, Kind.COUNTER, labels) for name in names)


def gauges(*names: str, labels: tuple[str, ...] = ()) -> tuple[Metric, ...]:
    """Gauges that share their labels."""
    return tuple(Metric(name, Kind.GAUGE, labels) for name in names)


def histograms(*names: str, labels: tuple[str, ...] = ()) -> tuple[Metric, ...]:
    """Histograms that share their labels."""
    return tuple(Metric(name, Kind.HISTOGRAM, labels) for name in names)
