"""Structured logs, one JSON object a line. Nothing of a text or a vector is ever written."""

import logging
import sys
import time
import traceback
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import orjson

from embedder.metrics import Metrics

_log = logging.getLogger("embedder.access")


class JsonFormatter(logging.Formatter):
    """One line of JSON: time, level, logger, message, and the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = _place_and_kind(*record.exc_info)
        return orjson.dumps(line, default=str).decode()


def _place_and_kind(kind: type[BaseException] | None, _: object, place: TracebackType | None) -> str:
    """Where an exception is from, and what it is; not its text, which may quote the request, as aiohttp's does."""
    name = "" if kind is None else f"{kind.__module__}.{kind.__qualname__}"
    return "".join([*traceback.format_tb(place), name])


def configure_logging(level: str = "INFO") -> None:
    """Sends every logger's records to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


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
