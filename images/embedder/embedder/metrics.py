"""The embedder's Prometheus metrics. Labels hold no text from a request, so that no caller can grow their number."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Metrics:
    """One set of metrics with its own registry, so that two embedders can live in one process (tests)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llm_embedder_requests",
            "Requests answered, by HTTP status; 499 is a caller that went away.",
            ["endpoint", "code"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "llm_embedder_request_duration_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["endpoint"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.inputs = Counter("llm_embedder_inputs", "Inputs embedded.", registry=self.registry)
        self.tokens = Counter(
            "llm_embedder_tokens", "Tokens embedded, the special ones included.", registry=self.registry
        )
        self.truncated = Counter(
            "llm_embedder_inputs_truncated", "Inputs that were too long and were cut.", registry=self.registry
        )
        self.rejected = Counter(
            "llm_embedder_requests_rejected", "Requests refused since too much waits.", registry=self.registry
        )
        self.in_flight = Gauge(
            "llm_embedder_requests_in_flight", "Requests being answered now.", registry=self.registry
        )
        self.queued_tokens = Gauge("llm_embedder_queued_tokens", "Tokens that wait or run.", registry=self.registry)
        self.batch_inputs = Histogram(
            "llm_embedder_batch_inputs",
            "Inputs computed at once.",
            buckets=_SIZE_BUCKETS,
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "llm_embedder_batch_duration_seconds",
            "Time that the backend took for a batch.",
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.batch_errors = Counter(
            "llm_embedder_batch_errors", "Batches that the backend failed to compute.", registry=self.registry
        )
        self.info = Gauge(
            "llm_embedder_info", "What computes: always 1.", ["model", "backend", "device"], registry=self.registry
        )
        self.draining = Gauge(
            "llm_embedder_draining", "Whether the process is on its way out (1).", registry=self.registry
        )

    def render(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry)
