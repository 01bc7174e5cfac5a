"""The part of a request that the semantic cache compares by meaning, and everything else, which must be the same.

Only the last user message is compared. The partition is one hash over tenant, model, revision, system prompt, history
and every other field that can change an answer: a question is never held against one of another partition.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import orjson

from llm_gateway.cache_policy import TRANSPORT_FIELDS
from llm_gateway.inference import Endpoint, Inference
from llm_gateway.json_fields import as_object

_PARTITION_HEX_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Question:
    """What one request asks."""

    text: str
    """The last user message."""
    partition: str
    """Hash of everything else."""


def question(inference: Inference, tenant_name: str, revision: str, max_chars: int) -> Question | None:
    """The question of a request; None where none can be told: it is no chat, or its end is not a short user's text."""
    if inference.endpoint is not Endpoint.CHAT:
        return None  # in a raw prompt nothing tells the question from the instructions
    messages = cast("list[dict[str, Any]]", inference.fields["messages"])
    last = messages[-1]
    text = _text(last.get("content"))
    if last.get("role") != "user" or not text or len(text) > max_chars:
        return None
    rest = {name: value for name, value in inference.fields.items() if name not in TRANSPORT_FIELDS}
    rest["messages"] = [*messages[:-1], {**last, "content": None}]
    identity = [tenant_name, inference.model, revision, rest]
    digest = hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Question(text, digest[:_PARTITION_HEX_DIGITS])


def _text(content: object) -> str | None:
    """The text of a message's content: a string, or a list with one text; None for anything else, as an image."""
    if isinstance(content, list):
        parts = cast("list[object]", content)
        part = as_object(parts[0]) if len(parts) == 1 else None
        content = part.get("text") if part is not None and part.keys() == {"type", "text"} else None
    return content.strip() if isinstance(content, str) else None
