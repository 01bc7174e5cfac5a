"""The router's Prometheus metrics: the names, kinds and buckets of Text Generation Inference 3.3.7.

Its counters carry no `_total`, which Python's client library would add; hence the few classes here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]
DURATION_BUCKETS = tuple(0.00015 * 1.5**step for step in range(35))
"""Seconds: 35 buckets, each 1.5 times the one before, from `router/src/server.rs`."""


@dataclass
class Metric:
    """A counter or gauge, with its value for each set of labels."""

    name: str
    kind: str
    values: dict[Labels, float] = field(default_factory=dict[Labels, float])

    def add(self, amount: float = 1, **labels: str) -> None:
        """Adds to the value of these labels."""
        key = tuple(labels.items())
        self.values[key] = self.values.get(key, 0) + amount

    def set(self, value: float) -> None:
        """Replaces the value without labels."""
        self.values[()] = value

    def lines(self) -> list[str]:
        """The metric in Prometheus's text format; nothing where it has no value yet, as with the router's."""
        if not self.values:
            return []
        return [
            f"# TYPE {self.name} {self.kind}",
            *(f"{self.name}{_labels(labels)} {_number(value)}" for labels, value in self.values.items()),
        ]


@dataclass
class _Series:
    counts: list[int]
    total: float = 0
    count: int = 0


@dataclass
class Histogram:
    """A distribution, for each set of labels."""

    name: str
    buckets: Sequence[float]
    series: dict[Labels, _Series] = field(default_factory=dict[Labels, _Series])

    def observe(self, value: float, **labels: str) -> None:
        """Counts one observation."""
        key = tuple(labels.items())
        series = self.series.setdefault(key, _Series([0] * len(self.buckets)))
        series.total += value
        series.count += 1
        for index, bound in enumerate(self.buckets):
            if value <= bound:
                series.counts[index] += 1

    def lines(self) -> list[str]:
        """The histogram in Prometheus's text format."""
        lines: list[str] = []
        for labels, series in self.series.items():
            bounds = zip(self.buckets, series.counts, strict=True)
            lines += [
                f"{self.name}_bucket{_labels((*labels, ('le', _number(bound))))} {count}" for bound, count in bounds
            ]
            lines.append(f"{self.name}_bucket{_labels((*labels, ('le', '+Inf')))} {series.count}")
            lines.append(f"{self.name}_sum{_labels(labels)} {_number(series.total)}")
            lines.append(f"{self.name}_count{_labels(labels)} {series.count}")
        return [f"# TYPE {self.name} histogram", *lines] if lines else []


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


class Metrics:
    """All metrics of the router."""

    def __init__(self, max_input_tokens: int, max_total_tokens: int, slots: int) -> None:
        self.request_count = Metric("tgi_request_count", "counter")
        self.request_success = Metric("tgi_request_success", "counter")
        self.request_failure = Metric("tgi_request_failure", "counter")
        self.batch_inference_count = Metric("tgi_batch_inference_count", "counter")
        self.batch_inference_success = Metric("tgi_batch_inference_success", "counter")
        self.queue_size = Metric("tgi_queue_size", "gauge", {(): 0})
        self.batch_current_size = Metric("tgi_batch_current_size", "gauge", {(): 0})
        self.batch_current_max_tokens = Metric("tgi_batch_current_max_tokens", "gauge", {(): 0})
        self.batch_max_total_tokens = Metric("tgi_batch_max_total_tokens", "gauge")
        self.request_duration = Histogram("tgi_request_duration", DURATION_BUCKETS)
        self.request_validation_duration = Histogram("tgi_request_validation_duration", DURATION_BUCKETS)
        self.request_queue_duration = Histogram("tgi_request_queue_duration", DURATION_BUCKETS)
        self.request_inference_duration = Histogram("tgi_request_inference_duration", DURATION_BUCKETS)
        self.request_mean_time_per_token_duration = Histogram(
            "tgi_request_mean_time_per_token_duration", DURATION_BUCKETS
        )
        self.batch_inference_duration = Histogram("tgi_batch_inference_duration", DURATION_BUCKETS)
        self.request_input_length = Histogram("tgi_request_input_length", _hundredths(max_input_tokens))
        self.request_generated_tokens = Histogram("tgi_request_generated_tokens", _hundredths(max_total_tokens))
        self.request_max_new_tokens = Histogram("tgi_request_max_new_tokens", _hundredths(max_total_tokens))
        # The router has 1024 buckets; no batch here is larger than the engine's slots.
        self.batch_next_size = Histogram("tgi_batch_next_size", [float(size + 1) for size in range(slots)])

    def render(self) -> str:
        """All metrics in Prometheus's text format."""
        return "".join(f"{line}\n" for metric in vars(self).values() for line in metric.lines())


def _hundredths(limit: int) -> list[float]:
    return [limit / 100 * (step + 1) for step in range(100)]
