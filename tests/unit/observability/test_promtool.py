"""The real promtool on the real rules: each alert fires when it should, says what it should, and clears."""

from dataclasses import replace
from pathlib import Path

import pytest

from llm_serving.observability import MonitoredModel
from llm_serving.observability.autoscaling import kv_cache_query, queue_query
from tests.unit.observability import promtool
from tests.unit.observability.alert_cases import CASES, COSTS, COSTS_SERIES, STORIES, Case, Stories
from tests.unit.observability.sample import INPUTS

pytestmark = pytest.mark.local


def test_the_rules_are_valid(tmp_path: Path) -> None:
    assert "SUCCESS" in promtool.check(tmp_path, INPUTS)


@pytest.mark.parametrize("stories", STORIES.values(), ids=list(STORIES))
def test_every_alert_fires_and_clears(tmp_path: Path, stories: Stories) -> None:
    tests = [promtool.story(case, INPUTS) for case in stories.cases]
    assert "SUCCESS" in promtool.test_rules(tmp_path, INPUTS, tests, stories.groups, stories.minutes)


def test_costs(tmp_path: Path) -> None:
    groups = ("llm-serving.requests", "llm-serving.cost")
    assert "SUCCESS" in promtool.test_rules(
        tmp_path, INPUTS, [promtool.calculation(COSTS_SERIES, 60, COSTS)], groups, 1
    )


def test_costs_of_versions_are_their_models(tmp_path: Path) -> None:
    canary = MonitoredModel("qwen-canary", "l4", version_of="qwen")
    elsewhere = MonitoredModel("qwen-next", "l40s", version_of="qwen", gpus=4)
    inputs = replace(INPUTS, models=(*INPUTS.models, canary, elsewhere))
    replicas = 'kube_deployment_status_replicas{namespace="llm-serving",deployment="qwen'
    series = {**COSTS_SERIES, f'{replicas}-canary"}}': "1x60", f'{replicas}-next"}}': "0x60"}
    groups = ("llm-serving.requests", "llm-serving.cost")
    tests = [promtool.calculation(series, 60, COSTS)]
    assert "SUCCESS" in promtool.test_rules(tmp_path, inputs, tests, groups, 1)


def test_an_autoscaler_tells_nothing_to_do_from_nothing_known(tmp_path: Path) -> None:
    """Minute 0: nobody has asked yet. 1: both pods have a queue. 2: one does not answer. 3: none does."""
    at = 'namespace="llm-serving",model="qwen"'
    asked = [queue_query("llm-serving", "qwen", "tgi"), str(kv_cache_query("llm-serving", "qwen", "tgi"))]
    series = {
        f'up{{{at},pod="a"}}': "1 1 1 0",
        f'up{{{at},pod="b"}}': "1 1 0 0",
        'up{namespace="llm-serving",model="other"}': "1 1 1 1",
        f'tgi_queue_size{{{at},pod="a"}}': "_ 3 4 stale",
        f'tgi_queue_size{{{at},pod="b"}}': "_ 2 stale stale",
        f'tgi_batch_current_max_tokens{{{at},pod="a"}}': "_ 500 900 stale",
        f'tgi_batch_current_max_tokens{{{at},pod="b"}}': "_ 700 stale stale",
        f'tgi_batch_max_total_tokens{{{at},pod="a"}}': "1000 1000 1000 stale",
        f'tgi_batch_max_total_tokens{{{at},pod="b"}}': "1000 1000 stale stale",
    }
    answers = [(0, 0.0), (5, 0.6), (4, 0.9)]
    tests = [
        promtool.calculation(series, minute, dict(zip(asked, answer, strict=True)))
        for minute, answer in enumerate(answers)
    ]
    silent = promtool.calculation(series, 3, dict.fromkeys(asked, 0))
    for expected in silent["promql_expr_test"]:
        expected["exp_samples"] = []
    assert "SUCCESS" in promtool.test_rules(tmp_path, INPUTS, [*tests, silent], (), 1)


def test_an_alert_that_does_not_fire_is_noticed(tmp_path: Path) -> None:
    (case,) = [case for case in CASES if case.alert == "LlmTargetDown"]
    silent = Case(case.alert, case.title, {}, case.fires)
    with pytest.raises(promtool.PromtoolError, match=case.alert):
        promtool.test_rules(tmp_path, INPUTS, [promtool.story(silent, INPUTS)], ("llm-serving.targets",), 1)
