"""Finds credentials in a stack file: they belong into Secrets Manager, never into a file that is committed."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

FORMS = (
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "an AWS access key"),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}"), "a GitHub token"),
    (re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"), "a GitLab token"),
    (re.compile(r"\bhf_[A-Za-z0-9]{30,}"), "a Hugging Face token"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"), "an API key"),
    (re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}"), "a Slack token"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"), "a private key"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."), "a JSON web token"),
    (re.compile(r"^[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@"), "an address with a password"),
)
"""How credentials look, by what issues them: the prefixes that their issuers publish so that scanners find them."""

ENCRYPTED = "secure"
"""The key under which Pulumi keeps an encrypted value."""


def problems(values: Mapping[str, Any]) -> Iterator[str]:
    """One line for each credential in the settings, which it never repeats."""
    for path, found in _found(values, ""):
        yield f"{path}: {found}; no setting takes a secret; nearest valid value: the name of a Secrets Manager secret"


def _found(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        what = next((name for form, name in FORMS if form.search(value)), None)
        if what:
            yield path, f"holds what looks like {what}"
    elif isinstance(value, Mapping):
        group = cast("Mapping[str, Any]", value)
        if set(group) == {ENCRYPTED}:
            yield path, "is encrypted"
            return
        for key, inner in group.items():
            yield from _found(inner, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[Any]", value)):
            yield from _found(inner, f"{path}.{index}")
