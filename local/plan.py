"""What the engine would do to a stack, for people and programs: its steps as changes, its messages as findings."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

from local.engine import QUIET, Outcome

Operation = Literal["create", "update", "replace", "delete", "same"]
OPERATIONS: tuple[Operation, ...] = ("create", "update", "replace", "delete", "same")

STATEFUL = frozenset(
    {
        "aws:cloudwatch/logGroup:LogGroup",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/vpc:Vpc",
        "aws:ecr/repository:Repository",
        "aws:eks/cluster:Cluster",
        "aws:elasticache/replicationGroup:ReplicationGroup",
        "aws:kms/key:Key",
        "aws:s3/bucket:Bucket",
        "aws:secretsmanager/secret:Secret",
        "kubernetes:apps/v1:StatefulSet",
        "kubernetes:core/v1:Namespace",
        "kubernetes:core/v1:PersistentVolumeClaim",
    }
)
"""Types that lose data, or take everything in them along, when they are replaced or deleted."""

_CODE = re.compile(r"(?P<text>.*) \[(?P<code>[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\]$")
"""How a check of the settings ends what it says: with the code of `llm_serving.capacity.findings.Finding`."""
_UNCHECKED = "unchecked: "
"""How `infra.checks` begins what it could not check."""
_DROPPED = re.compile(r"^\S+ \S+: (?P<text>\S+ has no effect here: .*)")
"""What the local AWS provider says once for a property, of whichever resource comes first: that one is left out."""
_RENDERED = re.compile(r"rendered (YAML|file) ")
"""How the Kubernetes provider warns of a file that only a throw-away folder holds."""
_LONGEST = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class Property:
    """A property that a change sets, removes or alters; values as text, `[secret]` for a secret."""

    path: str
    old: str
    new: str
    replaces: bool
    """Whether it makes the provider replace the resource."""


@dataclass(frozen=True)
class Change:
    """What happens to one resource."""

    urn: str
    type: str
    name: str
    operation: Operation
    protected: bool
    """Whether Pulumi protects it: as it is, or for a new one as it will be."""
    properties: tuple[Property, ...] = ()

    @property
    def stateful(self) -> bool:
        """Whether its type is one of STATEFUL."""
        return self.type in STATEFUL

    @property
    def replace_keys(self) -> list[str]:
        """The properties that make the provider replace it."""
        return [each.path for each in self.properties if each.replaces]

    def as_json(self) -> dict[str, Any]:
        """The change for a program."""
        changed = [asdict(each) for each in self.properties]
        return {
            "urn": self.urn,
            "type": self.type,
            "name": self.name,
            "operation": self.operation,
            "protected": self.protected,
            "stateful": self.stateful,
            "replaceKeys": self.replace_keys,
            "properties": changed,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Change":
        """The change that `as_json` wrote."""
        return Change(
            content["urn"],
            content["type"],
            content["name"],
            content["operation"],
            content["protected"],
            tuple(Property(**each) for each in content["properties"]),
        )


@dataclass(frozen=True)
class Finding:
    """What a check of the settings has found."""

    code: str
    message: str
    severity: Literal["warning", "unchecked"]
    """Errors have no plan: they are its problems."""

    @property
    def text(self) -> str:
        """What it says, and its code."""
        unchecked = "not checked: " if self.severity == "unchecked" else ""
        return f"{unchecked}{self.message} [{self.code}]"


@dataclass(frozen=True)
class Plan:
    """What the engine would do to a stack."""

    stack: str
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = field(default=())
    """Why there is no plan; empty where there is one."""

    @property
    def counts(self) -> dict[Operation, int]:
        """How many resources each operation is for, components left out."""
        counted = Counter(change.operation for change in self.changes)
        return {operation: counted[operation] for operation in OPERATIONS}

    def of(self, operation: Operation) -> list[Change]:
        """The changes of one kind, by type and name."""
        return [change for change in self.changes if change.operation == operation]

    def as_json(self) -> dict[str, Any]:
        """The plan for a program; resources that stay as they are are only counted."""
        return {
            "stack": self.stack,
            "counts": self.counts,
            "resources": [change.as_json() for change in self.changes if change.operation != "same"],
            "warnings": list(self.warnings),
            "findings": [asdict(finding) for finding in self.findings],
            "problems": list(self.problems),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Plan":
        """The plan that `as_json` wrote."""
        changes = [Change.from_json(each) for each in content["resources"]]
        unchanged = [Change(urn="", type="", name="", operation="same", protected=False)]
        return Plan(
            content["stack"],
            (*changes, *(unchanged * content["counts"]["same"])),
            tuple(content["warnings"]),
            tuple(Finding(**each) for each in content["findings"]),
            tuple(content["problems"]),
        )


def plan(stack: str, outcome: Outcome, protected: Iterable[str] = ()) -> Plan:
    """Returns the plan that a preview's outcome is; `protected` are URNs that the state protects."""
    warnings, findings = messages(outcome.warnings, outcome.notes)
    return Plan(stack, tuple(changes(outcome.steps, frozenset(protected))), warnings, findings)


