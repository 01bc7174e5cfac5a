"""The way out: a service that is told to stop goes on answering until its callers have moved."""

import asyncio
import logging
import time

from prometheus_client import Gauge

_log = logging.getLogger("http_service")
_STEP_SECONDS = 0.1


class Drainable:
    """A service that counts its requests, and can be drained; the two gauges show it."""

    def __init__(self, in_flight: Gauge, draining: Gauge) -> None:
        self.draining = False
        """Whether it is on its way out: not ready, and closing each connection after its answer."""
        self._in_flight_gauge = in_flight
        self._draining_gauge = draining
        self._in_flight = 0
        self._last_busy = time.monotonic()

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    @property
    def quiet_seconds(self) -> float:
        """How long there has been no request in flight."""
        return 0.0 if self._in_flight else time.monotonic() - self._last_busy

    def request_began(self) -> None:
        """Counts a request in."""
        self._in_flight += 1
        self._in_flight_gauge.set(self._in_flight)

    def request_ended(self) -> None:
        """Counts a request out."""
        self._in_flight -= 1
        self._last_busy = time.monotonic()
        self._in_flight_gauge.set(self._in_flight)

    def start_draining(self) -> None:
        """From now on the service is not ready, and each answer asks its caller to use another connection."""
        self.draining = True
        self._draining_gauge.set(1)


async def until_drained(service: Drainable, *, quiet_seconds: float, deadline_seconds: float) -> None:
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
