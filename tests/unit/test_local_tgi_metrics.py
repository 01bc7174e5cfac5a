"""The metrics have the real router's names, kinds and buckets."""

import pytest
from local_runtime.tgi.metrics import DURATION_BUCKETS, Histogram, Metric, Metrics


def test_buckets_of_durations() -> None:
    assert len(DURATION_BUCKETS) == 35
    assert DURATION_BUCKETS[0] == 0.00015
    assert DURATION_BUCKETS[-1] == pytest.approx(145.6, rel=0.001)


def test_a_counter_has_no_total_in_its_name() -> None:
    counter = Metric("tgi_request_failure", "counter")
    counter.add(err="overloaded")
    counter.add(err="overloaded")
    counter.add(err="validation")

    assert counter.lines() == [
        "# TYPE tgi_request_failure counter",
        'tgi_request_failure{err="overloaded"} 2',
        'tgi_request_failure{err="validation"} 1',
    ]


def test_a_histogram_is_cumulative() -> None:
    histogram = Histogram("tgi_batch_next_size", [1.0, 2.0, 3.0])
    for size in (1, 2, 2, 9):
        histogram.observe(size)

    assert histogram.lines() == [
        "# TYPE tgi_batch_next_size histogram",
        'tgi_batch_next_size_bucket{le="1"} 1',
        'tgi_batch_next_size_bucket{le="2"} 3',
        'tgi_batch_next_size_bucket{le="3"} 3',
        'tgi_batch_next_size_bucket{le="+Inf"} 4',
        "tgi_batch_next_size_sum 14",
        "tgi_batch_next_size_count 4",
    ]


def test_gauges_are_there_before_the_first_request() -> None:
    text = Metrics(1024, 2048, 4).render()

    assert "# TYPE tgi_queue_size gauge\ntgi_queue_size 0\n" in text
    assert "tgi_batch_current_size 0\n" in text
    assert "tgi_request_count" not in text


def test_token_buckets_follow_the_limits() -> None:
    metrics = Metrics(1000, 2000, 4)

    assert (metrics.request_input_length.buckets[0], metrics.request_input_length.buckets[-1]) == (10, 1000)
    assert metrics.request_generated_tokens.buckets[-1] == 2000
