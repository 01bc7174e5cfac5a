"""Writes docs/stack.schema.json: what a stack file may hold, for editors, from the same models that read it.

python -m infra.schema
"""

import json
from pathlib import Path
from typing import Any

from infra.settings import NAMESPACE, Settings
from llm_serving._checks import LOG_RETENTION_DAYS

FILE = Path(__file__).resolve().parent.parent / "docs" / "stack.schema.json"
COMMENT = "# yaml-language-server: $schema=../docs/stack.schema.json"
"""The first line of every stack file: it tells an editor where the schema is."""

_ENGINE = {
    "encryptionsalt": "What the engine derives the key of `secure:` values from, with the passphrase.",
    "encryptedkey": "The key of `secure:` values, encrypted by the secrets provider.",
    "secretsprovider": "What encrypts `secure:` values, as in awskms://alias/pulumi.",
}
"""Keys of the file that the Pulumi CLI writes."""


def schema() -> dict[str, Any]:
    """The whole schema: JSON Schema draft 7, the newest that YAML editors know all of."""
    settings = Settings.model_json_schema(by_alias=True)
    sections: dict[str, dict[str, Any]] = settings["properties"]
    sections["logRetentionDays"]["enum"] = list(LOG_RETENTION_DAYS)
    config = {
        "type": "object",
        "description": settings["description"],
        "properties": {f"{NAMESPACE}:{name}": section for name, section in sections.items()},
        "patternProperties": {f"^(?!{NAMESPACE}:)[a-z][a-z0-9-]*:.+$": {"description": "A setting of Pulumi's own."}},
        "required": [f"{NAMESPACE}:{name}" for name in settings["required"]],
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A stack file of the LLM-serving environment",
        "description": "Written by `make schema` from infra/settings; docs/configuration.md says the same in words.",
        "type": "object",
        "properties": {
            "config": config,
            **{key: {"type": "string", "description": meaning} for key, meaning in _ENGINE.items()},
        },
        "required": ["config"],
        "additionalProperties": False,
        "$defs": settings["$defs"],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
