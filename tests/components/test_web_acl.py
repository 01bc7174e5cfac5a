"""The firewall: on the stage, with a log of what it stops, and without a look at prompts."""

import json
from typing import Any

import pytest

from llm_serving._edge_rules import MANAGED_GROUPS
from tests.components.test_api_gateway import api
from tests.recording import Recording

ACL = "aws:wafv2/webAcl:WebAcl"
LOGGING = "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration"
ASSOCIATION = "aws:wafv2/webAclAssociation:WebAclAssociation"
GROUP = "aws:cloudwatch/logGroup:LogGroup"
POLICY = "aws:cloudwatch/logResourcePolicy:LogResourcePolicy"
ARN = "arn:aws:test:us-east-1:123456789012"


def rules(made: Recording) -> list[dict[str, Any]]:
    return made.inputs(ACL, "a-acl")["rules"]


def group(made: Recording, name: str) -> dict[str, Any]:
    (found,) = [rule for rule in rules(made) if rule["name"] == name]
    return found["statement"]["managedRuleGroupStatement"]


def counts(made: Recording, name: str) -> list[str]:
    overrides = group(made, name).get("ruleActionOverrides", [])
    assert all(each["actionToUse"] == {"count": {}} for each in overrides)
    return [each["name"] for each in overrides]


def test_there_is_none_unless_asked_for() -> None:
    made = api()
    assert not [type_ for type_ in made.types() if "wafv2" in type_]
    assert made.outputs["a"]["firewallLogGroup"] == ""


def test_what_it_adds_to_an_api() -> None:
    before, after = api().types(), api(firewall={}).types()
    assert {type_: number - before.get(type_, 0) for type_, number in after.items() if number != before.get(type_)} == {
        ACL: 1, ASSOCIATION: 1, LOGGING: 1, GROUP: 1, POLICY: 1,
    }  # fmt: skip


def test_it_lets_through_what_no_rule_stops() -> None:
    made = api(firewall={})
    acl = made.inputs(ACL, "a-acl")
    assert (acl["scope"], acl["defaultAction"]) == ("REGIONAL", {"allow": {}})
    assert [rule["name"] for rule in rules(made)] == ["requests-by-address", *MANAGED_GROUPS]
    assert [rule["priority"] for rule in rules(made)] == [0, 1, 2, 3]
    assert [rule.get("action", rule.get("overrideAction")) for rule in rules(made)] == [
        {"block": {}},
        *[{"none": {}}] * 3,
    ]


def test_every_rule_is_measured_and_none_keeps_samples() -> None:
    made = api(firewall={"caller_cidrs": ["203.0.113.0/24"]})
    seen = [rule["visibilityConfig"] for rule in rules(made)] + [made.inputs(ACL, "a-acl")["visibilityConfig"]]
    assert {(each["cloudwatchMetricsEnabled"], each["sampledRequestsEnabled"]) for each in seen} == {(True, False)}
    assert len({each["metricName"] for each in seen}) == len(seen) == 6


def test_what_looks_into_a_prompt_only_counts() -> None:
    made = api(firewall={})
    assert counts(made, "AWSManagedRulesCommonRuleSet") == [
        "SizeRestrictions_BODY", "EC2MetaDataSSRF_BODY", "GenericLFI_BODY", "GenericRFI_BODY",
        "CrossSiteScripting_BODY",
    ]  # fmt: skip
    assert counts(made, "AWSManagedRulesKnownBadInputsRuleSet") == [
        "JavaDeserializationRCE_BODY", "Log4JRCE_BODY", "ReactJSRCE_BODY",
    ]  # fmt: skip
    assert counts(made, "AWSManagedRulesAmazonIpReputationList") == []


def test_a_rule_can_be_loosened_by_name() -> None:
    made = api(firewall={"count_rules": ["NoUserAgent_HEADER"]})
    assert counts(made, "AWSManagedRulesCommonRuleSet")[0] == "NoUserAgent_HEADER"
    assert len(counts(made, "AWSManagedRulesCommonRuleSet")) == 6


def test_all_of_it_can_be_loosened() -> None:
    made = api(firewall={"block": False, "caller_cidrs": ["203.0.113.0/24"]})
    assert [rule["action"] for rule in rules(made)[:2]] == [{"count": {}}] * 2
    for name, names in MANAGED_GROUPS.items():
        assert counts(made, name) == list(names)


@pytest.mark.parametrize(
    ("args", "plans", "limit"),
    [
        ({}, {"standard": {"keys": ["web"]}}, 6000),
        ({}, {"slow": {"keys": ["a"], "requests_per_second": 1}, "fast": {"keys": ["b"], "requests_per_second": 200.0}},
         120_000),
        ({"requests_per_five_minutes": 3000.0}, {"standard": {"keys": ["web"]}}, 3000),
        ({}, {"least": {"keys": ["web"], "requests_per_second": 0.01}}, 20),
    ],
)  # fmt: skip
def test_an_address_may_do_what_the_plans_allow(args: Any, plans: Any, limit: int) -> None:
    (rate,) = [rule for rule in rules(api(firewall=args, usage_plans=plans)) if rule["name"] == "requests-by-address"]
    assert rate["statement"]["rateBasedStatement"] == {
        "aggregateKeyType": "IP", "evaluationWindowSec": 300, "limit": limit,
    }  # fmt: skip


