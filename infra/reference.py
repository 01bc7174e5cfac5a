"""Writes docs/configuration.md: every key of a stack file, from the same models that read it.

python -m infra.reference
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.settings import NAMESPACE, Settings
from infra.settings.models import VersionSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
HEAD = f"""# Configuration

Every key of a stack file, `stacks/Pulumi.NAME.yaml`. Each section below is a value under `config:`, named
`{NAMESPACE}:SECTION`. An unknown key, a wrong type or a value out of range is refused by `pulumi preview`, all at once,
with the nearest value that would have been right.

Written by `python -m infra.reference` from `infra/settings`; a test keeps it current.
"""


def page() -> str:
    """The whole page."""
    schema = Settings.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    parts = [HEAD]
    for name, section in schema["properties"].items():
        meaning = section.get("description") or _resolved(section, definitions)["description"]
        rows = list(_rows("", _resolved(section, definitions), definitions))
        if not rows:
            rows = [_row(name, section, required=name in schema["required"])]
        parts.append(f"## {name}\n\n{meaning}\n\n| key | type | default | |\n|---|---|---|---|")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _rows(
    prefix: str, schema: dict[str, Any], definitions: dict[str, Any], around: frozenset[str] = frozenset()
) -> Iterator[str]:
    """A row for each key of a section and of the sections in it; of a version, only for those that its model lacks."""
    values: dict[str, Any] | bool = schema.get("additionalProperties", False)
    if not isinstance(values, bool):
        named = _resolved(values, definitions)
        if "properties" in named:
            yield from _rows(f"{prefix}NAME.", named, definitions, around)
        return
    fields: dict[str, Any] = schema.get("properties", {})
    repeated = around & fields.keys() if schema.get("title") == VersionSettings.__name__ else frozenset[str]()
    for name, field in fields.items():
        if name in repeated:
            continue
        inside = _resolved(field, definitions)
        inner = list(_rows(f"{prefix}{name}.", inside, definitions, frozenset(fields)))
        if not inner:
            yield _row(f"{prefix}{name}", field, required=name in schema.get("required", []))
        yield from inner
    if repeated:
        yield f"| `{prefix}KEY` | | the model's | Any other key of the model but `timeoutSeconds` and `versions`. |"


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """What a field refers to; an optional section is that section."""
    for option in (field, *field.get("anyOf", []), *field.get("allOf", [])):
        if "$ref" in option:
            return definitions[option["$ref"].rpartition("/")[2]]
    return field


def _row(key: str, field: dict[str, Any], *, required: bool) -> str:
    default = "required" if required else _shown(field.get("default"))
    return f"| `{key}` | {_type(field)} | {default} | {field.get('description', '')} |"


def _shown(default: Any) -> str:
    if default is None or default in ({}, []):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _type(field: dict[str, Any]) -> str:
    if options := [option for option in field.get("anyOf", []) if option.get("type") != "null"]:
        return " or ".join(_type(option) for option in options)
    if choices := field.get("enum"):
        return ", ".join(f"`{choice}`" for choice in choices)
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if field.get("type") == "object":
        return "keys and values"
    return str(field.get("type", "")) + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    if low is None and high is None:
        return ""
    return f", {low} to {high}" if high is not None else f", from {low}"


if __name__ == "__main__":
    PAGE.write_text(page())
