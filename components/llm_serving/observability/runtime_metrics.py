"""What each inference runtime exports, by version, and which of it answers what is asked of every runtime.

Names change between versions (vLLM renamed its KV metric; TensorRT-LLM got most of its metrics after 1.2), and a query
for a name that is gone is silent: an autoscaler or an alert on it just idles. So nothing outside this table spells a
runtime's metric.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from llm_serving._checks import nearest
from llm_serving.observability.metric import Kind, Metric, counters, gauges, histograms


class UnknownRuntimeError(ValueError):
    """A runtime or version that the table lacks, or a question that it can't answer; the text says what would do."""


@dataclass(frozen=True)
class RuntimeMetrics:
    """One version of a runtime. Fields that say how to ask are None where this version exports nothing to ask for."""

    runtime: str
    version: str
    path: str
    """HTTP path of the metrics in Prometheus's text format."""
    metrics: tuple[Metric, ...]
    request_seconds: str
    """Histogram: a request from its arrival to its end."""
    queue_seconds: str
    """Histogram: the wait before a request joins a batch."""
    token_seconds: str
    """Histogram: time for each generated token after the first."""
    queue: str | None = None
    """Gauge: requests that wait."""
    running: str | None = None
    """Gauge: requests in the batch."""
    first_token_seconds: str | None = None
    """Histogram: time to first token. None in TGI, which has none: the gateway's is used for every runtime."""
    kv_used: str | None = None
    """Gauge: use of the KV cache, a ratio where `kv_size` is None, else in the unit of `kv_size`."""
    kv_size: str | None = None
    """Gauge: size of the KV cache."""

    def require_queue(self) -> str:
        """The gauge to scale on; raises UnknownRuntimeError where this version has none."""
        if self.queue is None:
            others = [item for item in RUNTIMES if item.runtime == self.runtime and item.queue]
            raise UnknownRuntimeError(
                f"runtime_version: {self.runtime} {self.version} exports no queue length;"
                f" nearest version that does: {others[0].version}"
            )
        return self.queue

    def kv_usage(self, selector: str = "") -> str | None:
        """PromQL for the use of the KV cache, 0 to 1, one series a pod; None where it isn't exported.

        `selector` is a label selector in its braces, or nothing.
        """
        if self.kv_used is None:
            return None
        if self.kv_size is None:
            return f"{self.kv_used}{selector}"
        return f"{self.kv_used}{selector} / {self.kv_size}{selector}"


_TGI_METHOD = ("method",)

TGI_3_3_7 = RuntimeMetrics(
    runtime="tgi",
    version="3.3.7",
    # The launcher's --prometheus-port answers nothing: the router serves its metrics on the main port.
    path="/metrics",
    metrics=(
        *gauges(
            "tgi_queue_size",
            "tgi_batch_current_size",
            "tgi_batch_current_max_tokens",
            "tgi_batch_max_total_tokens",
        ),
        *counters("tgi_request_count", "tgi_request_success"),
        *counters("tgi_request_failure", labels=("err",)),
        *counters(
            "tgi_batch_inference_count",
            "tgi_batch_inference_success",
            "tgi_batch_inference_failure",
            labels=_TGI_METHOD,
        ),
        *counters("tgi_batch_concat", labels=("reason",)),
        *histograms(
            "tgi_request_duration",
            "tgi_request_queue_duration",
            "tgi_request_validation_duration",
            "tgi_request_inference_duration",
            "tgi_request_mean_time_per_token_duration",
            "tgi_request_input_length",
            "tgi_request_generated_tokens",
            "tgi_request_max_new_tokens",
            "tgi_batch_next_size",
        ),
        *histograms(
            "tgi_batch_inference_duration",
            "tgi_batch_forward_duration",
            "tgi_batch_decode_duration",
            "tgi_batch_filter_duration",
            "tgi_batch_concat_duration",
            labels=_TGI_METHOD,
        ),
        Metric("tgi_request_skipped_tokens", Kind.SUMMARY),
    ),
    request_seconds="tgi_request_duration",
    queue_seconds="tgi_request_queue_duration",
    token_seconds="tgi_request_mean_time_per_token_duration",  # noqa: S106 - a metric's name
    queue="tgi_queue_size",
    running="tgi_batch_current_size",
    kv_used="tgi_batch_current_max_tokens",
    kv_size="tgi_batch_max_total_tokens",
)
"""From `router/src` and `backends/v3/src` of the 3.3.7 sources. Its counters carry no `_total`."""

_VLLM = ("model_name", "engine")

