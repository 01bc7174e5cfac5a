"""Every metric that a query here may use, by what exports it.

Dashboards, alerts and autoscalers are checked against this one table, so that a name that nothing exports is an error
where it is written and not an empty panel or an alert that never fires.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from llm_serving._checks import nearest
from llm_serving.observability.metric import Metric, Source, counters, gauges, histograms
from llm_serving.observability.runtime_metrics import RUNTIMES

GATEWAY = (
    *counters("llm_gateway_requests_total", labels=("model", "version", "endpoint", "code")),
    *histograms("llm_gateway_request_duration_seconds", labels=("model", "version", "endpoint")),
    *histograms("llm_gateway_time_to_first_token_seconds", labels=("model", "version")),
    *counters("llm_gateway_tokens_total", "llm_gateway_cache_tokens_saved_total", labels=("model", "kind")),
    *gauges(
        "llm_gateway_requests_in_flight",
        "llm_gateway_cache_available",
        "llm_gateway_cache_certificate_expiry_timestamp_seconds",
        "llm_gateway_draining",
    ),
    *gauges("llm_gateway_model_requests_in_flight", labels=("model",)),
    *counters("llm_gateway_cache_requests_total", labels=("model", "result", "reason")),
    *counters("llm_gateway_limit_requests_total", labels=("result",)),
    *counters("llm_gateway_cache_errors_total", labels=("operation", "kind")),
    *counters("llm_gateway_semantic_cache_lookups_total", labels=("model", "result")),
    *counters("llm_gateway_semantic_cache_errors_total", labels=("operation", "kind")),
    *histograms("llm_gateway_semantic_cache_lookup_duration_seconds"),
    *gauges("llm_gateway_semantic_cache_entries"),
    *counters(
        "llm_gateway_upstream_errors_total",
        "llm_gateway_upstream_retries_total",
        labels=("model", "version", "kind"),
    ),
    *counters(
        "llm_gateway_version_failovers_total",
        "llm_gateway_upstream_retries_refused_total",
        "llm_gateway_pod_ejections_total",
        labels=("model", "version"),
    ),
    *counters("llm_gateway_pod_choices_total", labels=("model", "version", "result")),
    *counters("llm_gateway_shadow_requests_total", labels=("model", "version", "result")),
    *counters("llm_gateway_config_reloads_total", "llm_gateway_trace_spans_total", labels=("result",)),
)
"""From `llm_gateway/metrics.py`; a test compares the two."""

EMBEDDER = (
    *counters("llm_embedder_requests_total", labels=("endpoint", "code")),
    *histograms("llm_embedder_request_duration_seconds", labels=("endpoint",)),
    *counters(
        "llm_embedder_inputs_total",
        "llm_embedder_tokens_total",
        "llm_embedder_inputs_truncated_total",
        "llm_embedder_requests_rejected_total",
        "llm_embedder_batch_errors_total",
    ),
    *gauges("llm_embedder_requests_in_flight", "llm_embedder_queued_tokens", "llm_embedder_draining"),
    *histograms("llm_embedder_batch_inputs", "llm_embedder_batch_duration_seconds"),
    *gauges("llm_embedder_info", labels=("model", "backend", "device")),
)
"""From `embedder/metrics.py`; a test compares the two."""

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
"""Upper bounds of the gateway's histogram of whole requests, in seconds: what a latency objective can be set to."""
FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
"""The same for the time to first token."""

_GPU_LABELS = ("gpu", "UUID", "device", "modelName", "Hostname", "namespace", "pod", "container")

GPU = (
    *gauges(
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_FB_RESERVED",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_MEMORY_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_SM_CLOCK",
        "DCGM_FI_DEV_XID_ERRORS",
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "DCGM_FI_PROF_DRAM_ACTIVE",
        labels=_GPU_LABELS,
    ),
    *counters("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", labels=_GPU_LABELS),
)
"""What dcgm-exporter 4.5 exports by default. Memory in MiB, power in W, temperature in degrees Celsius; FB_USED,
FB_FREE and FB_RESERVED add up to the GPU's memory."""

_HPA = ("namespace", "horizontalpodautoscaler")

