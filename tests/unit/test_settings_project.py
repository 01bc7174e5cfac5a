"""Pulumi.yaml declares every key of the settings, with the type that the settings have."""

from pathlib import Path
from typing import Any, cast

import yaml

from infra.section import Section
from infra.settings import Settings

PROJECT = Path(__file__).parents[2] / "Pulumi.yaml"


def declared() -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load(PROJECT.read_text())["config"])


def test_every_key_is_declared() -> None:
    assert sorted(declared()) == sorted(str(field.alias) for field in Settings.model_fields.values())


def test_types_and_defaults() -> None:
    for name, field in Settings.model_fields.items():
        entry = declared()[str(field.alias)]
        kind = {bool: "boolean", int: "integer"}.get(cast(type, field.annotation), "object")
        assert entry["type"] == kind, name
        assert ("default" in entry) is not field.is_required(), name
        if kind != "object":
            assert entry["default"] == field.default, name


def test_every_setting_is_described() -> None:
    pending: list[type[Section]] = [Section]
    while pending:
        for section in pending.pop().__subclasses__():
            pending.append(section)
            for name, field in section.model_fields.items():
                assert field.description, f"{section.__name__}.{name}"
