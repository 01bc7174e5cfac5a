"""What the request path knows of traces: whether a request is traced, and what stands in for a trace where it is not.

OpenTelemetry is imported by `trace_export` only, which a gateway without `traces` in its configuration never loads.
"""

import random
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_gateway.access_log import Record

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_NOTHING = nullcontext()


class Trace:
    """The trace of one request; this one is that of a request that is not traced, and does nothing."""

    trace_id = ""

    def step(self, _name: str, /) -> AbstractContextManager[None]:
        """A span of the gateway's own work, while it lasts."""
        return _NOTHING

    def try_began(self, _url: str, headers: Mapping[str, str], /) -> Mapping[str, str]:
        """Begins the span of a try at a model; returns the headers that join the model to it."""
        return headers

    def try_failed(self, _kind: str, /) -> None:
        """Ends the span of a try that brought no answer."""

    def try_answered(self, _status: int, /) -> None:
        """Notes that the answer of a try, whose status this is, has been read or has broken off."""

    def finish(self, _record: "Record", /) -> None:
        """Ends the request's span, and hands the trace to the exporter."""


UNTRACED = Trace()


def is_sampled(traceparent: str | None, percent: float) -> bool:
    """Whether a request is traced: as its caller has decided, or `percent` of those whose callers have not."""
    decided = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    if decided is not None:
        return bool(int(decided[1], 16) & 1)
    return percent > 0 and random.random() * 100 < percent  # noqa: S311 - which requests are sampled is no secret
