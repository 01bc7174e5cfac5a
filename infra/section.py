"""The base of every part of a stack file: strict about types, and about keys that it does not know."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


class Section(BaseModel):
    """A part of a stack file."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with values that are right by themselves, each as `key: problem`."""
        yield from ()

    @model_validator(mode="after")
    def _no_problems(self) -> Self:
        if found := list(self.problems()):
            raise ValueError("\n".join(found))
        return self


def checked(check: Callable[[str, Any], object], field: str) -> AfterValidator:
    """Return a validator of one field: `check` is given its name and value, and raises ValueError if it is wrong."""

    def validate(value: Any) -> Any:
        check(field, value)
        return value

    return AfterValidator(validate)


def problem_of(check: Callable[..., object], *args: object) -> Iterator[str]:
    """Yield what a check of the components raises."""
    try:
        check(*args)
    except ValueError as error:
        yield str(error)


def named(field: str, names: Iterable[str]) -> Iterator[str]:
    """Yield which of `names` cannot be part of a Kubernetes or AWS name."""
    for name in names:
        if not _DNS_LABEL.fullmatch(name):
            fitting = re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789")[:40].rstrip("-") or "name"
            yield (
                f"{field}.{name}: is no name of up to 40 lower-case letters, digits and dashes that begins with a"
                f" letter; nearest valid value: {fitting}"
            )