KUBERNETES = (
    *gauges("kube_node_info", "kube_node_labels", labels=("node",)),
    *gauges("kube_node_status_allocatable", labels=("node", "resource", "unit")),
    *gauges("kube_pod_status_unschedulable", labels=("namespace", "pod")),
    *gauges("kube_deployment_spec_replicas", "kube_deployment_status_replicas", labels=("namespace", "deployment")),
    *gauges("kube_secret_created", labels=("namespace", "secret")),
    *gauges("kube_horizontalpodautoscaler_info", labels=(*_HPA, "scaletargetref_kind", "scaletargetref_name")),
    *gauges(
        "kube_horizontalpodautoscaler_spec_max_replicas",
        "kube_horizontalpodautoscaler_status_desired_replicas",
        labels=_HPA,
    ),
    *gauges("kube_horizontalpodautoscaler_status_condition", labels=(*_HPA, "condition", "status")),
)
"""Of kube-state-metrics 2. `kube_node_labels` has a label only where it is started with `NODE_LABEL_ALLOWLIST`."""

NODE_LABEL_ALLOWLIST = "nodes=[llm-serving/pool,node.kubernetes.io/instance-type]"
"""Value of kube-state-metrics' `--metric-labels-allowlist`, without which no node has a price."""

PROMETHEUS = gauges("up")

RECORDED = gauges(
    *(f"llm_serving:requests:rate{window}" for window in ("5m", "30m", "1h", "6h", "3d")),
    *(f"llm_serving:request_errors:ratio_rate{window}" for window in ("5m", "30m", "1h", "6h", "3d")),
    *(f"llm_serving:slow_first_tokens:ratio_rate{window}" for window in ("5m", "30m", "1h", "6h", "3d")),
    *(f"llm_serving:slow_requests:ratio_rate{window}" for window in ("5m", "30m", "1h", "6h", "3d")),
    "llm_serving:queue_requests:sum",
    "llm_serving:queue_requests:avg",
    "llm_serving:running_requests:sum",
    "llm_serving:kv_cache_usage:max",
    "llm_serving:gpu_memory_usage:ratio",
    "llm_serving:cache_hits:ratio_rate5m",
    "llm_serving:cache_errors:ratio_rate5m",
    "llm_serving:instance_price:usd_per_hour",
    "llm_serving:other_cost:usd_per_hour",
    "llm_serving:pool_nodes:count",
    "llm_serving:pool_cost:usd_per_hour",
    "llm_serving:model_gpus:count",
    "llm_serving:model_cost:usd_per_hour",
    "llm_serving:total_cost:usd_per_hour",
    "llm_serving:model_cost_per_1000_requests:usd",
    "llm_serving:model_cost_per_million_tokens:usd",
)
"""What the recording rules of `recording.py` make; a test compares the two."""


class UnknownMetricError(ValueError):
    """A metric that nothing here exports; the text names the nearest one that something does."""


def _runtime() -> Iterator[Metric]:
    seen: set[str] = set()
    for item in RUNTIMES:
        for metric in item.metrics:
            if metric.name not in seen:
                seen.add(metric.name)
                yield metric


TABLE: Mapping[Source, tuple[Metric, ...]] = {
    Source.GATEWAY: GATEWAY,
    Source.RUNTIME: tuple(_runtime()),
    Source.EMBEDDER: EMBEDDER,
    Source.GPU: GPU,
    Source.KUBERNETES: KUBERNETES,
    Source.PROMETHEUS: PROMETHEUS,
    Source.RECORDED: RECORDED,
}


@cache
def _by_series() -> Mapping[str, tuple[Source, Metric]]:
    return {name: (source, metric) for source, metrics in TABLE.items() for metric in metrics for name in metric.series}


def find(series: str) -> tuple[Source, Metric]:
    """The metric whose samples have this name, and what exports it; raises UnknownMetricError where nothing does."""
    known = _by_series()
    if series not in known:
        raise UnknownMetricError(f"metric: nothing exports {series!r}; nearest metric: {nearest(series, known)}")
    return known[series]


def sources(series: Iterable[str]) -> frozenset[Source]:
    """What exports these metrics; raises UnknownMetricError that names each one that nothing exports."""
    problems: list[str] = []
    found: set[Source] = set()
    for name in series:
        try:
            found.add(find(name)[0])
        except UnknownMetricError as error:
            problems.append(str(error))
    if problems:
        raise UnknownMetricError("\n".join(problems))
    return frozenset(found)
