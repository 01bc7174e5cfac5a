"""JSON objects out of bytes and values that may be anything."""

from typing import Any, cast

import orjson


def as_object(value: object) -> dict[str, Any] | None:
    """`value` if it is a JSON object, else None."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def parse_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, or None where there is none."""
    try:
        return as_object(orjson.loads(body))
    except orjson.JSONDecodeError:
        return None
