"""Where things are in the model bucket, and what they may be called."""

import re

from llm_serving.registry.errors import RegistryError

MANIFEST = "manifest.json"
ALIASES = "aliases"
"""Folder beside a model's revisions."""
ALIAS_NAMES = ("stable", "canary")
"""What an alias may be called."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The same as in stack files."""


def model_prefix(model: str) -> str:
    """The folder of a model, without a slash at the end. Raises RegistryError for a name that can't be one."""
    return f"models/{_checked('model', model)}"


def revision_prefix(model: str, revision: str) -> str:
    """The folder of a revision, without a slash at the end. Raises RegistryError for a name that can't be one."""
    if revision in (ALIASES, *ALIAS_NAMES):
        raise RegistryError(f"revision: {revision!r} is kept for aliases; take another name, as in a09a354")
    return f"{model_prefix(model)}/{_checked('revision', revision)}"


def alias_key(model: str, alias: str) -> str:
    """The object that holds an alias. Raises RegistryError for a name that can't be one."""
    if alias not in ALIAS_NAMES:
        raise RegistryError(f"alias: {alias!r} is not one of {', '.join(ALIAS_NAMES)}")
    return f"{model_prefix(model)}/{ALIASES}/{alias}.json"


def is_name(value: str) -> bool:
    """Whether a model or a revision may be called that."""
    return _NAME.fullmatch(value) is not None


def _checked(field: str, value: str) -> str:
    if is_name(value):
        return value
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", value).lstrip("._-")[:64] or "a09a354"
    raise RegistryError(
        f"{field}: {value!r} must be one part of a key: up to 64 letters, digits, dots, dashes and underscores, the"
        f" first a letter or digit; nearest valid value: {near}"
    )
