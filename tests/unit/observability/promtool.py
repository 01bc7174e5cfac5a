"""Writes the alert cases as promtool's test files and runs promtool on them."""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_serving.observability import MonitoringInputs, rules
from llm_serving.observability.alerts import Alert, alerts
from local.toolchain import program
from tests.unit.observability.alert_cases import Case, Expected

_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
_VALUE = re.compile(r"\{\{ \$value[^}]*\}\}")


class PromtoolError(AssertionError):
    """Promtool found something wrong; the text is its own."""


def _series(series: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def _alert(case: Case, expected: Expected, inputs: MonitoringInputs) -> Alert:
    """The rule that an expected alert comes from: of several with its name, the first with its labels."""
    window = expected.labels.get("window")
    return next(
        alert
        for alert in alerts(inputs)
        if (alert.name, alert.severity, alert.labels.get("window")) == (case.alert, expected.severity, window)
    )


def _expected(case: Case, expected: Expected, inputs: MonitoringInputs) -> dict[str, Any]:
    texts = _alert(case, expected, inputs).annotations(inputs.runbook_base_url)
    filled = {
        name: _VALUE.sub(expected.value, _LABEL.sub(lambda found: expected.labels.get(found[1], ""), text))
        for name, text in texts.items()
    }
    return {"exp_labels": {"severity": expected.severity, **expected.labels}, "exp_annotations": filled}


def story(case: Case, inputs: MonitoringInputs) -> dict[str, Any]:
    """A case as one of promtool's tests."""
    moments: dict[int, tuple[Expected, ...]] = {**case.fires, **dict.fromkeys(case.quiet, ())}
    return {
        "name": f"{case.alert}: {case.title}",
        "interval": "1m",
        "input_series": _series(case.series),
        "alert_rule_test": [
            {
                "eval_time": f"{minute}m",
                "alertname": case.alert,
                "exp_alerts": [_expected(case, expected, inputs) for expected in moments[minute]],
            }
            for minute in sorted(moments)
        ],
    }


def calculation(series: Mapping[str, str], minute: int, values: Mapping[str, float]) -> dict[str, Any]:
    """Values that expressions have at a minute, each one number without labels, as one of promtool's tests."""
    return {
        "interval": "1m",
        "input_series": _series(series),
        "promql_expr_test": [
            {"expr": expression, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": value}]}
            for expression, value in values.items()
        ],
    }


def check(folder: Path, inputs: MonitoringInputs) -> str:
    """What promtool says of all rules; raises PromtoolError where anything is wrong with one."""
    # JSON is YAML.
    (folder / "rules.yaml").write_text(json.dumps(rules(inputs)))
    return _run(folder, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


def test_rules(
    folder: Path, inputs: MonitoringInputs, tests: Iterable[dict[str, Any]], groups: Sequence[str], minutes: int
) -> str:
    """What promtool says of tests of the rules of some groups, evaluated every so many minutes.

    Raises PromtoolError where one of the tests fails.
    """
    content = {"groups": [group for group in rules(inputs)["groups"] if group["name"] in groups]}
    (folder / "rules.yaml").write_text(json.dumps(content))
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{minutes}m",
        "group_eval_order": [group["name"] for group in content["groups"]],
        "tests": list(tests),
    }
    (folder / "tests.yaml").write_text(json.dumps(document))
    return _run(folder, "test", "rules", "tests.yaml")


def _run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        raise PromtoolError(done.stdout + done.stderr)
    return done.stdout
