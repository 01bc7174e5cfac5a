"""Reads IAM policy documents: what in one reaches further than it says by name."""

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from tests.security.controls import Thing


def statements(document: str) -> list[dict[str, Any]]:
    """Return a document's statements."""
    return cast(list[dict[str, Any]], json.loads(document)["Statement"])


def listed(value: Any) -> list[str]:
    """Return a string or a list of strings as a list."""
    return [value] if isinstance(value, str) else list(value or [])


def wildcards(path: str) -> Callable[[Thing], Iterator[str]]:
    """Return a check that no Allow statement has a wildcard in an action or resource."""

    def check(thing: Thing) -> Iterator[str]:
        for statement in _allowing(thing, path):
            if "NotAction" in statement or "NotResource" in statement:
                yield "allows everything but what it names"
            for kind in ("Action", "Resource"):
                yield from (f"{kind} {value}" for value in listed(statement.get(kind)) if "*" in value)

    return check


def principals(path: str) -> Callable[[Thing], Iterator[str]]:
    """Return a check that no Allow statement lets everybody in."""

    def check(thing: Thing) -> Iterator[str]:
        for statement in _allowing(thing, path):
            principal: Any = statement.get("Principal")
            named = listed(principal) if isinstance(principal, str | list) else _named(principal or {})
            yield from (f"allows {name}" for name in named if "*" in name)
            if not named:
                yield "names no principal"

    return check


def trust(thing: Thing) -> Iterator[str]:
    """Check that a role can be taken by one AWS service only, and only as an AWS service does."""
    for statement in _allowing(thing, "assumeRolePolicy"):
        services = listed(statement["Principal"].get("Service"))
        if set(statement["Principal"]) != {"Service"} or len(services) != 1:
            yield f"can be taken by {statement['Principal']}"
        extra = set(listed(statement["Action"])) - {"sts:AssumeRole", "sts:TagSession"}
        yield from (f"trusts with {action}" for action in sorted(extra))
        if not any("aws:SourceA" in key for keys in statement.get("Condition", {}).values() for key in keys):
            yield f"{services[0] if services else 'it'} may take it on behalf of another account"


def _allowing(thing: Thing, path: str) -> Iterator[dict[str, Any]]:
    for statement in statements(thing.get(path)):
        if statement["Effect"] == "Allow":
            yield statement


def _named(principal: dict[str, Any]) -> list[str]:
    return [name for values in principal.values() for name in listed(values)]
