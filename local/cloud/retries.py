"""Answers a repeated call as the first time.

An AWS SDK that loses an answer, because its connection broke, sends the call again under the same invocation id. What
the first one did is done: made a second time, a create would find its own resource in the way, and a delete nothing.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from local.cloud import emulator
from local.cloud.emulator import Response

log = logging.getLogger("cloud.retries")

INVOCATION = "amz-sdk-invocation-id"
REMEMBERED = 1024
"""Answers kept: an SDK's retries follow within seconds."""


def install() -> None:
    """Puts itself around every service's handler; call after the handlers of this package are in place."""
    answers: OrderedDict[str, Response] = OrderedDict()
    handlers: dict[str, emulator.Handler] = emulator.application().SERVICE_HANDLERS
    for name, answer in list(handlers.items()):
        handlers[name] = _once(name, answer, answers)


def _once(name: str, answer: emulator.Handler, answers: "OrderedDict[str, Response]") -> emulator.Handler:
    async def handle(*request: Any) -> Response:
        method, _, headers, *_ = request
        invocation = _header(headers, INVOCATION)
        if method in {"GET", "HEAD"} or not invocation:
            return await answer(*request)
        key = f"{name} {invocation}"
        if key in answers:
            log.warning("answered a repeated call to %s as the first time", name)
            return answers[key]
        response = await answer(*request)
        # An error may be why the SDK tries again; a streamed body can't be sent twice.
        if response[0] < 300 and isinstance(response[2], bytes | str):
            answers[key] = response
            if len(answers) > REMEMBERED:
                answers.popitem(last=False)
        return response

    return handle


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")
