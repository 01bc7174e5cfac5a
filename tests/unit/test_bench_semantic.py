"""The measurement of the semantic cache: what it makes of pairs, and that the default threshold keeps its promise."""

import json

from llm_gateway.config import DEFAULT_THRESHOLD

from llm_serving import _semantic_tier
from local import bench_semantic
from local.bench_semantic import MOST_FALSE, RESULTS, Pair, rates


def test_rates_of_pairs() -> None:
    found = [
        Pair("paraphrase", 0.96, refused=False),
        Pair("paraphrase", 0.96, refused=True),
        Pair("paraphrase", 0.9, refused=False),
        Pair("name", 0.95, refused=True),
        Pair("unit", 0.99, refused=False),
        Pair("unit", 0.94, refused=False),
        Pair("unit", 0.2, refused=False),
    ]
    assert rates(found, 0.95) == {
        "threshold": 0.95, "hits": 0.6667, "false_hits": 0.5, "hits_guarded": 0.3333, "false_hits_guarded": 0.25
    }  # fmt: skip


def test_the_default_threshold_is_the_measured_one_and_lets_few_false_hits_pass() -> None:
    results = json.loads((RESULTS / "semantic_cache.json").read_text())
    (row,) = [row for row in results["by_threshold"] if row["threshold"] == DEFAULT_THRESHOLD]
    assert results["default_threshold"] == DEFAULT_THRESHOLD == _semantic_tier.THRESHOLD
    assert row["false_hits_guarded"] < MOST_FALSE < row["false_hits"]
    assert row["hits_guarded"] > 0.5
    assert results["paraphrases"] + sum(results["near_misses"].values()) >= 300
    assert (RESULTS / "semantic_cache.md").read_text() == bench_semantic.page(results)
