"""The rules as data: complete, documented, of known metrics only, and all of them with a story for promtool."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from llm_serving.observability import (
    InputsError,
    MonitoredEmbedding,
    MonitoredModel,
    MonitoredPool,
    MonitoringInputs,
    Slo,
    Source,
    expressions,
    metrics,
    needs,
    promql,
    rules,
)
from llm_serving.observability.alerts import Alert, alerts, runbook
from llm_serving.observability.recording import GROUPS
from tests.unit.observability.alert_cases import CASES
from tests.unit.observability.sample import INPUTS

RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks"


def _ids(alert: Alert) -> str:
    return "-".join([alert.name, alert.severity, *alert.labels.values()])


def test_recording_rules_make_the_table_of_recorded_names() -> None:
    made = {recording.record for group in GROUPS.values() for recording in group(INPUTS)}
    assert made == {metric.name for metric in metrics.RECORDED}


def test_every_expression_asks_for_known_metrics_only() -> None:
    asked = expressions(INPUTS)
    assert len(asked) > 40
    for expression in (text for texts in asked.values() for text in texts):
        assert promql.sources(expression) or expression.startswith("vector(")


@pytest.mark.parametrize(
    ("expression", "exporters"),
    [
        ("llm_serving:gpu_memory_usage:ratio", {Source.GPU}),
        ("llm_serving:queue_requests:sum", {Source.RUNTIME}),
        ("llm_serving:model_cost_per_1000_requests:usd", {Source.GATEWAY, Source.KUBERNETES}),
        ("llm_serving:other_cost:usd_per_hour", set[Source]()),
        ("up", {Source.PROMETHEUS}),
    ],
)
def test_what_an_expression_needs(expression: str, exporters: set[Source]) -> None:
    assert needs(expression, INPUTS) == exporters


def test_rules_are_the_same_each_time() -> None:
    assert rules(INPUTS) == rules(replace(INPUTS))


@pytest.mark.parametrize("alert", alerts(INPUTS), ids=_ids)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert: Alert) -> None:
    annotations = alert.annotations("https://example.com/runbooks/")
    assert alert.rule("https://example.com/runbooks/")["annotations"] == annotations
    assert alert.severity in {"page", "ticket"}
    assert annotations["summary"]
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"https://example.com/runbooks/{alert.runbook}"


@pytest.mark.parametrize("alert", alerts(INPUTS), ids=_ids)
def test_an_alert_has_stories_in_which_it_fires_and_clears(alert: Alert) -> None:
    fires = [
        expected
        for case in CASES
        if case.alert == alert.name
        for expecteds in case.fires.values()
        for expected in expecteds
    ]
    window = alert.labels.get("window")
    assert (alert.severity, window) in {(expected.severity, expected.labels.get("window")) for expected in fires}
    assert any(
        quiet > max(case.fires, default=quiet) for case in CASES if case.alert == alert.name for quiet in case.quiet
    )


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    pages = {path.name for path in RUNBOOKS.glob("llm-*.md")}
    assert pages == {alert.runbook for alert in alerts(INPUTS)}


def test_the_list_of_runbooks_has_each_alert_with_its_severities() -> None:
    text = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    listed = {
        name: set(severities.split(", "))
        for name, severities in re.findall(r"^\| \[(\w+)\].*? \| (.*?) \|", text, re.MULTILINE)
    }
    severities: dict[str, set[str]] = {}
    for alert in alerts(INPUTS):
        severities.setdefault(alert.name, set()).add(alert.severity)
    assert listed == severities


@pytest.mark.parametrize("name", sorted({alert.name for alert in alerts(INPUTS)}))
def test_a_runbook_says_what_is_needed_at_night(name: str) -> None:
    text = (RUNBOOKS / runbook(name)).read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "What it means",
        "How to see it",
        "What to do",
        "What ends it",
    ]
    queries = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    assert queries
    for query in queries:
        assert promql.sources(re.sub(r"^#.*$", "", query, flags=re.MULTILINE))


def test_burn_rates_compare_with_the_objective_of_each_model() -> None:
    texts = expressions(INPUTS)["LlmFirstTokenLatencyBurn"]
    assert len(texts) == 3
    assert all('model!~"llama"' in text and 'model="llama"' in text for text in texts)
    assert texts[0].count("> 0.72 and") == 2


def test_a_model_with_the_environments_own_objective_is_not_named() -> None:
    same = replace(INPUTS, models=tuple(replace(model, slo=INPUTS.slo) for model in INPUTS.models))
    assert "model!~" not in "".join(expressions(same)["LlmErrorBudgetBurn"])


def test_rules_do_not_grow_with_models_that_are_alike() -> None:
    many = replace(INPUTS, models=tuple(MonitoredModel(f"m{number}", "l4") for number in range(100)))
    one = replace(INPUTS, models=(MonitoredModel("m0", "l4"),))
    count = [sum(len(group["rules"]) for group in rules(inputs)["groups"]) for inputs in (many, one)]
    assert count[0] == count[1]


def test_without_a_cache_or_a_budget_there_are_no_alerts_on_them() -> None:
    names = set(expressions(replace(INPUTS, cache=False, budget_usd_per_hour=None, secrets=())))
    assert not names & {"LlmCacheErrors", "LlmCacheUnavailable", "LlmCertificateExpiring", "LlmCostOverBudget"}
    assert "LlmSecretOld" not in names


def test_a_runtime_that_exports_no_queue_has_no_alert_on_it() -> None:
    blind = replace(INPUTS, models=(MonitoredModel("m", "l4", runtime="tensorrt-llm"),))
    assert not set(expressions(blind)) & {"LlmQueueGrowing", "LlmAutoscalerIdle", "LlmKvCacheExhausted"}


def test_prices_that_are_not_known_are_not_zero() -> None:
    priced = expressions(INPUTS)["llm_serving:instance_price:usd_per_hour"]
    assert priced == ["vector(0.978)", "vector(15.066)"]


def test_all_problems_of_the_inputs_at_once() -> None:
    with pytest.raises(InputsError) as caught:
        MonitoringInputs(
            models=(MonitoredModel("a b", "l4"), MonitoredModel("m", "l5", runtime="vlm", slo=Slo(availability=1))),
            pools=(MonitoredPool("l4", {"g6.2xlarge": 0}),),
            slo=Slo(first_token_seconds=3),
        )
    slow, name, pool, availability, runtime, price = str(caught.value).splitlines()
    assert slow.startswith("slo.first_token_seconds: 3 s is not a bucket of the gateway's histogram")
    assert slow.endswith("nearest valid value: 2")
    assert name == "'a b' is no Kubernetes name: it goes into queries as it is"
    assert pool == "models.m.pool: 'l5' is no pool; known: l4"
    assert availability == "models.m.slo.availability: 1 is outside 0.5 to below 1; nearest valid value: 0.9999"
    assert runtime.startswith("models.m.runtime: the metrics of 'vlm' are not known;")
    assert runtime.endswith("nearest valid value: vllm")
    assert price.startswith("pools.l4.price_usd_per_hour.g6.2xlarge: 0 is not above 0;")


WITH_CANARY = replace(
    INPUTS,
    models=(
        *INPUTS.models,
        MonitoredModel("qwen-canary", "l4", version_of="qwen"),
        MonitoredModel("llama-next", "l4", version_of="llama"),
    ),
)


def test_a_versions_pods_cost_its_model() -> None:
    counts = expressions(WITH_CANARY)["llm_serving:model_gpus:count"]
    at = 'kube_deployment_status_replicas{namespace="llm-serving",deployment='
    assert counts == [
        (
            f'sum by (namespace, model) (label_replace({at}"qwen"}}, "model", "$1", "deployment", "(.+)") * 1'
            f' or label_replace({at}"qwen-canary"}}, "model", "qwen", "", "") * 1'
            f' or label_replace({at}"llama-next"}}, "model", "llama", "", "") * 1)'
        ),
        f'sum by (namespace, model) (label_replace({at}"llama"}}, "model", "$1", "deployment", "(.+)") * 4)',
    ]


def test_an_embedding_services_gpus_are_not_its_neighbours_cost() -> None:
    on_gpu = replace(INPUTS, embeddings=(MonitoredEmbedding("minilm", "l4", gpus=1),))
    counts = expressions(on_gpu)["llm_serving:model_gpus:count"]
    at = 'kube_deployment_status_replicas{namespace="llm-serving",deployment'
    assert counts[0] == (
        f'sum by (namespace, model) (label_replace({at}=~"minilm|qwen"}}, "model", "$1", "deployment", "(.+)") * 1)'
    )
    # On CPUs it has none of them.
    assert not any("minilm" in count for count in expressions(INPUTS)["llm_serving:model_gpus:count"])


def test_without_embedding_services_nothing_is_asked_of_one() -> None:
    without = expressions(replace(INPUTS, embeddings=()))
    assert "LlmEmbedderFull" not in without
    assert not any("llm_embedder" in each for found in without.values() for each in found)


def test_a_version_that_nothing_scrapes_is_missed_by_itself() -> None:
    (missing,) = expressions(WITH_CANARY)["LlmTargetMissing"]
    at = 'absent(up{namespace="llm-serving",model="qwen",version='
    assert f'{at}""}})' in missing
    assert f'{at}"canary"}})' in missing
    (before,) = expressions(INPUTS)["LlmTargetMissing"]
    assert "version" not in before
