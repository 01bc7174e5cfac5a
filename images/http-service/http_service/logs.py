"""Structured logs, one JSON object a line. An exception is told without its text, which may quote a request."""

import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

import orjson


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