def messages(warnings: Iterable[str], notes: Iterable[str] = ()) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Parts what the engine has said into warnings and findings of the settings' checks; each once, sorted."""
    plain: set[str] = set()
    found: set[Finding] = set()
    for text in warnings:
        if match := _CODE.match(text):
            found.add(Finding(match["code"], match["text"], "warning"))
        elif not _RENDERED.search(text):
            dropped = _DROPPED.match(text)
            plain.add(dropped["text"] if dropped else text)
    for text in notes:
        if text.startswith(_UNCHECKED) and (match := _CODE.match(text.removeprefix(_UNCHECKED))):
            found.add(Finding(match["code"], match["text"], "unchecked"))
    return tuple(sorted(plain)), tuple(sorted(found, key=lambda each: (each.severity, each.code, each.message)))


def changes(steps: Iterable[Mapping[str, Any]], protected: frozenset[str] = frozenset()) -> list[Change]:
    """One change for each resource, components, providers and the stack itself left out; by type and name."""
    by_urn: dict[str, list[Mapping[str, Any]]] = {}
    for step in steps:
        by_urn.setdefault(step["urn"], []).append(step)
    found = [_change(urn, each, urn in protected) for urn, each in by_urn.items() if _counts(each[0])]
    return sorted(found, key=lambda change: (change.type, change.name, change.urn))


def state_of(step: Mapping[str, Any], which: str) -> dict[str, Any]:
    """The `old` or `new` state in a step; nothing where it has none."""
    return cast("dict[str, Any]", step.get(which) or {})


def _counts(step: Mapping[str, Any]) -> bool:
    state = state_of(step, "new") or state_of(step, "old")
    return bool(state.get("custom")) and not step["type"].startswith("pulumi:")


def _change(urn: str, steps: Sequence[Mapping[str, Any]], was_protected: bool) -> Change:
    operations = {str(step["op"]) for step in steps}
    telling = next((step for step in steps if step.get("detailedDiff") or step.get("keys")), steps[0])
    old, new = state_of(telling, "old"), state_of(telling, "new")
    operation = _operation(operations)
    shown = operation in ("update", "replace")
    return Change(
        urn=urn,
        type=str(telling["type"]),
        name=urn.rpartition("::")[2],
        operation=operation,
        protected=was_protected or bool(old.get("protect")) or (operation == "create" and bool(new.get("protect"))),
        properties=tuple(_properties(telling, old, new)) if shown else (),
    )


def _operation(operations: set[str]) -> Operation:
    if any("replace" in operation for operation in operations):
        return "replace"
    for operation in ("create", "update", "delete"):
        if operation in operations:
            return operation
    assert operations <= {*QUIET, "import"}, operations
    return "same"


def _properties(step: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[Property]:
    """The properties that differ; where the provider names none, those that the engine says force a replacement."""
    keys = {str(key) for key in step.get("keys") or ()}
    detailed: dict[str, dict[str, Any]] = step.get("detailedDiff") or {}
    forcing = {path for path, kind in detailed.items() if str(kind.get("diffKind", "")).endswith("-replace")}
    paths = set(detailed) or {str(path) for path in step.get("diffs") or ()}
    missing = {key for key in keys if not any(_top(path) == _top(key) for path in paths)}
    for path in sorted(paths | missing):
        before, after = _at(old.get("inputs"), path), _at(new.get("inputs"), path)
        replaces = path in forcing or path in keys or (not forcing and _top(path) in {_top(key) for key in keys})
        yield Property(path, shown(before), shown(after), replaces)


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _at(values: Any, path: str) -> Any:
    """The value at a property path such as `tags.a`, `rules[0].port` or `tags["a.b"]`; None where there is none."""
    for quoted, index, name in re.findall(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.\[\]]+)', path):
        if index:
            values = _item(values, int(index))
        else:
            values = cast("dict[str, Any]", values).get(quoted or name) if isinstance(values, dict) else None
    return values


def _item(values: Any, index: int) -> Any:
    if not isinstance(values, list):
        return None
    items = cast("list[Any]", values)
    return items[index] if index < len(items) else None


def shown(value: Any) -> str:
    """A value as short text; nothing for one that isn't there or has parts."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
