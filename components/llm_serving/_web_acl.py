"""The firewall before a REST API's stage: AWS's rule groups, a limit for each address, and a log of what it stopped."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _edge_rules, _iam

KEY_HEADERS = ("x-api-key", "authorization")
"""Headers that hold a caller's key."""
PRIVATE_FIELDS: Sequence[aws.wafv2.WebAclDataProtectionConfigDataProtectionFieldArgsDict] = (
    {"field_type": "BODY"},
    {"field_type": "QUERY_STRING"},
    {"field_type": "SINGLE_HEADER", "field_keys": list(KEY_HEADERS)},
)
"""Parts of a request that WAF shows nowhere."""


class FirewallArgs(TypedDict):
    """What is stopped before it reaches an API: by default what AWS's rule groups and a rate limit stop."""

    block: NotRequired[bool]
    """Whether the rules stop a request; otherwise they count it and let it through. Default: true."""
    requests_per_five_minutes: NotRequired[int]
    """Requests that one address may make in 300 s, 10 to 2000000000. Default: twice what the fastest plan allows."""
    count_rules: NotRequired[Sequence[str]]
    """Names of rules of AWS's groups that count, besides those that look into the body. Default: none."""
    caller_cidrs: NotRequired[Sequence[str]]
    """IPv4 ranges that may call; every other address is blocked. Default: any address."""


def check(args: FirewallArgs, plans: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the rate limit of a firewall before these usage plans; raises ValueError for what AWS wouldn't take."""
    _edge_rules.check_counted("firewall.count_rules", args.get("count_rules", ()))
    _edge_rules.check_callers("firewall.caller_cidrs", args.get("caller_cidrs", ()))
    return _edge_rules.requests_limit(
        "firewall.requests_per_five_minutes", args.get("requests_per_five_minutes"), plans
    )


class WebAcl:
    """The web ACL of one stage and its log. Its resources are children of the component that makes it."""

    log_group: pulumi.Output[str]
    """Name of the log group of what was blocked or counted."""

    def __init__(
        self,
        name: str,
        args: FirewallArgs,
        *,
        limit: int,
        stage: aws.apigateway.Stage,
        key: aws.kms.Key,
        retention_days: int,
        parent: pulumi.Resource,
    ):
        self._name = name
        self._parent = parent
        acl = aws.wafv2.WebAcl(
            f"{name}-acl",
            description="Before the public API of the LLM gateway",
            scope="REGIONAL",
            default_action={"allow": {}},
            rules=self._rules(args, limit),
            visibility_config=_visibility("all"),
            # What a rule matched on goes into the log, and a body is a prompt.
            data_protection_config={"data_protections": [_never_shown(field) for field in PRIVATE_FIELDS]},
            opts=self._child(),
        )
        logging = self._log(acl, key, retention_days)
        # From the first request on there is a log of what is stopped.
        aws.wafv2.WebAclAssociation(
            f"{name}-acl", resource_arn=stage.arn, web_acl_arn=acl.arn, opts=self._child(logging)
        )

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._parent, depends_on=list(depends_on))

    def _rules(self, args: FirewallArgs, limit: int) -> list[aws.wafv2.WebAclRuleArgsDict]:
        blocks = args.get("block", True)
        action: aws.wafv2.WebAclRuleActionArgsDict = {"block": {}} if blocks else {"count": {}}
        rules: list[aws.wafv2.WebAclRuleArgsDict] = []
        if callers := args.get("caller_cidrs"):
            known = aws.wafv2.IpSet(
                f"{self._name}-callers",
                description="Addresses that may call the API",
                scope="REGIONAL",
                ip_address_version="IPV4",
                addresses=list(callers),
                opts=self._child(),
            )
            caller: aws.wafv2.WebAclRuleStatementArgsDict = {"ip_set_reference_statement": {"arn": known.arn}}
            others: aws.wafv2.WebAclRuleStatementArgsDict = {"not_statement": {"statement": caller}}
            rules.append({**_rule("unknown-callers", others), "action": action})
        rate: aws.wafv2.WebAclRuleStatementArgsDict = {
            "rate_based_statement": {
                "aggregate_key_type": "IP",
                "evaluation_window_sec": _edge_rules.WINDOW_SECONDS,
                "limit": limit,
            }
        }
        rules.append({**_rule("requests-by-address", rate), "action": action})
        for group in _edge_rules.MANAGED_GROUPS:
            counted = _edge_rules.counted(group, args.get("count_rules", ()), everything=not blocks)
            managed: aws.wafv2.WebAclRuleStatementArgsDict = {
                "managed_rule_group_statement": {
                    "vendor_name": "AWS",
                    "name": group,
                    "rule_action_overrides": [{"name": rule, "action_to_use": {"count": {}}} for rule in counted],
                }
            }
            rules.append({**_rule(group, managed), "override_action": {"none": {}}})
        for priority, rule in enumerate(rules):
            rule["priority"] = priority
        return rules

    def _log(
        self, acl: aws.wafv2.WebAcl, key: aws.kms.Key, retention_days: int
    ) -> aws.wafv2.WebAclLoggingConfiguration:
        # WAF writes only into groups whose names begin so.
        group = aws.cloudwatch.LogGroup(
            f"{self._name}-firewall",
            name=pulumi.Output.concat("aws-waf-logs-", acl.name),
            retention_in_days=retention_days,
            kms_key_id=key.arn,
            opts=self._child(),
        )
        self.log_group = group.name
        lookup = pulumi.InvokeOptions(parent=self._parent)
        # WAF would make such a policy itself, for every log group of the account.
        delivery = aws.cloudwatch.LogResourcePolicy(
            f"{self._name}-acl",
            policy_name=group.name,
            policy_document=pulumi.Output.all(
                group.arn,
                aws.get_partition_output(opts=lookup).partition,
                aws.get_region_output(opts=lookup).region,
                aws.get_caller_identity_output(opts=lookup).account_id,
            ).apply(lambda known: _iam.log_delivery(known[0], known[1], known[2], known[3])),
            opts=self._child(),
        )
        return aws.wafv2.WebAclLoggingConfiguration(
            f"{self._name}-acl",
            resource_arn=acl.arn,
            log_destination_configs=[group.arn],
            redacted_fields=[
                *({"single_header": {"name": header}} for header in KEY_HEADERS),
                {"query_string": {}},
            ],
            # Every request is in the access log already.
            logging_filter={
                "default_behavior": "DROP",
                "filters": [
                    {
                        "behavior": "KEEP",
                        "requirement": "MEETS_ANY",
                        "conditions": [{"action_condition": {"action": kept}} for kept in ("BLOCK", "COUNT")],
                    }
                ],
            },
            opts=self._child(delivery),
        )


def _rule(name: str, statement: aws.wafv2.WebAclRuleStatementArgsDict) -> aws.wafv2.WebAclRuleArgsDict:
    return {"name": name, "priority": 0, "statement": statement, "visibility_config": _visibility(name)}


def _never_shown(
    field: aws.wafv2.WebAclDataProtectionConfigDataProtectionFieldArgsDict,
) -> aws.wafv2.WebAclDataProtectionConfigDataProtectionArgsDict:
    return {"action": "SUBSTITUTION", "field": field}


def _visibility(metric: str) -> aws.wafv2.WebAclVisibilityConfigArgsDict:
    # Samples are parts of requests that whoever may read the web ACL may read, and no retention or key of ours holds
    # for them. The log says the same of what was stopped.
    return {"cloudwatch_metrics_enabled": True, "metric_name": metric, "sampled_requests_enabled": False}
