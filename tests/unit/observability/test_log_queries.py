"""Metric filters count what they say, on lines that the gateway really writes; queries name fields that exist."""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

import pytest
from http_service.logs import JsonFormatter
from llm_gateway.access_log import Record
from llm_gateway.metrics import Metrics

from llm_serving._edge_rules import MANAGED_GROUPS
from llm_serving.api_gateway import ACCESS_LOG_FIELDS
from llm_serving.observability.log_queries import (
    GATEWAY_LOGGER,
    LONGEST_PATTERN,
    METRICS,
    MOST_DIMENSIONS,
    PARSED,
    QUERIES,
    Log,
    LogMetric,
)
from tests.unit.observability.filter_patterns import matches, named_fields

AUDIT_FIELDS = {
    "kind", "stage", "verb", "user.username", "userAgent", "sourceIPs.0", "responseStatus.code", "objectRef.resource",
    "objectRef.subresource", "objectRef.namespace", "objectRef.name",
}  # fmt: skip
"""Of `audit.k8s.io/v1` events: what may be named. Neither requestObject nor responseObject, which hold contents."""
WAF_FIELDS = {
    "timestamp", "action", "terminatingRuleId", "httpRequest.clientIp", "httpRequest.country", "httpRequest.uri",
    *(f"ruleGroupList.{number}.terminatingRule.ruleId" for number in range(len(MANAGED_GROUPS))),
}  # fmt: skip
"""Of AWS WAF's log (developer guide, log fields): what may be named. No matched text, no headers."""
IAM = "arn:aws:sts::123456789012:assumed-role/Admin/ada"


def metric(name: str) -> LogMetric:
    return next(each for each in METRICS if each.name == name)


def request(capsys: pytest.CaptureFixture[str], **known: Any) -> dict[str, Any]:
    """Return what CloudWatch holds of one request: the gateway's own line, as Fluent Bit wraps it."""
    record = Record("id-1", "POST", "/v1/chat/completions", model="qwen", tenant="web")
    for name, value in {"status": 200, **known}.items():
        setattr(record, name, value)
    logger = logging.getLogger(GATEWAY_LOGGER)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        record.finish(Metrics())
    finally:
        logger.removeHandler(handler)
    line = capsys.readouterr().err
    return {"log": line, "stream": "stdout", PARSED: json.loads(line), "kubernetes": {"namespace_name": "llm-serving"}}


def audit(**known: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "kind": "Event",
        "stage": "ResponseComplete",
        "verb": "get",
        "user": {"username": IAM},
        "objectRef": {"resource": "pods", "namespace": "llm-serving", "name": "qwen-0"},
        "responseStatus": {"code": 200},
    }
    for path, value in known.items():
        first, _, rest = path.partition("__")
        event[first] = {**event[first], rest: value} if rest else value
    return event


def counted(event: Mapping[str, Any], log: Log) -> set[str]:
    return {each.name for each in METRICS if each.log is log and matches(each.pattern, event)}


def test_requests_are_counted_by_how_they_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(request(capsys), Log.APPLICATION) == set()
    failed = request(capsys, status=502, error="upstream_500")
    assert counted(failed, Log.APPLICATION) == {"gateway-server-errors", "gateway-errors"}
    slowed = request(capsys, status=429, error="rate_limit_error")
    assert counted(slowed, Log.APPLICATION) == {"gateway-throttled", "gateway-errors"}
    wrong = request(capsys, status=404, error="model_not_found", model="")
    assert counted(wrong, Log.APPLICATION) == {"gateway-errors"}


def test_other_lines_are_not_counted() -> None:
    other = {PARSED: {"logger": "llm_gateway.app", "status": 500, "model": "qwen", "error": "x"}}
    assert counted(other, Log.APPLICATION) == set()
    assert counted({"log": "plain text"}, Log.APPLICATION) == set()


