"""The way out: an embedder that is told to stop goes on answering until its callers have moved."""

import asyncio
import logging
import time

from embedder.service import Embedder

_log = logging.getLogger("embedder")
_STEP_SECONDS = 0.1


async def until_drained(embedder: Embedder) -> None:
    """Drains: returns once no request has been in flight for the quiet time, or at the deadline.

    Meanwhile the embedder still takes requests, since a load balancer may be late to learn that it is not ready, and
    answers each with `Connection: close`, so that no caller is left on a connection that is about to be closed.
    """
    settings = embedder.settings
    started = time.monotonic()
    embedder.start_draining()
    _log.info("draining", extra={"fields": {"in_flight": embedder.in_flight}})
    while time.monotonic() - started < settings.drain_deadline_seconds:
        quiet = min(embedder.quiet_seconds, time.monotonic() - started)
        if quiet >= settings.drain_quiet_seconds and not embedder.in_flight:
            break
        await asyncio.sleep(_STEP_SECONDS)
    _log.info(
        "drained" if not embedder.in_flight else "drain deadline reached",
        extra={"fields": {"in_flight": embedder.in_flight, "seconds": round(time.monotonic() - started, 1)}},
    )
