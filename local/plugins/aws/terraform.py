"""What the bridge knows of the Terraform provider: its resources and data sources, and how it names their parts.

The bridge's answer (`GetMapping`) is 10 MB of JSON, so it is kept in a small database and read type by type.
"""

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from local.plugins.aws.naming import camel, plural
from local.plugins.aws.shapes import ANY, BOOLEAN, NUMBER, STRING, ListOf, MapOf, ObjectShape, Property, Shape

RESOURCES = "resources"
FUNCTIONS = "dataSources"

_LIST, _MAP, _SET = 5, 6, 7
_SCALARS = {1: BOOLEAN, 2: NUMBER, 3: NUMBER, 4: STRING}
"""The numbers of Terraform's value types in the bridge's answer (`pkg/tfshim/shim.go`)."""


def write_database(path: Path, mapping: bytes) -> None:
    """Keeps the bridge's answer at `path`, whole or not at all."""
    content: dict[str, Any] = json.loads(mapping)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(draft)) as database, database:
        database.execute("CREATE TABLE types (kind TEXT, name TEXT, value TEXT, PRIMARY KEY (kind, name))")
        database.executemany("INSERT INTO types VALUES (?, ?, ?)", _rows(content))
    draft.replace(path)


def _rows(content: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    yield "provider", "aws", json.dumps({"schema": content["provider"]["schema"]})
    for kind in (RESOURCES, FUNCTIONS):
        for name, schema in content["provider"][kind].items():
            known = content[kind].get(name)
            if known:
                value: dict[str, Any] = {"schema": schema, "token": known["tok"], "fields": known.get("fields") or {}}
                yield kind, name, json.dumps(value)


class Terraform:
    """The provider's types, by their Terraform name (`aws_eks_cluster`)."""

    def __init__(self, database: Path) -> None:
        self._database = sqlite3.connect(database, check_same_thread=False)
        self._lock = threading.RLock()
        self._types: dict[tuple[str, str], TerraformType] = {}

    def names(self, kind: str) -> list[str]:
        """Every resource (RESOURCES) or data source (FUNCTIONS)."""
        with self._lock:
            rows = self._database.execute("SELECT name FROM types WHERE kind = ? ORDER BY name", (kind,))
            return [name for (name,) in rows]

    def read(self, kind: str, name: str) -> "TerraformType":
        """One type. Raises KeyError where there is none of that name."""
        with self._lock:
            found = self._types.get((kind, name))
            if found is None:
                row = self._database.execute(
                    "SELECT value FROM types WHERE kind = ? AND name = ?", (kind, name)
                ).fetchone()
                if row is None:
                    raise KeyError(name)
                found = self._types[kind, name] = TerraformType(name, json.loads(row[0]))
            return found

    @cached_property
    def configuration(self) -> ObjectShape:
        """What the provider is configured with."""
        return self.read("provider", "aws").shape


class TerraformType:
    """One resource or data source."""

    def __init__(self, name: str, value: dict[str, Any]) -> None:
        self.name = name
        self.token: str = value.get("token", "")
        """The bridge's own token."""
        fields: dict[str, dict[str, Any]] = value.get("fields") or {}
        self.autonamed = {key for key, field in fields.items() if "autonamed" in (field.get("default") or ())}
        """The attributes that the bridge fills in from the resource's name."""
        names = {key: field["name"] for key, field in fields.items() if field.get("name")}
        self.shape = object_shape(name, value["schema"], names)
        self.attributes = frozenset(value["schema"])
        """The names of its top-level attributes, Terraform's."""


def object_shape(name: str, attributes: Mapping[str, Any], names: Mapping[str, str] | None = None) -> ObjectShape:
    """The bridge's shape of an object with these Terraform attributes; `names` are names that no rule gives."""

    def read() -> dict[str, Property]:
        return {
            (names or {}).get(key) or bridge_name(key, schema, attributes): Property(
                _shape(f"{name}.{key}", schema),
                attribute=key,
                is_input=bool(schema.get("optional") or schema.get("required")),
                is_required=bool(schema.get("required")),
                is_single=schema["type"] in (_LIST, _SET) and schema.get("maxItems") == 1,
            )
            for key, schema in attributes.items()
        }

    return ObjectShape(name, read)


def bridge_name(key: str, schema: Mapping[str, Any], siblings: Mapping[str, Any]) -> str:
    """The bridge's name of an attribute: a plural for a list of any length, unless a sibling has that name."""
    if schema["type"] in (_LIST, _SET) and schema.get("maxItems") != 1 and plural(key) not in siblings:
        key = plural(key)
    return camel(key)


def _shape(name: str, schema: Mapping[str, Any]) -> Shape:
    element: Mapping[str, Any] = schema.get("element") or {}
    if "schema" in element:
        inner = _shape(name, element["schema"])
    else:  # an object without attributes is written as no element at all
        inner = object_shape(name, element.get("resource") or {})
    if schema["type"] in (_LIST, _SET):
        return inner if schema.get("maxItems") == 1 else ListOf(inner)
    if schema["type"] == _MAP:
        return MapOf(inner) if "schema" in element else inner
    return _SCALARS.get(schema["type"], ANY)
