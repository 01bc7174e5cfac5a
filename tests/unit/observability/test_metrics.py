"""The table of metrics: that it is what is really exported, and that nothing asks for anything else."""

import pytest
from embedder.metrics import Metrics as EmbedderMetrics
from llm_gateway.metrics import Metrics as GatewayMetrics
from local_runtime.tgi.metrics import Histogram as TgiHistogram
from local_runtime.tgi.metrics import Metrics as TgiMetrics
from prometheus_client.metrics_core import Metric as Family

from llm_serving.observability import UnknownMetricError, UnknownRuntimeError, metrics, promql, runtime
from llm_serving.observability.metric import Kind, Source
from llm_serving.observability.metrics import FIRST_TOKEN_BUCKETS, GATEWAY, REQUEST_BUCKETS, TABLE
from llm_serving.observability.runtime_metrics import RUNTIMES, TGI_3_3_7, RuntimeMetrics


def _name(family: Family) -> str:
    return family.name + "_total" if family.type == "counter" else family.name


def test_the_gateways_metrics_are_those_that_it_exports() -> None:
    exported = {_name(family): family.type for family in GatewayMetrics().registry.collect()}
    assert {metric.name: str(metric.kind) for metric in GATEWAY} == exported


def test_the_embedders_metrics_are_those_that_it_exports() -> None:
    families = list(EmbedderMetrics().registry.collect())
    assert {metric.name: metric.kind.value for metric in metrics.EMBEDDER} == {
        _name(family): family.type for family in families
    }


def test_the_gateways_labels_are_those_that_it_sets() -> None:
    gateway = GatewayMetrics()
    labels = {
        "llm_gateway_requests_total": gateway.requests,
        "llm_gateway_tokens_total": gateway.tokens,
        "llm_gateway_cache_requests_total": gateway.cache_results,
        "llm_gateway_cache_errors_total": gateway.cache_errors,
        "llm_gateway_time_to_first_token_seconds": gateway.first_token,
    }
    table = {metric.name: metric.labels for metric in GATEWAY}
    for name, metric in labels.items():
        values = [f"value-of-{label}" for label in table[name]]
        metric.labels(*values)
    for family in gateway.registry.collect():
        if (name := _name(family)) in labels:
            assert all(set(sample.labels) - {"le"} == set(table[name]) for sample in family.samples)


@pytest.mark.parametrize(
    ("family", "buckets"),
    [
        ("llm_gateway_request_duration_seconds", REQUEST_BUCKETS),
        ("llm_gateway_time_to_first_token_seconds", FIRST_TOKEN_BUCKETS),
    ],
)
def test_objectives_can_be_set_to_the_buckets_that_there_are(family: str, buckets: tuple[float, ...]) -> None:
    gateway = GatewayMetrics()
    gateway.duration.labels("m", "v", "e").observe(1)
    gateway.first_token.labels("m", "v").observe(1)
    (found,) = [item for item in gateway.registry.collect() if item.name == family]
    bounds = {sample.labels["le"] for sample in found.samples if sample.name.endswith("_bucket")} - {"+Inf"}
    assert bounds == {str(float(bound)) for bound in buckets}


def test_tgis_metrics_hold_all_that_the_local_image_serves() -> None:
    served = {metric.name: metric for metric in vars(TgiMetrics(1024, 2048, 4)).values()}
    table = {metric.name: metric.kind for metric in TGI_3_3_7.metrics}
    for name, metric in served.items():
        assert table[name] == (Kind.HISTOGRAM if isinstance(metric, TgiHistogram) else Kind(metric.kind))
    asked = {TGI_3_3_7.queue, TGI_3_3_7.running, TGI_3_3_7.kv_used, TGI_3_3_7.kv_size, TGI_3_3_7.token_seconds}
    assert asked <= set(served)


@pytest.mark.parametrize("item", RUNTIMES, ids=lambda item: f"{item.runtime}-{item.version}")
def test_a_runtime_is_asked_only_for_what_it_exports(item: RuntimeMetrics) -> None:
    kinds = {metric.name: metric.kind for metric in item.metrics}
    for gauge in (item.queue, item.running, item.kv_used, item.kv_size):
        assert gauge is None or kinds[gauge] is Kind.GAUGE
    for histogram in (item.request_seconds, item.queue_seconds, item.token_seconds, item.first_token_seconds):
        assert histogram is None or kinds[histogram] is Kind.HISTOGRAM


def test_no_two_exporters_share_a_name() -> None:
    names = [metric.name for items in TABLE.values() for metric in items]
    assert len(names) == len(set(names))


def test_kv_use_is_one_expression_for_every_runtime() -> None:
    at = '{model="m"}'
    assert runtime("tgi").kv_usage(at) == f"tgi_batch_current_max_tokens{at} / tgi_batch_max_total_tokens{at}"
    assert runtime("vllm").kv_usage(at) == f"vllm:kv_cache_usage_perc{at}"
    assert runtime("tensorrt-llm").kv_usage(at) is None


def test_an_unknown_metric_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(UnknownMetricError, match="'vllm:gpu_cache_usage_perc'; nearest metric: vllm:kv_cache_usage_"):
        metrics.find("vllm:gpu_cache_usage_perc")
    with pytest.raises(UnknownMetricError) as caught:
        promql.sources("rate(tgi_queue_sise[5m]) + sum by (model) (llm_gateway_request)")
    assert str(caught.value).splitlines() == [
        "metric: nothing exports 'tgi_queue_sise'; nearest metric: tgi_queue_size",
        "metric: nothing exports 'llm_gateway_request'; nearest metric: llm_gateway_requests_total",
    ]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("vlm", None, "nearest valid value: vllm"),
        ("vllm", "0.32.9", "the metrics of vllm 0.32.9 are not known; known: 0.33.0; nearest valid value: 0.33.0"),
    ],
)
def test_an_unknown_runtime_or_version(name: str, version: str | None, message: str) -> None:
    with pytest.raises(UnknownRuntimeError, match=message):
        runtime(name, version)


def test_a_runtime_without_a_queue_length_cannot_be_scaled_on_it() -> None:
    assert runtime("tgi").require_queue() == "tgi_queue_size"
    with pytest.raises(UnknownRuntimeError, match=r"tensorrt-llm 1\.2\.1 exports no queue length;.*1\.3\.0"):
        runtime("tensorrt-llm", "1.2.1").require_queue()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (model, le) (rate(a_bucket{x="b{c}"}[5m]))', ("a_bucket",)),
        ("a / on (pool) group_left (q) b:c:d > bool 1e6 unless e offset 5m", ("a", "b:c:d", "e")),
        ('label_replace(up, "model", "$1", "x", "(.+)") or vector(0) and time() - up', ("up",)),
        ("rate(a[$__rate_interval]) * 100 == Inf", ("a",)),
    ],
)
def test_names_are_found_in_expressions(expression: str, names: tuple[str, ...]) -> None:
    assert promql.series(expression) == names


def test_the_sources_of_an_expression() -> None:
    assert promql.sources("up * on (node) DCGM_FI_DEV_GPU_UTIL") == {Source.PROMETHEUS, Source.GPU}
