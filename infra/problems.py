"""Says what is wrong with a stack file: one line a problem, with the key, the value and the nearest one that works."""

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from llm_serving import _checks

_TYPES = {
    "bool_type": "true or false",
    "dict_type": "a group of keys",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a group of keys",
    "string_type": "text (put it in quotes)",
}
_LIMITS = {
    "greater_than_equal": ("ge", "is below"),
    "less_than_equal": ("le", "is above"),
}


class SettingsError(Exception):
    """A stack file cannot be used. `problems` holds one line for each reason."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


def describe(error: ValidationError, model: type[BaseModel], namespace: str) -> list[str]:
    """Return one line for each problem of a validation against `model`, its key written as in a stack file."""
    lines: list[str] = []
    for detail in error.errors(include_url=False):
        lines.extend(f"{namespace}:{line}" for line in _lines(detail, model))
    return lines


def _lines(detail: ErrorDetails, model: type[BaseModel]) -> Iterator[str]:
    path = ".".join(str(part) for part in detail["loc"])
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "value_error":
        # A check of one field names it, as one of a section names the field that it found wrong.
        text = str(context["error"])
        of_field = bool(path) and text.startswith(f"{detail['loc'][-1]}:")
        parent = path.rpartition(".")[0] if of_field else path
        yield from (f"{parent}.{line}".removeprefix(".") for line in text.split("\n"))
    elif kind == "missing":
        yield f"{path}: is missing; it has no default"
    elif kind == "extra_forbidden":
        key, known = str(detail["loc"][-1]), _keys(model, detail["loc"][:-1])
        yield f"{path}: unknown key; nearest known key: {_checks.nearest(key, known)}"
    elif kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        near = _checks.nearest(str(value), allowed)
        yield f"{path}: {value!r} is not one of {', '.join(allowed)}; nearest valid value: {near}"
    elif kind in _LIMITS:
        name, text = _LIMITS[kind]
        limit = _number(context[name])
        yield f"{path}: {value} {text} {limit}; nearest valid value: {limit}"
    elif kind == "string_pattern_mismatch":
        example = _example(model, detail["loc"])
        yield f"{path}: {value!r} does not match {context['pattern']}, as in {example}"
    elif kind == "too_short":
        yield f"{path}: has {context['actual_length']} entries; nearest valid number: {context['min_length']}"
    elif kind in _TYPES:
        yield f"{path}: {value!r} is not {_TYPES[kind]}"
    else:
        yield f"{path}: {value!r}: {detail['msg']}"


def _number(value: float) -> str:
    """Return a number as a stack file takes it: a whole one with all its digits."""
    return str(int(value)) if value == int(value) else f"{value:g}"


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that `model` has at `path`, as they are spelt in a stack file."""
    return [str(field.alias) for field in _at(model, path).model_fields.values()]


def _example(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """Return a right value of a field that has a pattern."""
    fields = {field.alias: field for field in _at(model, path[:-1]).model_fields.values()}
    return next(str(example) for example in _examples(fields[str(path[-1])]))


def _examples(field: FieldInfo) -> Iterator[Any]:
    yield from field.examples or ()
    for kind in typing.get_args(field.annotation):  # of `Annotated[str, Field(...)] | None`
        for extra in getattr(kind, "__metadata__", ()):
            yield from getattr(extra, "examples", None) or ()


def _at(model: type[BaseModel], path: tuple[int | str, ...]) -> Any:
    """Return the section of `model` at `path`."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            names = {field.alias: field for field in current.model_fields.values()}
            current = _section(names[str(part)].annotation)
        else:
            current = _section(typing.get_args(current)[-1])
    return current


def _section(annotation: Any) -> Any:
    """Return the annotation without its `| None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation
