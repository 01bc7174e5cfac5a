"""The Prometheus metrics of vLLM 0.33.0: names, labels and buckets, from `vllm/v1/metrics/{loggers,buckets}.py`.

Left out is what the engine here can't measure: tokens by iteration, blocks' lifetimes, LoRA, multi-modal caches.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from local_runtime import buckets
from local_runtime.generation import End
from local_runtime.scheduler import Load

_REASONS = ("stop", "length", "abort", "error", "repetition")
_ADMISSION = ("max_num_queued_reqs", "max_num_queued_tokens")


class Metrics:
    """All metrics of one engine, which observes its generation."""

    def __init__(self, model: str, max_model_len: int) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model, "engine": "0"}
        names = ["model_name", "engine"]
        tokens = token_buckets(max_model_len)
        self._running = self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self._waiting = self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        by_reason = Gauge(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason. Sum of all reasons equals vllm:num_requests_waiting.",
            [*names, "reason"],
            registry=self._registry,
        )
        self._waiting_for_capacity = by_reason.labels(**self._labels, reason="capacity")
        by_reason.labels(**self._labels, reason="deferred")  # by LoRA and KV transfer, which there aren't
        sleep = Gauge(
            "vllm:engine_sleep_state",
            "Engine sleep state; awake = 1 means engine is awake.",
            [*names, "sleep_state"],
            registry=self._registry,
        )
        for state in ("awake", "weights_offloaded", "discard_all"):
            sleep.labels(**self._labels, sleep_state=state).set(state == "awake")
        self._kv_cache = self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self._prefix_queries = self._counter(
            "prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."
        )
        self._prefix_hits = self._counter(
            "prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."
        )
        self._counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt_tokens = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self._cached_tokens = self._counter("prompt_tokens_cached", "Number of cached prompt tokens.")
        self._generation_tokens = self._counter("generation_tokens", "Number of generation tokens processed.")
        success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            [*names, "finished_reason"],
            registry=self._registry,
        )
        self._success = {reason: success.labels(**self._labels, finished_reason=reason) for reason in _REASONS}
        rejections = Counter(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            ["model_name", "reason"],
            registry=self._registry,
        )
        self.rejections = {reason: rejections.labels(model_name=model, reason=reason) for reason in _ADMISSION}
        self._request_prompt_tokens = self._histogram(
            "request_prompt_tokens", "Number of prefill tokens processed.", tokens
        )
        self._request_generation_tokens = self._histogram(
            "request_generation_tokens", "Number of generation tokens processed.", tokens
        )
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "Histogram of time to first token in seconds.", buckets.FIRST_TOKEN
        )
        self._inter_token = self._histogram(
            "inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", buckets.TOKEN
        )
        self._per_token = self._histogram(
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            buckets.TOKEN,
        )
        self._seconds = {
            name: self._histogram(f"{name}_seconds", f"Histogram of {what} in seconds.", buckets.LATENCY)
            for name, what in {
                "e2e_request_latency": "e2e request latency",
                "request_queue_time": "time spent in WAITING phase for request",
                "request_inference_time": "time spent in RUNNING phase for request",
                "request_prefill_time": "time spent in PREFILL phase for request",
                "request_decode_time": "time spent in DECODE phase for request",
            }.items()
        }

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, list(self._labels), registry=self._registry).labels(**self._labels)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, list(self._labels), registry=self._registry).labels(**self._labels)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        metric = Histogram(f"vllm:{name}", text, list(self._labels), registry=self._registry, buckets=bounds)
        return metric.labels(**self._labels)

    def load(self, load: Load) -> None:
        """The queue or the batch changed."""
        self._running.set(load.running)
        self._waiting.set(load.waiting)
        self._waiting_for_capacity.set(load.waiting)

    def kv_cache(self, used: float) -> None:
        """The share of the KV cache that running requests use changed."""
        self._kv_cache.set(used)

    def first_token(self, prompt_tokens: int, seconds: float) -> None:
        """A prompt has been read."""
        self._prompt_tokens.inc(prompt_tokens)
        self._generation_tokens.inc()
        self._first_token.observe(seconds)

    def next_token(self, seconds: float) -> None:
        """Another token was generated."""
        self._generation_tokens.inc()
        self._inter_token.observe(seconds)

    def done(self, end: End) -> None:
        """A request was answered to its end, or aborted."""
        self._success[end.reason].inc()
        self._prefix_queries.inc(end.prompt_tokens)
        self._prefix_hits.inc(end.cached_tokens)
        self._cached_tokens.inc(end.cached_tokens)
        self._request_prompt_tokens.observe(end.prompt_tokens)
        self._request_generation_tokens.observe(end.generated_tokens)
        decode = end.last_token - end.first_token
        self._per_token.observe(decode / (end.generated_tokens - 1) if end.generated_tokens > 1 else 0)
        for name, seconds in {
            "e2e_request_latency": end.last_token - end.arrived,
            "request_queue_time": end.scheduled - end.arrived,
            "request_inference_time": end.last_token - end.scheduled,
            "request_prefill_time": end.first_token - end.scheduled,
            "request_decode_time": decode,
        }.items():
            self._seconds[name].observe(seconds)

    def render(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)


def token_buckets(max_model_len: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 and so on, up to the longest sequence."""
    bounds: list[float] = []
    scale = 1
    while scale <= max_model_len:
        bounds += [scale * digit for digit in (1, 2, 5) if scale * digit <= max_model_len]
        scale *= 10
    return tuple(bounds)
