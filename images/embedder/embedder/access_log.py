"""Structured logs, one JSON object a line. Nothing of a text or a vector is ever written."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from embedder.metrics import Metrics

_log = logging.getLogger("embedder.access")


@dataclass(slots=True)
class Record:
    """What is known about one request; filled in as it is answered, then counted and logged once."""

    request_id: str
    method: str
    endpoint: str
    started: float = field(default_factory=time.monotonic)
    """Seconds on the monotonic clock."""
    status: int = 0
    error: str = ""
    inputs: int | None = None
    tokens: int | None = None

    def finish(self, metrics: Metrics) -> None:
        """Counts and logs the request."""
        elapsed = time.monotonic() - self.started
        metrics.requests.labels(self.endpoint, str(self.status)).inc()
        metrics.duration.labels(self.endpoint).observe(elapsed)
        if _log.isEnabledFor(logging.INFO):
            _log.info("request", extra={"fields": self._fields(elapsed)})

    def _fields(self, elapsed: float) -> dict[str, Any]:
        known: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "endpoint": self.endpoint,
            "status": self.status,
            "duration_ms": round(elapsed * 1000, 2),
            "inputs": self.inputs,
            "tokens": self.tokens,
            "error": self.error or None,
        }
        return {name: value for name, value in known.items() if value is not None}
