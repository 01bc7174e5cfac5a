"""EC2: which instance types a place offers, and all settings of flow logs and interface endpoints."""

import fnmatch
import re
from typing import Any

from local.cloud import emulator
from local.cloud.emulator import Call, Response

_SIZES = {
    "t3": "micro small medium large xlarge 2xlarge",
    "m6i m7i c6i c7i r6i r7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge",
    "m7g c7g r7g": "medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "g4dn": "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "g5 g6 g6e": "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "gr6": "4xlarge 8xlarge",
    "p4d p4de": "24xlarge",
    "p5": "4xlarge 48xlarge",
    "p5e p5en p6-b200": "48xlarge",
    "inf2": "xlarge 8xlarge 24xlarge 48xlarge",
    "trn1": "2xlarge 32xlarge",
}
INSTANCE_TYPES = tuple(
    f"{family}.{size}" for families, sizes in _SIZES.items() for family in families.split() for size in sizes.split()
)
"""The families that a serving environment chooses from, as AWS names them."""


FLOW_LOG_SETTINGS = {
    "DeliverLogsPermissionArn": "deliverLogsPermissionArn",
    "LogFormat": "logFormat",
    "LogGroupName": "logGroupName",
    "MaxAggregationInterval": "maxAggregationInterval",
}
"""By the parameter's name, the element of the answer."""


def before(call: Call) -> Response | None:
    """Answers DescribeInstanceTypeOfferings."""
    return _offerings(call) if call.operation == "DescribeInstanceTypeOfferings" else None


def after(call: Call, response: Response) -> Response:
    """Keeps what MiniStack takes of a flow log or an interface endpoint and doesn't answer."""
    ec2 = emulator.service("ec2")
    if call.operation == "CreateVpcEndpoint" and call.value("VpcEndpointType") == "Interface":
        for identifier in re.findall(r"<vpcEndpointId>([^<]+)<", _text(response)):
            ec2._vpc_endpoints[identifier]["settings"] = {
                "privateDnsEnabled": call.value("PrivateDnsEnabled", "true"),
                "groupSet": [{"groupId": group, "groupName": ""} for group in call.values("SecurityGroupId")],
            }
    if "VpcEndpoint" in call.operation:
        return emulator.extended(response, "vpcEndpointId", _endpoint_settings)
    if call.operation == "CreateFlowLogs":
        for identifier in re.findall(r"<item>(fl-\w+)</item>", _text(response)):
            ec2._flow_logs[identifier]["settings"] = {
                answered: call.value(asked) for asked, answered in FLOW_LOG_SETTINGS.items() if call.value(asked)
            }
            # AWS's name for the resource type in tag specifications; MiniStack knows another.
            ec2._parse_tag_specs(call.form, "vpc-flow-log", identifier)
    if call.operation == "DescribeFlowLogs":
        return emulator.extended(response, "flowLogId", lambda known: ec2._flow_logs[known].get("settings", {}))
    return response


def _endpoint_settings(identifier: str) -> dict[str, Any]:
    endpoint: dict[str, Any] = emulator.service("ec2")._vpc_endpoints.get(identifier) or {}
    return endpoint.get("settings", {})


def _text(response: Response) -> str:
    body = response[2]
    return body if isinstance(body, str) else body.decode()


def _offerings(call: Call) -> Response:
    kind = call.value("LocationType") or "region"
    region = emulator.region()
    if kind == "region":
        places = [region]
    else:
        zones = [f"{region}{letter}" for letter in "abc"]  # the three that MiniStack describes
        identify = emulator.service("ec2")._az_id_for_zone_name
        places = zones if kind == "availability-zone" else [identify(zone) for zone in zones]
    filters = _filters(call)
    items = "".join(
        f"<item><instanceType>{name}</instanceType><locationType>{kind}</locationType>"
        f"<location>{place}</location></item>"
        for place in places
        if _matches(place, filters.get("location"))
        for name in INSTANCE_TYPES
        if _matches(name, filters.get("instance-type"))
    )
    inner = f"<instanceTypeOfferingSet>{items}</instanceTypeOfferingSet>"
    response: Response = emulator.service("ec2")._xml(200, "DescribeInstanceTypeOfferingsResponse", inner)
    return response


def _filters(call: Call) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, name in call.form.items():
        prefix, _, last = key.rpartition(".")
        if prefix.startswith("Filter.") and last == "Name":
            found[name[0]] = call.values(f"{prefix}.Value")
    return found


def _matches(text: str, patterns: list[str] | None) -> bool:
    return patterns is None or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
