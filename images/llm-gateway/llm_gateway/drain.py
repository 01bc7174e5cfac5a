"""The way out: a gateway that is told to stop goes on answering until its callers have moved."""

import asyncio
import logging
import time

from llm_gateway.gateway import Gateway

_log = logging.getLogger("llm_gateway")
_STEP_SECONDS = 0.1


async def until_drained(gateway: Gateway) -> None:
    """Drains: returns once no request has been in flight for the quiet time, or at the deadline.

    Meanwhile the gateway still takes requests, since a load balancer may be late to learn that it is not ready, and
    answers each with `Connection: close`, so that no caller is left on a connection that is about to be closed.
    """
    limits = gateway.limits
    started = time.monotonic()
    gateway.start_draining()
    _log.info("draining", extra={"fields": {"in_flight": gateway.in_flight}})
    while time.monotonic() - started < limits.drain_deadline_seconds:
        quiet = min(gateway.quiet_seconds, time.monotonic() - started)
        if quiet >= limits.drain_quiet_seconds and not gateway.in_flight:
            break
        await asyncio.sleep(_STEP_SECONDS)
    _log.info(
        "drained" if not gateway.in_flight else "drain deadline reached",
        extra={"fields": {"in_flight": gateway.in_flight, "seconds": round(time.monotonic() - started, 1)}},
    )
