"""Values from the SDK's names and shapes to the bridge's, and back, at every depth.

The shapes say all: what is one object on one side and a list on the other is wrapped or unwrapped, a number that the
other side writes as a string is written as one, a document that is an object here and text there becomes text.
"""

import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from local.plugins.aws.pairing import Pair, Pairings
from local.plugins.aws.shapes import BOOLEAN, NUMBER, STRING, Kind, ListOf, MapOf, ObjectShape, Scalar, Shape
from local.plugins.aws.values import (
    UNKNOWN,
    Properties,
    contains,
    is_marked,
    is_secret,
    secret,
    within,
    without_secrets,
)

DEFAULTS = "__defaults"
"""The key under which the bridge remembers which inputs it filled in: a list of names."""


class Direction(Enum):
    """Where values go."""

    TO_BRIDGE = auto()
    TO_SDK = auto()
    STATE_TO_SDK = auto()
    """As TO_SDK, with what only the bridge has, such as an id under another name, since it must come back."""


class _Absent:
    """What a conversion gives for a value that the other side has no way to write."""


ABSENT = _Absent()

Dropped = Callable[[str, Any], None]
"""Told the path and the value of a property that the other side lacks."""


class Converter:
    """Converts values in one direction."""

    def __init__(self, pairings: Pairings, direction: Direction, dropped: Dropped | None = None) -> None:
        self._pairings = pairings
        self._direction = direction
        self._dropped = dropped or _ignore

    def properties(self, properties: Properties, source: ObjectShape, target: ObjectShape) -> Properties:
        """The properties of a resource, function or provider."""
        return self._object(properties, source, target, "")

    def _convert(  # noqa: C901, PLR0911  one case a pair of shapes
        self, value: Any, source: Shape, target: Shape, path: str
    ) -> Any:
        if value is None or value == UNKNOWN:
            return value
        if is_secret(value):
            inner = self._convert(value.get("value"), source, target, path)
            return ABSENT if inner is ABSENT else within(value, lambda _: inner)
        if is_marked(value):
            return value
        match source, target:
            case ListOf(element=one), ListOf(element=other) if isinstance(value, list):
                return self._list(value, one, other, path)  # type: ignore[reportUnknownArgumentType]
            case MapOf(element=one), MapOf(element=other) if isinstance(value, dict):
                return {key: self._keep(part, one, other, f"{path}.{key}") for key, part in value.items()}  # type: ignore[reportUnknownVariableType]
            case ObjectShape(), ObjectShape() if isinstance(value, dict):
                return self._object(value, source, target, path)  # type: ignore[reportUnknownArgumentType]
            case ListOf(), ListOf():
                return value
            case ListOf(element=one), _ if isinstance(value, list):
                return self._convert(value[0], one, target, path) if value else ABSENT
            case Scalar(kind=Kind.ANY), _:
                return value
            case _, ListOf(element=other):
                return [self._keep(value, source, other, path)]
            case _:
                return _scalar(value, target)

    def _keep(self, value: Any, source: Shape, target: Shape, path: str) -> Any:
        """A value in a place that can't be left out."""
        converted = self._convert(value, source, target, path)
        return None if converted is ABSENT else converted

    def _list(self, values: list[Any], source: Shape, target: Shape, path: str) -> list[Any]:
        return [self._keep(value, source, target, f"{path}[{index}]") for index, value in enumerate(values)]

    def _object(self, value: Properties, source: ObjectShape, target: ObjectShape, path: str) -> Properties:
        to_bridge = self._direction is Direction.TO_BRIDGE
        pairing = self._pairings.of(source, target) if to_bridge else self._pairings.of(target, source)
        pairs = pairing.by_sdk_name if to_bridge else pairing.by_bridge_name
        taken = pairing.by_bridge_name if to_bridge else pairing.by_sdk_name
        result: Properties = {}
        for name, part in value.items():
            here = f"{path}.{name}" if path else name
            if name == DEFAULTS:
                names: list[str] = part or []
                result[name] = [_renamed(each, pairs, to_bridge=to_bridge) for each in names]
            elif name.startswith("__"):
                result[name] = part
            elif (pair := pairs.get(name)) is not None:
                one, other = (pair.sdk_shape, pair.bridge_shape) if to_bridge else (pair.bridge_shape, pair.sdk_shape)
                converted = self._convert(part, one, other, here)
                if converted is not ABSENT:
                    result[pair.bridge_name if to_bridge else pair.sdk_name] = converted
            elif name not in taken and self._passes(name, target):
                result[name] = part
            else:
                self._dropped(here, part)
        return result

    def _passes(self, name: str, target: ObjectShape) -> bool:
        """Whether a property that is in no pair goes through as it is."""
        if self._direction is Direction.TO_BRIDGE:
            return name in target.properties or name == "id"
        return self._direction is Direction.STATE_TO_SDK or name == "id"


def _ignore(_path: str, _value: Any) -> None:
    """For those who don't ask what is dropped."""


def _renamed(name: str, pairs: dict[str, Pair], *, to_bridge: bool) -> str:
    pair = pairs.get(name)
    if pair is None:
        return name
    return pair.bridge_name if to_bridge else pair.sdk_name


def text_of(value: bool | float) -> str:
    """A truth value or a number as Terraform writes it in a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if value % 1 == 0 else repr(value)


def _scalar(value: Any, target: Shape) -> Any:
    match value:
        case dict() | list() if target == STRING:
            return _document(value)  # type: ignore[reportUnknownArgumentType]
        case bool() | int() | float() if target == STRING:
            return text_of(value)
        case "true" | "false" if target == BOOLEAN:
            return value == "true"
        case str() if target == NUMBER:
            return _number(value)
        case _:
            return value


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _document(value: Any) -> Any:
    """A JSON document as text. One with a part that isn't known yet isn't known, one with a secret is a secret."""
    if contains(value, lambda part: part == UNKNOWN):
        return UNKNOWN
    text = json.dumps(_with_whole_numbers(without_secrets(value)), separators=(",", ":"))
    return secret(text) if contains(value, is_secret) else text


def _with_whole_numbers(value: Any) -> Any:
    """A value in which a number that is whole is written as one: `1`, not `1.0`."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _with_whole_numbers(part) for key, part in value.items()}  # type: ignore[reportUnknownVariableType]
        case list():
            return [_with_whole_numbers(part) for part in value]  # type: ignore[reportUnknownVariableType]
        case _:
            return value
