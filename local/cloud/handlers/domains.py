"""Custom domain names of API Gateway: in AWS's shape, changeable, and mapped at their root."""

import json
from typing import Any

from local.cloud import emulator
from local.cloud.emulator import Call, Response, refusal, reply

ROOT = "(none)"
"""How API Gateway calls the mapping without a base path."""
CHANGEABLE = ("regionalCertificateArn", "securityPolicy", "endpointAccessMode")


def before(call: Call) -> Response | None:
    """Answers changes, and an empty base path, which AWS takes for none."""
    match call.parts:
        case ["domainnames", name] if call.method == "PATCH":
            return _changed(_domains().get(name), call.json, CHANGEABLE)
        case ["domainnames", name, "basepathmappings", path] if call.method == "PATCH":
            return _changed(_mappings(name).get(path), call.json, ("restApiId", "stage"))
        case ["domainnames", name, "basepathmappings"] if call.method == "POST" and call.json.get("basePath") == "":
            asked = {**call.json, "basePath": ROOT}
            return emulator.service("apigateway_v1")._create_base_path_mapping(name, asked)
        case _:
            return None


def after(call: Call, response: Response) -> Response:
    """A new domain name as AWS answers it: in service, and without what it doesn't have."""
    if call.parts != ["domainnames"] or call.method != "POST":
        return response
    domain = _domains()[json.loads(response[2])["domainName"]]
    for key in [key for key, value in domain.items() if key.startswith("distribution") or value in ("", {})]:
        if key != "tags":
            del domain[key]
    domain["domainNameStatus"] = "AVAILABLE"
    return reply(domain, status=201)


def _domains() -> Any:
    return emulator.service("apigateway_v1")._domain_names


def _mappings(name: str) -> dict[str, Any]:
    return emulator.service("apigateway_v1")._base_path_mappings.get(name, {})


def _changed(kept: dict[str, Any] | None, asked: dict[str, Any], changeable: tuple[str, ...]) -> Response:
    if kept is None:
        return refusal(404, "NotFoundException", "Invalid domain name identifier specified")
    for change in asked.get("patchOperations", []):
        field = change["path"].removeprefix("/")
        if change["op"] != "replace" or field not in changeable:
            return refusal(400, "BadRequestException", f"Invalid patch path {change['path']}")
        kept[field] = change["value"]
    return reply(kept)
