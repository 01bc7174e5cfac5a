"""Server-sent events."""

import json
from typing import Any

DONE = b"data: [DONE]\n\n"
"""The event that ends an OpenAI stream."""


def event(body: Any) -> bytes:
    """An event with a JSON body."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
