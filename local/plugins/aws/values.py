"""Property values as Python holds them, and the marks that Pulumi wraps some of them in."""

from collections.abc import Callable, Iterable
from typing import Any, cast

from google.protobuf.struct_pb2 import ListValue, Struct, Value

Properties = dict[str, Any]
"""A resource's properties: strings, floats, booleans, None, lists and dictionaries."""

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands for a value that a preview can't know."""

_MARK = "4dabf18193072939515e22adb298388d"
"""The key of a dictionary that isn't one: a secret, an asset, a resource."""
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  the mark of secrets, in every Pulumi SDK


def is_marked(value: Any) -> bool:
    """Whether a value is something that Pulumi marks: a secret, an asset, a resource."""
    return isinstance(value, dict) and _MARK in value


def is_secret(value: Any) -> bool:
    """Whether a value is a secret."""
    return isinstance(value, dict) and value.get(_MARK) == _SECRET  # type: ignore[reportUnknownMemberType]


def secret(value: Any) -> Properties:
    """A value as a secret."""
    return {_MARK: _SECRET, "value": value}


def within(value: Properties, convert: Callable[[Any], Any]) -> Properties:
    """A secret with its value converted."""
    return {**value, "value": convert(value.get("value"))}


def contains(value: Any, test: Callable[[Any], bool]) -> bool:
    """Whether a value or any of its parts passes a test."""
    if test(value):
        return True
    return any(contains(part, test) for part in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("Properties", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def without_secrets(value: Any) -> Any:
    """A value in which nothing is marked as secret."""
    if is_secret(value):
        return without_secrets(value["value"])
    if isinstance(value, dict):
        return {key: without_secrets(part) for key, part in value.items()}  # type: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [without_secrets(part) for part in value]  # type: ignore[reportUnknownVariableType]
    return value


def from_struct(message: Struct) -> Properties:
    """The properties in a message."""
    return {key: _from_value(value) for key, value in message.fields.items()}


def to_struct(properties: Properties) -> Struct:
    """A message with these properties."""
    message = Struct()
    for key, value in properties.items():
        _to_value(value, message.fields[key])
    return message


def _from_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_from_value(part) for part in value.list_value.values]
        case "struct_value":
            return from_struct(value.struct_value)
        case _:
            return None


def _to_value(value: Any, message: Value) -> None:
    match value:
        case None:
            message.null_value = 0  # type: ignore[assignment]
        case bool():
            message.bool_value = value
        case int() | float():
            message.number_value = value
        case str():
            message.string_value = value
        case list():
            message.list_value.CopyFrom(ListValue())
            for part in _parts(value):
                _to_value(part, message.list_value.values.add())
        case _:
            properties: Properties = value
            message.struct_value.CopyFrom(to_struct(properties))
