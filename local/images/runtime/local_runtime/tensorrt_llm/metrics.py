"""TensorRT-LLM's metrics: Prometheus's of 1.2.1, where the configuration has them, and the iteration statistics.

Names, labels and buckets are those of `tensorrt_llm/metrics/collector.py`. 1.2.1 has these five; the gauges of queue,
batch and KV cache came after it.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from local_runtime import buckets
from local_runtime.generation import End
from local_runtime.scheduler import Load

_LABELS = {"model_name": "undefined", "engine_type": "undefined"}
"""What the server sets, whatever it serves."""
_KEPT_STATISTICS = 1000


class Metrics:
    """The metrics of one engine, which observe its generation."""

    def __init__(self, *, slots: int, kv_tokens: int, tokens_per_block: int, iteration_statistics: bool) -> None:
        self._registry = CollectorRegistry()
        self._success = Counter(
            "trtllm_request_success_total",
            "Count of successfully processed requests.",
            [*_LABELS, "finished_reason"],
            registry=self._registry,
        )
        self._seconds = {
            name: Histogram(
                f"trtllm_{name}_seconds",
                f"Histogram of {text} in seconds.",
                list(_LABELS),
                registry=self._registry,
                buckets=bounds,
            ).labels(**_LABELS)
            for name, text, bounds in (
                ("e2e_request_latency", "end to end request latency", buckets.LATENCY),
                ("time_to_first_token", "time to first token", buckets.FIRST_TOKEN),
                ("time_per_output_token", "time per output token", buckets.TOKEN),
                ("request_queue_time", "time spent in WAITING phase for request", buckets.LATENCY),
            )
        }
        self._slots = slots
        self._blocks = kv_tokens // tokens_per_block
        self._tokens_per_block = tokens_per_block
        self._iteration_statistics = iteration_statistics
        self._statistics: deque[dict[str, Any]] = deque(maxlen=_KEPT_STATISTICS)
        self._used_blocks = 0

    def load(self, load: Load) -> None:
        """The queue or the batch changed."""
        if self._iteration_statistics:
            self._statistics.append(
                {
                    "timestamp": datetime.now(UTC).strftime("%m-%d-%Y %H:%M:%S.%f"),
                    "numActiveRequests": load.running,
                    "numQueuedRequests": load.waiting,
                    "maxNumActiveRequests": self._slots,
                    "kvCacheStats": {
                        "maxNumBlocks": self._blocks,
                        "usedNumBlocks": self._used_blocks,
                        "freeNumBlocks": self._blocks - self._used_blocks,
                        "tokensPerBlock": self._tokens_per_block,
                    },
                }
            )

    def kv_cache(self, used: float) -> None:
        """The share of the KV cache that running requests use changed."""
        self._used_blocks = round(used * self._blocks)

    def first_token(self, prompt_tokens: int, seconds: float) -> None:
        """A prompt has been read; counted when its request is done, as TensorRT-LLM does."""

    def next_token(self, seconds: float) -> None:
        """Another token was generated; counted when its request is done."""

    def done(self, end: End) -> None:
        """A request was answered to its end."""
        self._success.labels(**_LABELS, finished_reason=end.reason).inc()
        self._seconds["e2e_request_latency"].observe(end.last_token - end.arrived)
        self._seconds["time_to_first_token"].observe(end.first_token - end.arrived)
        self._seconds["request_queue_time"].observe(end.scheduled - end.arrived)
        if end.generated_tokens > 1:
            per_token = (end.last_token - end.first_token) / (end.generated_tokens - 1)
            self._seconds["time_per_output_token"].observe(per_token)

    def take_statistics(self) -> list[dict[str, Any]]:
        """The iteration statistics since they were last taken."""
        taken = list(self._statistics)
        self._statistics.clear()
        return taken

    def render(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self._registry)
