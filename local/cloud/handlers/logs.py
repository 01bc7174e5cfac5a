"""CloudWatch Logs: the queries that are kept for Logs Insights."""

import time
import uuid
from typing import Any

from local.cloud import stores
from local.cloud.emulator import Call, Response, refusal, reply

KIND = "query_definitions"
PAGE = 1000
"""Definitions of a page, unless fewer are asked for."""


def before(call: Call) -> Response | None:
    """Answers for query definitions; everything else is MiniStack's."""
    match call.operation:
        case "PutQueryDefinition":
            return _put(call.json)
        case "DescribeQueryDefinitions":
            return _described(call.json)
        case "DeleteQueryDefinition":
            return _delete(call.json)
        case _:
            return None


def _put(asked: dict[str, Any]) -> Response:
    kept = stores.store(KIND)
    given = asked.get("queryDefinitionId")
    if given and given not in kept:
        return _not_found()
    if not asked.get("name") or not asked.get("queryString"):
        return _invalid("name and queryString are required")
    identifier = given or str(uuid.uuid4())
    kept[identifier] = {
        "queryDefinitionId": identifier,
        "queryLanguage": asked.get("queryLanguage", "CWLI"),
        "name": asked["name"],
        "queryString": asked["queryString"],
        "logGroupNames": list(asked.get("logGroupNames", [])),
        "lastModified": int(time.time() * 1000),
    }
    return reply({"queryDefinitionId": identifier})


def _described(asked: dict[str, Any]) -> Response:
    token = str(asked.get("nextToken") or "0")
    size = min(int(asked.get("maxResults") or PAGE), PAGE)
    if not token.isdigit() or size < 1:
        return _invalid("The specified nextToken or maxResults is invalid.")
    prefix, language = asked.get("queryDefinitionNamePrefix", ""), asked.get("queryLanguage", "")
    found = [
        kept
        for kept in sorted(stores.store(KIND).values(), key=lambda kept: (kept["name"], kept["queryDefinitionId"]))
        if kept["name"].startswith(prefix) and language in {"", kept["queryLanguage"]}
    ]
    first = int(token)
    more = {"nextToken": str(first + size)} if first + size < len(found) else {}
    return reply({"queryDefinitions": found[first : first + size], **more})


def _delete(asked: dict[str, Any]) -> Response:
    if stores.store(KIND).pop(asked.get("queryDefinitionId"), None) is None:
        return _not_found()
    return reply({"success": True})


def _not_found() -> Response:
    return refusal(400, "ResourceNotFoundException", "The specified query definition does not exist.")


def _invalid(message: str) -> Response:
    return refusal(400, "InvalidParameterException", message)
