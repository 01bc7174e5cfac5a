"""API Gateway: VPC links of REST APIs (v1) and of HTTP APIs (v2), the integration settings that name them, changes of
what is no text, and API keys whose value AWS is to choose."""

import datetime as dt
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from local.cloud import emulator, stores
from local.cloud.emulator import Call, Response, refusal, reply

INTEGRATION_SETTINGS = ("connectionId", "tlsConfig", "responseTransferMode", "integrationTarget")
"""What PutIntegration may carry and MiniStack drops."""
PATCHED: Mapping[str, Callable[[str], Any]] = {"/apiKeyRequired": lambda text: text == "true", "/timeoutInMillis": int}
"""What is no text of what a patch changes of a method or an integration. Its values are texts; MiniStack keeps them."""


def before(call: Call) -> Response | None:
    """Answers calls on VPC links and their tags."""
    match call.parts:
        case ["vpclinks", *rest]:
            return _v1(call, rest[0] if rest else "")
        case ["v2", "vpclinks", *rest]:
            return _v2(call, rest[0] if rest else "")
        case ["tags", *arn] if "/vpclinks/" in "/".join(arn):
            return _tags(call, stores.store("vpc_links").get(arn[-1]))
        case ["v2", "tags", *arn] if "/vpclinks/" in "/".join(arn):
            return _tags(call, stores.store("vpc_links_v2").get(arn[-1]))
        case _:
            return _read_as_on_aws(call)


def _read_as_on_aws(call: Call) -> Response | None:
    """Answers calls whose values AWS reads otherwise than MiniStack."""
    match call.parts:
        case ["restapis", *_, "methods", _] | ["restapis", *_, "methods", _, "integration"] if call.method == "PATCH":
            return _patched(call)
        case ["apikeys"] if call.method == "POST" and call.json.get("value") == "":
            # The Terraform provider sends an empty value where none is given, which AWS takes for none.
            asked = {name: value for name, value in call.json.items() if name != "value"}
            return emulator.service("apigateway_v1")._create_api_key(asked)
        case _:
            return None


def _patched(call: Call) -> Response:
    """Changes a method or its integration."""
    _, api, _, resource, _, method, *integration = call.parts
    gateway = emulator.service("apigateway_v1")
    changes = [
        {**change, "value": PATCHED[change["path"]](change["value"])} if change["path"] in PATCHED else change
        for change in call.json.get("patchOperations", [])
    ]
    update = gateway._update_integration if integration else gateway._update_method
    return update(api, resource, method, {"patchOperations": changes})


def after(call: Call, response: Response) -> Response:
    """Keeps all of an integration's settings."""
    match call.parts:
        case ["restapis", api, "resources", resource, "methods", method, "integration"] if call.method == "PUT":
            resources = emulator.service("apigateway_v1")._resources
            integration = resources[api][resource]["resourceMethods"][method]["methodIntegration"]
            integration.update({name: call.json[name] for name in INTEGRATION_SETTINGS if name in call.json})
            return reply(integration, status=201)
        case ["restapis", _, "stages", *_]:
            return _without_access_log(response)
        case ["usageplans"] if call.method == "POST":
            return _without_unset(response)
        case _:
            return response


def _without_access_log(response: Response) -> Response:
    """Stages as AWS answers them: without the settings of an access log where there is none."""
    status, headers, body = response
    answer: dict[str, Any] = json.loads(body or b"{}")
    stages: list[dict[str, Any]] = answer.get("item", [answer])
    for stage in stages:
        if stage.get("accessLogSettings") == {}:
            del stage["accessLogSettings"]
    return (status, headers, json.dumps(answer).encode()) if body else response


def _without_unset(response: Response) -> Response:
    """A usage plan as AWS answers it: without a quota or throttle that it doesn't have."""
    plan = emulator.service("apigateway_v1")._usage_plans[json.loads(response[2])["id"]]
    for name in ("quota", "throttle"):
        if not plan[name]:
            del plan[name]
    return reply(plan, status=201)


def _missing(link: str) -> Response:
    return refusal(404, "NotFoundException", f"Invalid Vpc Link identifier specified: {link}")


def _tags(call: Call, link: dict[str, Any] | None) -> Response:
    if link is None:
        return _missing(call.parts[-1])
    tags: dict[str, str] = link.setdefault("tags", {})
    if call.method in {"PUT", "POST"}:
        tags.update(call.json["tags"])
    elif call.method == "DELETE":
        for key in call.values("tagKeys"):
            tags.pop(key, None)
    else:
        return reply({"tags": tags})
    return 204, {}, b""


def _v1(call: Call, link_id: str) -> Response:
    links: Any = stores.store("vpc_links")
    if not link_id:
        return _create_v1(links, call.json) if call.method == "POST" else reply({"item": list(links.values())})
    link = links.get(link_id)
    if link is None:
        return _missing(link_id)
    if call.method == "DELETE":
        if link_id in _links_in_use():
            return refusal(400, "BadRequestException", "Cannot delete vpc link. Vpc link is referenced by a method")
        links.pop(link_id)
        return 202, {}, b""
    for change in call.json.get("patchOperations", []):
        name = change["path"].removeprefix("/")
        if change["op"] != "replace" or name not in {"name", "description"}:
            return refusal(400, "BadRequestException", f"Invalid patch path {change['path']}")
        link[name] = change["value"]
    return reply(link)


def _create_v1(links: Any, asked: dict[str, Any]) -> Response:
    targets = asked.get("targetArns", [])
    balancers = emulator.service("alb")._lbs
    if len(targets) != 1:
        return refusal(400, "BadRequestException", "A VPC link must have one target")
    if targets[0] not in balancers or balancers[targets[0]]["Type"] != "network":
        return refusal(400, "BadRequestException", f"{targets[0]} is not a network load balancer of this account")
    link = {
        "id": secrets.token_hex(5),
        "name": asked["name"],
        "description": asked.get("description", ""),
        "targetArns": targets,
        "status": "AVAILABLE",
        "statusMessage": "Your vpc link is ready for use",
        "tags": asked.get("tags", {}),
    }
    links[link["id"]] = link
    return reply(link, status=202)


def _links_in_use() -> set[str]:
    """The VPC links that some method's integration names."""
    resources: Any = emulator.service("apigateway_v1")._resources
    return {
        method["methodIntegration"].get("connectionId", "")
        for tree in resources.values()
        for resource in tree.values()
        for method in resource.get("resourceMethods", {}).values()
        if method.get("methodIntegration")
    }


def _v2(call: Call, link_id: str) -> Response:
    links: Any = stores.store("vpc_links_v2")
    if not link_id:
        if call.method == "POST":
            return _create_v2(links, call.json)
        return reply({"items": list(links.values())})
    link = links.get(link_id)
    if link is None:
        return _missing(link_id)
    if call.method == "PATCH":
        link["name"] = call.json.get("name", link["name"])
    elif call.method == "DELETE":
        links.pop(link_id)
        return 202, {}, b"{}"
    return reply(link)


def _create_v2(links: Any, asked: dict[str, Any]) -> Response:
    link = {
        "vpcLinkId": secrets.token_hex(5),
        "name": asked["name"],
        "securityGroupIds": asked.get("securityGroupIds", []),
        "subnetIds": asked["subnetIds"],
        "tags": asked.get("tags", {}),
        "vpcLinkStatus": "AVAILABLE",
        "vpcLinkStatusMessage": "VPC link is ready to route traffic",
        "vpcLinkVersion": "V2",
        "createdDate": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    links[link["vpcLinkId"]] = link
    return reply(link, status=201)
