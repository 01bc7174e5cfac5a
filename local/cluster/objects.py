"""Reading Kubernetes objects, whose parts may be missing or null at every level."""

from typing import Any

Json = dict[str, Any]


def section(value: Json | None, *keys: str) -> Json:
    """The object below `keys`; an empty one where any of them is missing or null."""
    for key in keys:
        value = (value or {}).get(key)
    return value or {}


def sequence(value: Json | None, *keys: str) -> list[Json]:
    """The list of objects below `keys`; an empty one where any of them is missing or null."""
    *parents, last = keys
    found: list[Json] | None = section(value, *parents).get(last)
    return found or []


def labels(value: Json | None) -> dict[str, str]:
    """An object's labels."""
    return section(value, "metadata", "labels")


def name(value: Json) -> str:
    """An object's name."""
    return value["metadata"]["name"]


def condition(value: Json | None, kind: str) -> Json:
    """One of the conditions in an object's status; an empty one where it has none of that type."""
    found = (item for item in sequence(value, "status", "conditions") if item["type"] == kind)
    return section(next(found, None))


def is_true(value: Json | None, kind: str) -> bool:
    """Whether a condition of an object holds, such as `Ready`."""
    return condition(value, kind).get("status") == "True"
