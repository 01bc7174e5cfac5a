"""CloudWatch's filter patterns for JSON, as far as ours go, and the fields that a query of Logs Insights reads.

Of patterns: comparisons with = != >= <, joined by && and ||.

A quoted or bare value may hold `*`; a bare `*` alone means that the field is there.
"""

import fnmatch
import re
from collections.abc import Mapping
from typing import Any, cast

_TOKEN = re.compile(r'\s*(\(|\)|&&|\|\||!=|>=|<|=|\$[.\w]+|"[^"]*"|[\w.*-]+)')

_WORDS = {
    "fields", "filter", "stats", "sort", "limit", "by", "as", "and", "or", "in", "like", "desc", "count", "sum", "max",
    "pct", "coalesce",
}  # fmt: skip


def named_fields(query: str) -> set[str]:
    """Return the fields that a query reads: what is no word of the language, no literal and no name of its own."""
    bare = re.sub(r'"[^"]*"|/[^/]*/', "", query)
    own = set(re.findall(r"\bas (\w+)", bare))
    names = set(re.findall(r"@?[A-Za-z_][\w.]*", bare))
    return {name for name in names - own - _WORDS if not name.startswith("@")}


def matches(pattern: str, event: Mapping[str, Any]) -> bool:
    """Whether a pattern matches an event. Raises ValueError for what isn't a pattern."""
    inner = re.fullmatch(r"\{(.*)\}", pattern)
    if inner is None:
        raise ValueError(f"{pattern!r} isn't in braces")
    parser = _Parser(_tokens(inner[1]), event)
    result = parser.either()
    if parser.rest:
        raise ValueError(f"{pattern!r} goes on with {parser.rest}")
    return result


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while text[position:].strip():
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"{text[position:]!r} isn't understood")
        tokens.append(found[1])
        position = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str], event: Mapping[str, Any]) -> None:
        self.rest = tokens
        self._event = event

    def either(self) -> bool:
        result = self._both()
        while self.rest[:1] == ["||"]:
            self.rest.pop(0)
            result = self._both() or result
        return result

    def _both(self) -> bool:
        result = self._one()
        while self.rest[:1] == ["&&"]:
            self.rest.pop(0)
            result = self._one() and result
        return result

    def _one(self) -> bool:
        first = self.rest.pop(0)
        if first == "(":
            result = self.either()
            if self.rest.pop(0) != ")":
                raise ValueError("a bracket isn't closed")
            return result
        if not first.startswith("$."):
            raise ValueError(f"{first} is no field")
        return _compare(_field(self._event, first[2:]), self.rest.pop(0), self.rest.pop(0))


def _field(event: Mapping[str, Any], path: str) -> Any:
    value: Any = event
    for name in path.split("."):
        value = cast(Mapping[str, Any], value).get(name) if isinstance(value, Mapping) else None
    return value


def _compare(value: Any, operator: str, wanted: str) -> bool:
    """Compare as CloudWatch does: a field that isn't there matches nothing, and a string is no number."""
    if value is None:
        return False
    quoted = wanted.startswith('"')
    text = wanted.strip('"')
    if operator in {"=", "!="} and (quoted or "*" in text):
        same = fnmatch.fnmatchcase(value, text) if isinstance(value, str) else text == "*"
        return same == (operator == "=")
    if not isinstance(value, int | float):
        return False
    number = float(text)
    return {"=": value == number, "!=": value != number, ">=": value >= number, "<": value < number}[operator]
