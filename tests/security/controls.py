"""What a security rule, a finding and an exception are, and the walk that applies all rules to all resources.

Every resource type is either in a table of rules or in a table of types that have nothing to secure; one that is in
neither is a finding itself, so that nothing new gets past unseen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

UNKNOWN = "a rule for every type"
"""The control that a type without rules fails."""


@dataclass(frozen=True)
class Thing:
    """One resource of AWS or one object of Kubernetes, with all others of its stack beside it."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    stack: str
    protect: bool = False
    others: Sequence["Thing"] = field(default=(), repr=False, compare=False)

    def get(self, path: str) -> Any:
        """Return what is at a dotted path of the inputs; None where there is nothing."""
        value: Any = self.inputs
        for part in path.split("."):
            if isinstance(value, list):
                items = cast(list[Any], value)
                value = items[int(part)] if int(part) < len(items) else None
            elif isinstance(value, Mapping):
                value = cast(Mapping[str, Any], value).get(part)
            else:
                return None
        return value

    def items(self, path: str) -> list[Any]:
        """Return the list at a dotted path; an empty one where there is nothing."""
        return self.get(path) or []

    def fields(self, path: str) -> dict[str, Any]:
        """Return the fields at a dotted path; none where there is nothing."""
        return self.get(path) or {}

    def beside(self, type_: str, **inputs: Any) -> list["Thing"]:
        """Return the stack's resources of a type that have these inputs."""
        return [
            other
            for other in self.others
            if other.type == type_ and all(other.inputs.get(key) == value for key, value in inputs.items())
        ]


Check = Callable[[Thing], Iterable[str]]
"""Yields what is wrong."""


@dataclass(frozen=True)
class Rule:
    """A control, what satisfies it, and how that is checked."""

    control: str
    """Its number: AWS (Security Hub), CIS (EKS Benchmark), PSS (Pod Security Standard, restricted) or "own"."""
    title: str
    where: str
    """What satisfies it."""
    check: Check


@dataclass(frozen=True)
class Finding:
    """A control that a resource does not satisfy."""

    stack: str
    type: str
    name: str
    control: str
    detail: str

    def __str__(self) -> str:
        return f"{self.stack}: {self.type} {self.name}: {self.control}: {self.detail}"


@dataclass(frozen=True)
class Exemption:
    """A finding that stays, and why. `name` and `detail` are shell patterns."""

    control: str
    type: str
    name: str
    reason: str
    detail: str = "*"
    stacks: tuple[str, ...] = ("dev", "staging", "prod")

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is this one."""
        return (
            finding.stack in self.stacks
            and (finding.control, finding.type) == (self.control, self.type)
            and fnmatchcase(finding.name, self.name)
            and fnmatchcase(finding.detail, self.detail)
        )


def walk(
    things: Iterable[Thing], rules: Mapping[str, Sequence[Rule]], nothing_to_secure: Mapping[str, str]
) -> Iterator[Finding]:
    """Apply the rules of its type to every thing; yield every control that one does not satisfy."""
    for thing in things:
        if thing.type not in rules:
            if thing.type not in nothing_to_secure:
                yield Finding(thing.stack, thing.type, thing.name, UNKNOWN, "has no rule, and no reason to have none")
            continue
        for rule in rules[thing.type]:
            for detail in rule.check(thing):
                yield Finding(thing.stack, thing.type, thing.name, rule.control, detail)


def uncovered(findings: Iterable[Finding], exemptions: Sequence[Exemption]) -> list[str]:
    """Return the findings that no exemption covers."""
    return [str(finding) for finding in findings if not any(each.covers(finding) for each in exemptions)]


def unneeded(findings: Sequence[Finding], exemptions: Sequence[Exemption]) -> list[str]:
    """Return the exemptions that cover nothing in a stack that they name."""
    return [
        f"{each.control} {each.type} {each.name} {each.detail}: covers nothing in {stack}"
        for each in exemptions
        for stack in each.stacks
        if not any(each.covers(finding) and finding.stack == stack for finding in findings)
    ]


def equals(path: str, wanted: Any) -> Check:
    """Return a check that the value at a path is exactly the wanted one."""

    def check(thing: Thing) -> Iterator[str]:
        found = thing.get(path)
        if found != wanted or type(found) is not type(wanted):
            yield f"{path} is {found!r}, not {wanted!r}"

    return check


def present(path: str) -> Check:
    """Return a check that there is something at a path."""

    def check(thing: Thing) -> Iterator[str]:
        if not thing.get(path):
            yield f"{path} is not set"

    return check


def absent(path: str) -> Check:
    """Return a check that there is nothing at a path."""

    def check(thing: Thing) -> Iterator[str]:
        if thing.get(path):
            yield f"{path} is {thing.get(path)!r}"

    return check


def at_least(path: str, least: float) -> Check:
    """Return a check that the number at a path is not below `least`."""

    def check(thing: Thing) -> Iterator[str]:
        found = thing.get(path)
        if not isinstance(found, int | float) or found < least:
            yield f"{path} is {found!r}, below {least}"

    return check


def protected(thing: Thing) -> Iterator[str]:
    """Check that Pulumi refuses to delete or replace it."""
    if not thing.protect:
        yield "is not protected"


def has(type_: str, link: str, *checks: Check) -> Check:
    """Return a check that a resource of a type belongs to this one, by the name in `link`, and passes `checks`."""

    def check(thing: Thing) -> Iterator[str]:
        found = thing.beside(type_, **{link: thing.name})
        if not found:
            yield f"no {type_.rpartition(':')[2]} of it"
        for other in found:
            for each in checks:
                yield from each(other)

    return check
