"""The way out: a service that is told to stop goes on answering until its callers have moved."""

import asyncio
import logging
import time
from typing import Protocol

_log = logging.getLogger("http_service")
_STEP_SECONDS = 0.1


class Draining(Protocol):
    """A service that can be drained."""

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        ...

    @property
    def quiet_seconds(self) -> float:
        """Seconds since the last request."""
        ...

    def start_draining(self) -> None:
        """From now on the service is not ready, and closes each connection after its answer."""
        ...


async def until_drained(service: Draining, *, quiet_seconds: float, deadline_seconds: float) -> None:
    """Drains: returns once no request has been in flight for the quiet time, or at the deadline.

    Meanwhile the service still takes requests, since a load balancer may be late to learn that it is not ready, and
    answers each with `Connection: close`, so that no caller is left on a connection that is about to be closed.
    """
    started = time.monotonic()
    service.start_draining()
    _log.info("draining", extra={"fields": {"in_flight": service.in_flight}})
    while time.monotonic() - started < deadline_seconds:
        quiet = min(service.quiet_seconds, time.monotonic() - started)
        if quiet >= quiet_seconds and not service.in_flight:
            break
        await asyncio.sleep(_STEP_SECONDS)
    _log.info(
        "drained" if not service.in_flight else "drain deadline reached",
        extra={"fields": {"in_flight": service.in_flight, "seconds": round(time.monotonic() - started, 1)}},
    )