def test_only_some_addresses_may_call() -> None:
    made = api(firewall={"caller_cidrs": ["203.0.113.0/24", "198.51.100.7/32"]})
    known = made.inputs("aws:wafv2/ipSet:IpSet", "a-callers")
    assert (known["addresses"], known["ipAddressVersion"]) == (["203.0.113.0/24", "198.51.100.7/32"], "IPV4")
    first = rules(made)[0]
    assert (first["name"], first["priority"], first["action"]) == ("unknown-callers", 0, {"block": {}})
    reference = {"ipSetReferenceStatement": {"arn": f"{ARN}:ipset/a-callers"}}
    assert first["statement"] == {"notStatement": {"statement": reference}}


def test_the_log_holds_neither_keys_nor_prompts() -> None:
    made = api(firewall={}, log_retention_days=30)
    log = made.inputs(LOGGING, "a-acl")
    assert log["redactedFields"] == [
        {"singleHeader": {"name": "x-api-key"}}, {"singleHeader": {"name": "authorization"}}, {"queryString": {}},
    ]  # fmt: skip
    protected = made.inputs(ACL, "a-acl")["dataProtectionConfig"]["dataProtections"]
    assert [(each["action"], each["field"]) for each in protected] == [
        ("SUBSTITUTION", {"fieldType": "BODY"}),
        ("SUBSTITUTION", {"fieldType": "QUERY_STRING"}),
        ("SUBSTITUTION", {"fieldType": "SINGLE_HEADER", "fieldKeys": ["x-api-key", "authorization"]}),
    ]
    assert not [each for each in protected if each.get("excludeRuleMatchDetails")]


def test_the_log_is_encrypted_and_has_what_was_stopped_or_counted() -> None:
    made = api(firewall={}, log_retention_days=30)
    key = f"{ARN}:key/a-logs"
    assert made.inputs(GROUP, "a-firewall") == {
        "name": "aws-waf-logs-a-acl", "retentionInDays": 30, "kmsKeyId": key,
    }  # fmt: skip
    log = made.inputs(LOGGING, "a-acl")
    assert log["logDestinationConfigs"] == [f"{ARN}:loggroup/a-firewall"]
    kept = log["loggingFilter"]
    assert kept["defaultBehavior"] == "DROP"
    assert [each["actionCondition"]["action"] for each in kept["filters"][0]["conditions"]] == ["BLOCK", "COUNT"]
    assert made.outputs["a"]["firewallLogGroup"] == "aws-waf-logs-a-acl"


def test_only_this_accounts_delivery_writes_into_the_log() -> None:
    made = api(firewall={})
    policy = made.inputs(POLICY, "a-acl")
    (statement,) = json.loads(policy["policyDocument"])["Statement"]
    assert statement["Principal"] == {"Service": "delivery.logs.amazonaws.com"}
    assert statement["Resource"] == f"{ARN}:loggroup/a-firewall:log-stream:*"
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:logs:us-east-1:123456789012:*"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    assert policy["policyName"] == "aws-waf-logs-a-acl"


def test_it_is_logged_before_it_stands_before_the_stage() -> None:
    made = api(firewall={})
    assert made.inputs(ASSOCIATION, "a-acl") == {
        "resourceArn": f"{ARN}:stage/a-stage", "webAclArn": f"{ARN}:webacl/a-acl",
    }  # fmt: skip
    assert "a-acl" in made.one(ASSOCIATION, "a-acl").depends_on
    assert "a-acl" in made.one(LOGGING, "a-acl").depends_on


GROUPS = ", ".join(MANAGED_GROUPS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"requests_per_five_minutes": 9},
         "firewall.requests_per_five_minutes: 9 requests is outside 10 to 2000000000; nearest valid value: 10"),
        ({"requests_per_five_minutes": 2999},
         ("firewall.requests_per_five_minutes: 2999 is below what usage plan standard lets one key send in 300 s"
         " (10 a second), and would block it; nearest valid value: 3000")),
        ({"count_rules": ["NoUserAgent"]},
         f"firewall.count_rules: 'NoUserAgent' is no rule of {GROUPS}; nearest valid value: NoUserAgent_HEADER"),
        ({"caller_cidrs": ["0.0.0.0/0"]},
         "firewall.caller_cidrs: 0.0.0.0/0 is the whole internet; nearest valid value: your own range, or none"),
        ({"caller_cidrs": ["203.0.113.7/24"]},
         "firewall.caller_cidrs: 203.0.113.7/24 has host bits set; nearest valid value: 203.0.113.0/24"),
    ],
)  # fmt: skip
def test_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        api(firewall=args)
    assert str(caught.value) == message