VLLM_0_33_0 = RuntimeMetrics(
    runtime="vllm",
    version="0.33.0",
    path="/metrics",
    metrics=(
        *gauges(
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            labels=_VLLM,
        ),
        *gauges("vllm:engine_sleep_state", labels=(*_VLLM, "sleep_state")),
        *gauges("vllm:num_requests_waiting_by_reason", labels=(*_VLLM, "reason")),
        *counters(
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
            "vllm:num_preemptions_total",
            "vllm:prefix_cache_queries_total",
            "vllm:prefix_cache_hits_total",
            labels=_VLLM,
        ),
        *counters("vllm:admission_rejections_total", labels=("model_name", "reason")),
        *counters("vllm:request_success_total", labels=(*_VLLM, "finished_reason")),
        *histograms(
            "vllm:time_to_first_token_seconds",
            "vllm:inter_token_latency_seconds",
            "vllm:request_time_per_output_token_seconds",
            "vllm:e2e_request_latency_seconds",
            "vllm:request_queue_time_seconds",
            "vllm:request_prefill_time_seconds",
            "vllm:request_decode_time_seconds",
            "vllm:request_prompt_tokens",
            "vllm:request_generation_tokens",
            labels=_VLLM,
        ),
    ),
    request_seconds="vllm:e2e_request_latency_seconds",
    queue_seconds="vllm:request_queue_time_seconds",
    token_seconds="vllm:request_time_per_output_token_seconds",  # noqa: S106 - a metric's name
    queue="vllm:num_requests_waiting",
    running="vllm:num_requests_running",
    first_token_seconds="vllm:time_to_first_token_seconds",  # noqa: S106 - a metric's name
    kv_used="vllm:kv_cache_usage_perc",
)
"""From `vllm/v1/metrics/loggers.py` of the 0.33.0 wheel. The KV metric is a ratio in spite of its name."""

_TRTLLM = ("model_name", "engine_type")
_TRTLLM_FIRST = (
    *counters("trtllm_request_success_total", labels=(*_TRTLLM, "finished_reason")),
    *histograms(
        "trtllm_e2e_request_latency_seconds",
        "trtllm_time_to_first_token_seconds",
        "trtllm_time_per_output_token_seconds",
        "trtllm_request_queue_time_seconds",
        labels=_TRTLLM,
    ),
)

TENSORRT_LLM_1_2_1 = RuntimeMetrics(
    runtime="tensorrt-llm",
    version="1.2.1",
    # /metrics is JSON; this one exists where the server's return_perf_metrics is on.
    path="/prometheus/metrics",
    metrics=_TRTLLM_FIRST,
    request_seconds="trtllm_e2e_request_latency_seconds",
    queue_seconds="trtllm_request_queue_time_seconds",
    token_seconds="trtllm_time_per_output_token_seconds",  # noqa: S106 - a metric's name
    first_token_seconds="trtllm_time_to_first_token_seconds",  # noqa: S106 - a metric's name
)
"""The five metrics that 1.1 had; that 1.2.1 has more was not verified, so no query may count on it."""

TENSORRT_LLM_1_3_0 = RuntimeMetrics(
    runtime="tensorrt-llm",
    version="1.3.0",
    path="/prometheus/metrics",
    metrics=(
        *_TRTLLM_FIRST,
        *gauges(
            "trtllm_num_requests_running",
            "trtllm_num_requests_waiting",
            "trtllm_kv_cache_utilization",
            "trtllm_kv_cache_hit_rate",
            labels=_TRTLLM,
        ),
        *counters(
            "trtllm_prompt_tokens_total", "trtllm_generation_tokens_total", "trtllm_request_error_total", labels=_TRTLLM
        ),
    ),
    request_seconds="trtllm_e2e_request_latency_seconds",
    queue_seconds="trtllm_request_queue_time_seconds",
    token_seconds="trtllm_time_per_output_token_seconds",  # noqa: S106 - a metric's name
    queue="trtllm_num_requests_waiting",
    running="trtllm_num_requests_running",
    first_token_seconds="trtllm_time_to_first_token_seconds",  # noqa: S106 - a metric's name
    kv_used="trtllm_kv_cache_utilization",
)
"""From `tensorrt_llm/metrics/collector.py` of the 1.3.0 release candidates."""

RUNTIMES = (TGI_3_3_7, VLLM_0_33_0, TENSORRT_LLM_1_2_1, TENSORRT_LLM_1_3_0)
"""Every version in the table; of each runtime, the first is the one that this project's images pin."""


def runtime(name: str, version: str | None = None) -> RuntimeMetrics:
    """The metrics of a runtime, at the version that the images pin where none is given.

    Raises UnknownRuntimeError, which names the nearest one, for a runtime or version that the table lacks.
    """
    versions: Mapping[str, RuntimeMetrics] = {item.version: item for item in RUNTIMES if item.runtime == name}
    if not versions:
        names = list(dict.fromkeys(item.runtime for item in RUNTIMES))
        raise UnknownRuntimeError(
            f"runtime: the metrics of {name!r} are not known; known: {', '.join(names)};"
            f" nearest valid value: {nearest(name, names)}"
        )
    if version is None:
        return next(iter(versions.values()))
    if version not in versions:
        raise UnknownRuntimeError(
            f"runtime_version: the metrics of {name} {version} are not known; known: {', '.join(versions)};"
            f" nearest valid value: {nearest(version, versions)}"
        )
    return versions[version]