@pytest.mark.parametrize(
    ("status", "expected"),
    [("200", ""), ("404", ""), ("403", "api-refused"), ("429", "api-throttled"), ("500", "api-server-errors"),
     ("504", "api-server-errors")],
)  # fmt: skip
def test_api_gateways_answers_are_counted(status: str, expected: str) -> None:
    line = {**dict.fromkeys(ACCESS_LOG_FIELDS, "-"), "status": status}
    assert counted(line, Log.API_ACCESS) == ({expected} if expected else set())


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (audit(), ""),
        (audit(user__username="system:anonymous", responseStatus__code=403), "anonymous-denied"),
        (audit(user__username="system:anonymous"), ""),
        (audit(responseStatus__code=403), "principals-denied"),
        (audit(user__username="system:serviceaccount:a:b", responseStatus__code=403), ""),
        (audit(objectRef__resource="secrets"), "secrets-read"),
        (audit(objectRef__resource="secrets", verb="list"), "secrets-read"),
        (audit(objectRef__resource="secrets", verb="create"), ""),
        (audit(objectRef__resource="secrets", user__username="system:node:ip-10-0-0-1"), ""),
        (audit(objectRef__resource="secrets", stage="ResponseStarted"), ""),
        (audit(objectRef__subresource="exec", verb="create"), "pods-entered"),
        (audit(objectRef__subresource="log"), ""),
    ],
)
def test_the_audit_log_is_counted(event: dict[str, Any], expected: str) -> None:
    assert counted(event, Log.CONTROL_PLANE) == ({expected} if expected else set())


def test_filters_are_ones_that_cloudwatch_takes() -> None:
    for each in METRICS:
        assert len(each.pattern) <= LONGEST_PATTERN, each.name
        assert len(each.dimensions) <= MOST_DIMENSIONS, each.name
        assert not (each.alarm and each.dimensions), f"{each.name}: an alarm watches one metric, without dimensions"
    assert len({each.name for each in METRICS}) == len({each.metric for each in METRICS}) == len(METRICS)


def test_a_dimension_is_of_a_field_that_the_pattern_asks_for() -> None:
    for each in METRICS:
        for source in each.dimensions.values():
            assert f"({source} = *)" in each.pattern, "a line without the field would be counted under no name"


def known_fields(capsys: pytest.CaptureFixture[str]) -> Mapping[Log, set[str]]:
    everything = request(
        capsys, error="e", cache="hit", cache_reason="r", tries=1, stream=True, first_token=0.5, prompt_tokens=1,
        completion_tokens=1,
    )  # fmt: skip
    return {
        Log.APPLICATION: {f"{PARSED}.{name}" for name in everything[PARSED]},
        Log.API_ACCESS: set(ACCESS_LOG_FIELDS),
        Log.FIREWALL: WAF_FIELDS,
        Log.CONTROL_PLANE: AUDIT_FIELDS,
        Log.HOST: set(),
        Log.DATAPLANE: set(),
    }


def test_only_fields_that_a_log_has_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    fields = known_fields(capsys)
    for each in METRICS:
        named = set(re.findall(r"\$\.([.\w]+)", each.pattern)) | {path[2:] for path in each.dimensions.values()}
        assert named <= fields[each.log], each.name
    for query in QUERIES:
        allowed = {name for log in query.logs for name in fields[log]}
        assert named_fields(query.text) <= allowed, query.name


def test_no_field_holds_what_somebody_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    """Raw lines are shown only of logs that no request gets into."""
    known = {name.rpartition(".")[2] for names in known_fields(capsys).values() for name in names}
    assert not known & {"prompt", "messages", "content", "answer", "body", "headers", "authorization", "apiKey"}
    for query in QUERIES:
        if Log.APPLICATION in query.logs or Log.API_ACCESS in query.logs:
            assert "@message" not in query.text, query.name


def test_queries_end() -> None:
    for query in QUERIES:
        last = query.text.splitlines()[-1]
        assert re.fullmatch(r"\| limit \d+", last), query.name
        assert len(query.text) <= 10_000, "PutQueryDefinition takes no more"
        assert query.logs
    assert len({query.name for query in QUERIES}) == len({query.title for query in QUERIES}) == len(QUERIES)
