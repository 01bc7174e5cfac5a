"""All recording and alerting rules of an environment, as the spec of one PrometheusRule."""

from typing import Any

from llm_serving.observability import alerts, promql, recording
from llm_serving.observability.inputs import MonitoringInputs
from llm_serving.observability.metric import Source


def rules(inputs: MonitoringInputs) -> dict[str, Any]:
    """The `spec` of a PrometheusRule, which is also the content of a Prometheus rule file."""
    groups: list[dict[str, Any]] = []
    for name, record in recording.GROUPS.items():
        groups.append({"name": name, "rules": [item.rule() for item in record(inputs)]})
    for name, alert in alerts.GROUPS.items():
        groups.append({"name": name, "rules": [item.rule(inputs.runbook_base_url) for item in alert(inputs)]})
    return {"groups": [group for group in groups if group["rules"]]}


def expressions(inputs: MonitoringInputs) -> dict[str, list[str]]:
    """The expressions of each recorded name and each alert, so that every one of them can be asked for an answer."""
    found: dict[str, list[str]] = {}
    for group in rules(inputs)["groups"]:
        for rule in group["rules"]:
            found.setdefault(rule.get("record") or rule["alert"], []).append(rule["expr"])
    return found


def needs(expression: str, inputs: MonitoringInputs) -> frozenset[Source]:
    """What must be scraped for an expression to have an answer: what its recorded series are made of counts too."""
    recorded = expressions(inputs)
    found: set[Source] = set()
    open_expressions = [expression]
    seen: set[str] = set()
    while open_expressions:
        for name in promql.series(open_expressions.pop()):
            if name not in seen:
                seen.add(name)
                found |= promql.sources(name)
                open_expressions += recorded.get(name, [])
    return frozenset(found - {Source.RECORDED})
