"""CloudWatch Logs: the queries that are kept for Logs Insights, and as many events as this machine has room for."""

import bisect
import time
import uuid
from typing import Any

from local.cloud import emulator, stores
from local.cloud.emulator import Call, Response, refusal, reply

KIND = "query_definitions"
PAGE = 1000
"""Definitions of a page, unless fewer are asked for."""
KEPT_EVENTS = 10_000
"""The newest events of a log group, which stay: they are in memory, and in every state that is saved."""


class _Events(list[Any]):
    """A stream's events. They never change, so that a copy of the state needs none of each."""

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return list(self)


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


def after(call: Call, response: Response) -> Response:
    """Keeps what a log group holds within bounds."""
    if call.operation == "PutLogEvents":
        logs = emulator.service("cloudwatch_logs")
        logs._log_records.clear()  # each event once more, for a call that nothing here makes
        _bound(logs._log_groups[call.json["logGroupName"]]["streams"], call.json["logStreamName"])
    return response


def _bound(streams: dict[str, Any], written: str) -> None:
    """Leaves out the oldest events of a group that has too many: a tenth more than needed, so that it's done rarely."""
    streams[written]["events"] = _Events(streams[written]["events"])
    surplus = sum(len(stream["events"]) for stream in streams.values()) - KEPT_EVENTS
    if surplus <= 0:
        return
    times = sorted(event["timestamp"] for stream in streams.values() for event in stream["events"])
    oldest = times[surplus + KEPT_EVENTS // 10]
    for stream in streams.values():
        first = bisect.bisect_left(stream["events"], oldest, key=lambda event: event["timestamp"])
        stream["events"] = _Events(stream["events"][first:])


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
