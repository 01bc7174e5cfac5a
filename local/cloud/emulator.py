"""The seam between our code and MiniStack: everything that touches its modules goes through here.

MiniStack reads its settings from the environment when it is imported, keeps each service's records in module-level
dictionaries and dispatches to one async handler per service, after it has checked the caller's signature and IAM
policies. So a call that it lacks is answered by putting our function in front of that service's handler: who may make
the call was decided by then, as for any other call.
"""

import html
import importlib
import json
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from xml.sax.saxutils import escape

from local.addresses import REGION

Response = tuple[int, dict[str, str], Any]
"""Status, headers, and the body: bytes, or MiniStack's StreamingResponse."""

Handler = Callable[..., Awaitable[Response]]
"""One of MiniStack's: takes method, path, headers, body and query parameters."""

Before = Callable[["Call"], Response | None]
"""Answers a call that MiniStack lacks; None lets MiniStack answer."""
After = Callable[["Call", Response], Response]
"""Amends MiniStack's answer, or the records that it made."""

READS = ("Describe", "Get", "List", "Head", "BatchGet", "Search", "Lookup", "Simulate", "Decode", "Validate")
"""How the names of calls start that change nothing worth saving."""
UNHURRIED = ("PutLogEvents",)
"""Calls that come all the time, and whose changes are saved with the next one of another kind, or at the end."""


def configure(*, port: int, state: Path, cache_host: str, cache_port: int) -> None:
    """Sets MiniStack's settings; must come before anything of it is imported."""
    os.environ.update(
        AUTH="true",
        GATEWAY_PORT=str(port),
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_REGION=REGION,
        PERSIST_STATE="1",
        STATE_DIR=str(state / "services"),
        S3_PERSIST="1",
        S3_DATA_DIR=str(state / "s3"),
        REDIS_HOST=cache_host,
        REDIS_PORT=str(cache_port),
        # Listeners of services that nothing here uses; they would bind every interface.
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        # Where there is a Docker, MiniStack would start clusters and caches of its own in it.
        DOCKER_HOST="unix:///nonexistent/docker.sock",
        MINISTACK_WORKER_THREADS="16",
        LOG_LEVEL="WARNING",
    )
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        os.environ.pop(name, None)


def application() -> ModuleType:
    """MiniStack's module `app`."""
    return importlib.import_module("ministack.app")


def core(name: str) -> ModuleType:
    """A module of MiniStack's core."""
    return importlib.import_module(f"ministack.core.{name}")


def service(name: str) -> ModuleType:
    """A module of one of MiniStack's services."""
    return importlib.import_module(f"ministack.services.{name}")


def account() -> str:
    """The account of the request being answered."""
    return cast("str", core("responses").get_account_id())


def region() -> str:
    """The region of the request being answered."""
    return cast("str", core("responses").get_region())


@dataclass(frozen=True)
class Call:
    """One call of an AWS API, its caller already authorised."""

    service: str
    operation: str
    """The API's name for it, as `CreateCluster`; for API Gateway, whose IAM actions are HTTP verbs, the verb."""
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: Mapping[str, Any]

    @cached_property
    def parts(self) -> list[str]:
        """The path's segments, decoded."""
        return [urllib.parse.unquote(part) for part in self.path.strip("/").split("/")]

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body of a JSON protocol; empty where there is none."""
        return cast("dict[str, Any]", json.loads(self.body or b"{}"))

    @cached_property
    def form(self) -> dict[str, list[str]]:
        """The parameters of a query protocol, from the body and the query string."""
        sent = urllib.parse.parse_qs(self.body.decode("utf-8", "replace"))
        return {**{key: list(value) for key, value in self.query.items()}, **sent}

    def value(self, name: str, default: str = "") -> str:
        """One parameter of a query protocol, or of the query string."""
        return (self.form.get(name) or [default])[0]

    def values(self, name: str) -> list[str]:
        """A list parameter of a query protocol (`Name.1`, `Name.member.1`) or a repeated one of the query string."""
        numbered = [
            (int(key.rpartition(".")[2]), found[0])
            for key, found in self.form.items()
            if key.rpartition(".")[0] in {name, f"{name}.member"} and key.rpartition(".")[2].isdigit()
        ]
        return [found for _, found in sorted(numbered)] or self.form.get(name, [])


def reply(body: Mapping[str, Any], status: int = 200) -> Response:
    """An answer of a JSON protocol."""
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


def refusal(status: int, code: str, message: str) -> Response:
    """An error of a REST JSON protocol, in AWS's shape."""
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code}
    return status, headers, json.dumps({"__type": code, "message": message}).encode()


def extended(response: Response, tag: str, extra: Callable[[str], Mapping[str, Any]]) -> Response:
    """An XML answer with further elements after each `tag`: those that `extra` gives for its text."""

    def extend(found: re.Match[str]) -> str:
        return found[0] + _elements(extra(html.unescape(found[1])))

    status, headers, body = response
    text = body if isinstance(body, str) else body.decode()
    return status, headers, re.sub(f"<{tag}>([^<]*)</{tag}>", extend, text).encode()


def _elements(values: Mapping[str, Any]) -> str:
    """XML elements; a list is one of `item` elements."""
    texts = {
        name: "".join(f"<item>{_elements(item)}</item>" for item in cast("list[Mapping[str, Any]]", value))
        if isinstance(value, list)
        else escape(str(value))
        for name, value in values.items()
    }
    return "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())


def install(name: str, *, before: Before | None = None, after: After | None = None) -> None:
    """Puts our functions around MiniStack's handler of a service (by its name in MiniStack's registry)."""
    handlers: dict[str, Handler] = application().SERVICE_HANDLERS
    answer = handlers[name]

    async def handle(*request: Any) -> Response:
        call = Call(name, _operation(name, *request), *request)
        ours = before(call) if before else None
        if ours is not None:
            return ours
        response = await answer(*request)
        return after(call, response) if after and response[0] < 300 else response

    handlers[name] = handle


def add(name: str, target_prefix: str, answer: Callable[[Call], Response]) -> None:
    """Serves a service of the JSON protocol that MiniStack doesn't know, by its name in IAM policies.

    :param target_prefix: What its calls' X-Amz-Target begins with.
    """

    async def handle(*request: Any) -> Response:
        return answer(Call(name, _operation(name, *request), *request))

    core("router").SERVICE_PATTERNS[name] = {"target_prefixes": [target_prefix]}
    core("iam_actions").SERVICE_TO_IAM_NAMESPACE[name] = name
    application().SERVICE_HANDLERS[name] = handle


def watch(changed: Callable[[], None]) -> None:
    """Has `changed` called after every successful call that may have changed a service's records."""
    handlers: dict[str, Handler] = application().SERVICE_HANDLERS

    def watched(name: str, answer: Handler) -> Handler:
        async def handle(*request: Any) -> Response:
            response = await answer(*request)
            if request[0] not in {"GET", "HEAD"} and response[0] < 400:
                operation = _operation(name, *request)
                if not operation.startswith(READS) and operation not in UNHURRIED:
                    changed()
            return response

        return handle

    for name, answer in list(handlers.items()):
        handlers[name] = watched(name, answer)


def _operation(name: str, *request: Any) -> str:
    action: str | None = core("iam_actions").extract_iam_action(name, *request)
    return (action or "").rpartition(":")[2]
