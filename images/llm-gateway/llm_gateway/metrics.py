"""The gateway's Prometheus metrics.

Labels hold only names from the configuration, never text from a request, so that no caller can grow their number.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llm_gateway.config import ModelRoute

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_LOOKUP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One set of metrics with its own registry, so that two gateways can live in one process (tests)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llm_gateway_requests",
            "Requests answered, by HTTP status; 499 is a caller that went away.",
            ["model", "version", "endpoint", "code"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "llm_gateway_request_duration_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["model", "version", "endpoint"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "llm_gateway_time_to_first_token_seconds",
            "Time from a streamed request's arrival to the first bytes of its answer.",
            ["model", "version"],
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "llm_gateway_tokens",
            "Tokens that models read (prompt) and generated (completion), as they reported them.",
            ["model", "kind"],
            registry=self.registry,
        )
        self.in_flight = Gauge("llm_gateway_requests_in_flight", "Requests being answered now.", registry=self.registry)
        self.model_in_flight = Gauge(
            "llm_gateway_model_requests_in_flight",
            "Requests that models are answering now, or that wait for a model's first pod.",
            ["model"],
            registry=self.registry,
        )
        self.cache_results = Counter(
            "llm_gateway_cache_requests",
            "Requests by what the cache did: hit, miss, or bypass with its reason.",
            ["model", "result", "reason"],
            registry=self.registry,
        )
        self.cache_tokens_saved = Counter(
            "llm_gateway_cache_tokens_saved",
            "Tokens of answers that came from the cache, which no model had to read (prompt) or generate (completion).",
            ["model", "kind"],
            registry=self.registry,
        )
        self.cache_errors = Counter(
            "llm_gateway_cache_errors",
            "Cache operations that failed; the request was answered without the cache.",
            ["operation", "kind"],
            registry=self.registry,
        )
        self.cache_available = Gauge(
            "llm_gateway_cache_available", "Whether the cache is in use (1) or failed (0).", registry=self.registry
        )
        self.cache_certificate_expiry = Gauge(
            "llm_gateway_cache_certificate_expiry_timestamp_seconds",
            "When the certificate ends that the cache showed at the last connection; 0 before the first one over TLS.",
            registry=self.registry,
        )
        self.semantic_results = Counter(
            "llm_gateway_semantic_cache_lookups",
            "Lookups by meaning: hit, shadow_hit, miss, guarded (alike, but refused), refused by the embedder (too"
            " long), busy (the gateway embeds itself, and too much waits for it), or unavailable.",
            ["model", "result"],
            registry=self.registry,
        )
        self.semantic_errors = Counter(
            "llm_gateway_semantic_cache_errors",
            "Operations of the semantic cache that failed; the request was answered without it.",
            ["operation", "kind"],
            registry=self.registry,
        )
        self.semantic_lookup = Histogram(
            "llm_gateway_semantic_cache_lookup_duration_seconds",
            "Time of a lookup by meaning that did not fail, the embedding included.",
            buckets=_LOOKUP_BUCKETS,
            registry=self.registry,
        )
        self.semantic_entries = Gauge(
            "llm_gateway_semantic_cache_entries",
            "Questions that a lookup by meaning can find.",
            registry=self.registry,
        )
        self.limit_results = Counter(
            "llm_gateway_limit_requests",
            "Requests by what the limits of their API key said: admitted, refused, or unchecked for want of Redis.",
            ["result"],
            registry=self.registry,
        )
        self.upstream_errors = Counter(
            "llm_gateway_upstream_errors",
            "Failures of an inference service towards a request, by kind.",
            ["model", "version", "kind"],
            registry=self.registry,
        )
        self.upstream_retries = Counter(
            "llm_gateway_upstream_retries",
            "Requests sent again because a service had not begun to answer.",
            ["model", "version", "kind"],
            registry=self.registry,
        )
        self.retries_refused = Counter(
            "llm_gateway_upstream_retries_refused",
            "Requests not sent again because the budget of retries was spent.",
            ["model", "version"],
            registry=self.registry,
        )
        self.pod_choices = Counter(
            "llm_gateway_pod_choices",
            "Requests by what their pod was chosen by: own (of what they begin with), spilled (that one had its share),"
            " any (nothing to share), or service (no pod is known).",
            ["model", "version", "result"],
            registry=self.registry,
        )
        self.ejections = Counter(
            "llm_gateway_pod_ejections",
            "Times that a pod was left out because it failed again and again.",
            ["model", "version"],
            registry=self.registry,
        )
        self.failovers = Counter(
            "llm_gateway_version_failovers",
            "Requests that another version got because this one could not be reached.",
            ["model", "version"],
            registry=self.registry,
        )
        self.shadow_requests = Counter(
            "llm_gateway_shadow_requests",
            "Copies of requests for shadow versions, by what came of them: ok, skipped, or the kind of failure.",
            ["model", "version", "result"],
            registry=self.registry,
        )
        self.config_reloads = Counter(
            "llm_gateway_config_reloads",
            "Configuration files seen: applied, refused or missing.",
            ["result"],
            registry=self.registry,
        )
        self.spans = Counter(
            "llm_gateway_trace_spans",
            "Spans of traced requests: exported, failed at the collector, or dropped because too many waited.",
            ["result"],
            registry=self.registry,
        )
        self.draining = Gauge(
            "llm_gateway_draining", "Whether the process is on its way out (1).", registry=self.registry
        )

    def expect(self, models: Mapping[str, ModelRoute]) -> None:
        """Starts the counters of these models at 0: one that appears with its first count has no rate that shows it."""
        for model, route in models.items():
            self.model_in_flight.labels(model)
            if route.kind == "embedding":
                self.tokens.labels(model, "prompt")
                continue
            for kind in ("prompt", "completion"):
                self.tokens.labels(model, kind)
                self.cache_tokens_saved.labels(model, kind)
            for result in ("hit", "shadow_hit", "miss", "busy", "unavailable"):
                self.semantic_results.labels(model, result)
            for version in route.live:
                self.first_token.labels(model, version.name)
                self.retries_refused.labels(model, version.name)
                if version.pods_url is not None:
                    self._expect_choices(model, version.name)
            for version in route.shadows:
                self.shadow_requests.labels(model, version.name, "ok")

        for result in ("admitted", "refused", "unchecked"):
            self.limit_results.labels(result)

    def _expect_choices(self, model: str, version: str) -> None:
        self.ejections.labels(model, version)
        for result in ("own", "spilled", "any", "service"):
            self.pod_choices.labels(model, version, result)

    def render(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry)
