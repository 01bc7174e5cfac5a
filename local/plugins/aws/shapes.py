"""What a property's value looks like, in the SDK's words or in the bridge's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property


class Kind(Enum):
    """The kinds of a value that has no parts."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    ANY = "any"


@dataclass(frozen=True)
class Scalar:
    """A value without parts; ANY for one that nothing is known about."""

    kind: Kind


@dataclass(frozen=True)
class ListOf:
    """A list or set."""

    element: "Shape"


@dataclass(frozen=True)
class MapOf:
    """A map with any keys."""

    element: "Shape"


@dataclass(frozen=True)
class Property:
    """One property of an object."""

    shape: "Shape"
    attribute: str = ""
    """The name of the Terraform attribute behind it; empty on the SDK's side, which doesn't tell."""
    is_input: bool = False
    """Whether a program can set it. Known of what a resource, a function or the provider itself has."""
    is_required: bool = False
    """Whether it always has a value; of an input, whether a program must set it."""
    is_single: bool = False
    """Whether the Terraform attribute is a list of one element at most, which Pulumi writes as that element."""


class ObjectShape:
    """A value with named properties, read on first use: some types nest hundreds deep in choices.

    Two are the same only if they are the same object; whoever makes them hands out one for each type.
    """

    def __init__(self, name: str, read: Callable[[], Mapping[str, Property]]) -> None:
        self.name = name
        self._read = read

    @cached_property
    def properties(self) -> Mapping[str, Property]:
        """The properties by name."""
        return self._read()

    def __repr__(self) -> str:
        return f"ObjectShape({self.name})"


Shape = Scalar | ListOf | MapOf | ObjectShape

STRING = Scalar(Kind.STRING)
NUMBER = Scalar(Kind.NUMBER)
BOOLEAN = Scalar(Kind.BOOLEAN)
ANY = Scalar(Kind.ANY)
