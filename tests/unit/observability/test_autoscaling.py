"""What autoscalers ask: the queue's own name in each runtime, and nothing that no runtime exports."""

import pytest

from llm_serving.observability import UnknownMetricError, UnknownRuntimeError
from llm_serving.observability.autoscaling import check, kv_cache_query, queue_query

AT = '{namespace="llm-serving",model="qwen"}'


@pytest.mark.parametrize(
    ("runtime", "version", "metric"),
    [
        ("tgi", None, "tgi_queue_size"),
        ("vllm", "0.33.0", "vllm:num_requests_waiting"),
        ("tensorrt-llm", "1.3.0", "trtllm_num_requests_waiting"),
    ],
)
def test_the_queue_has_another_name_in_each_runtime(runtime: str, version: str | None, metric: str) -> None:
    asked = queue_query("llm-serving", "qwen", runtime, version)
    assert asked == f"sum({metric}{AT}) or sum(0 * (up{AT} == 1))"
    assert check(asked) == asked


@pytest.mark.parametrize(
    ("runtime", "version", "usage"),
    [
        ("tgi", None, f"tgi_batch_current_max_tokens{AT} / tgi_batch_max_total_tokens{AT}"),
        ("vllm", "0.33.0", f"vllm:kv_cache_usage_perc{AT}"),
        ("tensorrt-llm", "1.3.0", f"trtllm_kv_cache_utilization{AT}"),
    ],
)
def test_the_use_of_the_kv_cache_too(runtime: str, version: str | None, usage: str) -> None:
    asked = kv_cache_query("llm-serving", "qwen", runtime, version)
    assert asked == f"avg({usage}) or avg(0 * (up{AT} == 1))"
    assert check(asked or "") == asked


def test_a_runtime_that_exports_no_use_of_its_kv_cache_has_no_query() -> None:
    assert kv_cache_query("llm-serving", "qwen", "tensorrt-llm") is None


def test_a_runtime_that_exports_no_queue_is_refused() -> None:
    with pytest.raises(UnknownRuntimeError, match=r"nearest version that does: 1\.3\.0"):
        queue_query("llm-serving", "qwen", "tensorrt-llm")


def test_a_query_for_a_name_that_is_gone_is_refused() -> None:
    with pytest.raises(UnknownMetricError, match="nearest metric: vllm:kv_cache_usage_perc"):
        check('avg(vllm:gpu_cache_usage_perc{model="llama"})')
