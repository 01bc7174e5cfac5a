"""AWS WAF: where a web ACL logs to, what it protects of its data, and stages that are there to stand before."""

import json
import re
from typing import Any

from local.cloud import emulator, stores
from local.cloud.emulator import Call, Response, refusal, reply

KIND = "waf_logging"
ARNS = ("WebACLArn", "ResourceArn", "ResourceARN")
"""Fields that name what a call is for, the one first that is a web ACL's for certain."""
STAGE = re.compile(r"arn:aws:apigateway:[^:]+::/restapis/([^/]+)/stages/([^/]+)")
LOG_GROUP = re.compile(r"arn:aws:logs:[^:]+:\d+:log-group:([^:]+)")
PREFIX = "aws-waf-logs-"
"""How the name of a log group begins that WAF writes to."""
SETTINGS = ("DataProtectionConfig", "AssociationConfig", "CustomResponseBodies", "TokenDomains")
"""What CreateWebACL and UpdateWebACL may carry and MiniStack drops."""


def name_resources() -> None:
    """Has IAM asked about the web ACL or stage that a call names; MiniStack knows them by one field of several."""
    actions: Any = emulator.core("iam_actions")
    otherwise = actions.extract_resource_arn

    def extract(service: str, method: str, path: str, headers: Any, body: bytes, *rest: Any) -> str:
        found: str = otherwise(service, method, path, headers, body, *rest)
        return named(body) or found if service == "wafv2" and found == "*" else found

    actions.extract_resource_arn = extract


def named(body: bytes) -> str:
    """The ARN in a call's body that IAM is asked about, empty where there is none."""
    try:
        asked: dict[str, Any] = json.loads(body)
    except ValueError:
        return ""
    asked = {**asked, **asked.get("LoggingConfiguration", {})}
    return str(next((asked[field] for field in ARNS if asked.get(field)), ""))


def before(call: Call) -> Response | None:
    """Answers for logging configurations, and refuses what AWS would."""
    match call.operation:
        case "PutLoggingConfiguration":
            return _put(call.json["LoggingConfiguration"])
        case "GetLoggingConfiguration":
            kept = stores.store(KIND).get(call.json["ResourceArn"])
            return reply({"LoggingConfiguration": kept}) if kept else _missing()
        case "DeleteLoggingConfiguration":
            return reply({}) if stores.store(KIND).pop(call.json["ResourceArn"], None) else _missing()
        case "AssociateWebACL" if not _stage_exists(call.json["ResourceArn"]):
            return _missing()
        case "DeleteWebACL" if _stands_before_something(call.json["Id"]):
            return refusal(
                400, "WAFAssociatedItemException", "AWS WAF couldn't delete the resource: it is associated with another"
            )
        case _:
            return None


def after(call: Call, response: Response) -> Response:
    """Keeps all of a web ACL's settings, and no log of one that is gone."""
    match call.operation:
        case "CreateWebACL":
            acl = next(each for each in _acls() if each["Name"] == call.json["Name"])
            acl.update({name: call.json[name] for name in SETTINGS if name in call.json})
        case "UpdateWebACL":
            acl = next(each for each in _acls() if each["Id"] == call.json["Id"])
            for name in SETTINGS:
                acl.pop(name, None)
            acl.update({name: call.json[name] for name in (*SETTINGS, "Description") if name in call.json})
        case "DeleteWebACL":
            for arn in [arn for arn in stores.store(KIND) if arn.endswith(f"/{call.json['Id']}")]:
                stores.store(KIND).pop(arn)
        case _:
            pass
    return response


def _acls() -> list[dict[str, Any]]:
    acls: Any = emulator.service("waf")._web_acls
    return list(acls.values())


def _put(asked: dict[str, Any]) -> Response:
    if asked["ResourceArn"] not in {acl["ARN"] for acl in _acls()}:
        return _missing()
    groups: Any = emulator.service("cloudwatch_logs")._log_groups
    for destination in asked["LogDestinationConfigs"]:
        found = LOG_GROUP.fullmatch(destination.removesuffix(":*"))
        if found and not found[1].startswith(PREFIX):
            return refusal(400, "WAFInvalidParameterException", f"The ARN isn't valid: {destination}")
        if found and found[1] not in groups:
            return refusal(400, "WAFLogDestinationPermissionIssueException", f"No log group {found[1]}")
    kept = {**asked, "ManagedByFirewallManager": False}
    stores.store(KIND)[asked["ResourceArn"]] = kept
    return reply({"LoggingConfiguration": kept})


def _stage_exists(arn: str) -> bool:
    """Whether it is a stage that is there; of other things that WAF stands before, nothing is known here."""
    found = STAGE.fullmatch(arn)
    stages: Any = emulator.service("apigateway_v1")._stages_v1
    return found is None or found[2] in stages.get(found[1], {})


def _stands_before_something(identifier: str) -> bool:
    associations: Any = emulator.service("waf")._associations
    return any(arn.endswith(f"/{identifier}") for arn in associations.values())


def _missing() -> Response:
    return refusal(
        400, "WAFNonexistentItemException", "AWS WAF couldn't perform the operation: your resource doesn't exist."
    )
