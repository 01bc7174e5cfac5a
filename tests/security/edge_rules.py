"""The controls on what stands before the public API: its web ACL, and the log of that."""

from collections.abc import Iterator, Mapping, Sequence

from tests.security import policies
from tests.security.controls import Rule, Thing


def logs_what_it_stops(thing: Thing) -> Iterator[str]:
    logs = thing.beside("aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration")
    if not any(str(each.get("resourceArn")).endswith(f":webacl/{thing.name}") for each in logs):
        yield "has no log"


def every_rule_is_measured(thing: Thing) -> Iterator[str]:
    for part in (thing.inputs, *thing.items("rules")):
        if part.get("visibilityConfig", {}).get("cloudwatchMetricsEnabled") is not True:
            yield f"{part.get('name', 'the web ACL')} has no metric"


def keeps_no_samples(thing: Thing) -> Iterator[str]:
    for part in (thing.inputs, *thing.items("rules")):
        if part.get("visibilityConfig", {}).get("sampledRequestsEnabled") is not False:
            yield f"{part.get('name', 'the web ACL')} keeps samples of requests"


def has_rules(thing: Thing) -> Iterator[str]:
    kinds = {kind for rule in thing.items("rules") for kind in rule.get("statement", {})}
    yield from (f"no {kind}" for kind in ("rateBasedStatement", "managedRuleGroupStatement") if kind not in kinds)


def shows_no_prompt(thing: Thing) -> Iterator[str]:
    """Match details hold what a rule matched on, unless the field is protected."""
    hidden = {
        each["field"]["fieldType"]
        for each in thing.items("dataProtectionConfig.dataProtections")
        if each["action"] == "SUBSTITUTION" and not each.get("excludeRuleMatchDetails")
    }
    yield from (f"shows {field}" for field in ("BODY", "QUERY_STRING", "SINGLE_HEADER") if field not in hidden)


def redacts_keys(thing: Thing) -> Iterator[str]:
    redacted = thing.items("redactedFields")
    for header in ("x-api-key", "authorization"):
        if {"singleHeader": {"name": header}} not in redacted:
            yield f"logs {header}"
    if {"queryString": {}} not in redacted:
        yield "logs the query string"


def delivers_for_this_account(thing: Thing) -> Iterator[str]:
    for statement in policies.statements(thing.get("policyDocument")):
        if "aws:SourceAccount" not in statement.get("Condition", {}).get("StringEquals", {}):
            yield f"lets {statement.get('Principal')} write for any account"


RULES: Mapping[str, Sequence[Rule]] = {
    "aws:wafv2/webAcl:WebAcl": (
        Rule("AWS WAF.10", "It has rules: a limit for each address, and AWS's groups", "`_web_acl.WebAcl`", has_rules),
        Rule("AWS WAF.11", "What it stops is logged", "`_web_acl.WebAcl`", logs_what_it_stops),
        Rule("AWS WAF.12", "Each rule is measured", "`_web_acl.WebAcl`", every_rule_is_measured),
        Rule("own L2", "No prompt and no key in what it shows", "`_web_acl.PRIVATE_FIELDS`", shows_no_prompt),
        Rule("own L3", "No samples of requests", "`_web_acl.WebAcl`", keeps_no_samples),
    ),
    "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": (
        Rule("own L2", "No prompt and no key in what it shows", "`_web_acl.WebAcl`", redacts_keys),
    ),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": (
        Rule("own I4", "A service writes for this account only", "`_iam.log_delivery`", delivers_for_this_account),
        Rule("AWS IAM.21", "No wildcard", "`_iam.log_delivery`", policies.wildcards("policyDocument")),
    ),
}  # fmt: skip
"""The rules of each type."""
