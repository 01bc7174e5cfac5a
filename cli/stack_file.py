"""Reads a stack file as the program would be given it, without the engine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cli.inputs import STACK, InputError, Problems, refuse

if TYPE_CHECKING:
    from infra.settings import Settings

MOST_BYTES = 1 << 20
"""Largest stack file that is read; real ones have some thousand bytes."""
PREFIX = "Pulumi."
"""What the name of a stack file begins with."""


def stack_name(path: Path) -> str:
    """The stack that a file is of."""
    return path.stem.removeprefix(PREFIX)


def project(path: Path) -> Path:
    """The folder that paths in a stack file are relative to: that of the project's Pulumi.yaml."""
    folder = path.resolve().parent
    return next((each for each in (folder, *folder.parents) if (each / "Pulumi.yaml").is_file()), folder)


def settings(path: Path) -> "Settings":
    """The settings in a stack file; raises InputError with every mistake in it."""
    return settings_in(path, document(path, text(path)))


def settings_in(path: Path, read: Mapping[str, Any]) -> "Settings":
    """The settings in what was read of a stack file; raises InputError with every mistake in it."""
    from infra.problems import SettingsError  # noqa: PLC0415  pydantic is only needed here
    from infra.settings import load  # noqa: PLC0415

    config = {str(key): value for key, value in read["config"].items()}
    problems = Problems()
    try:
        texts = {key: _text(value) for key, value in config.items()}
    except (RecursionError, ValueError):
        raise refuse(STACK, "--stack", f"{path} holds a value that is a part of itself") from None
    try:
        return load(texts)
    except SettingsError as error:
        for line in error.problems:
            setting, _, message = line.partition(": ")
            problems.add(STACK, setting, message)
        raise InputError(problems.findings) from None


def _text(value: Any) -> str:
    """A value as the engine hands it to a program: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def text(path: Path) -> str:
    """What is in a stack file; raises InputError where it cannot be read."""
    try:
        return _bytes(path).decode("utf-8")
    except FileNotFoundError:
        raise refuse(STACK, "--stack", f"{path} does not exist{_near(path)}") from None
    except OSError as error:
        raise refuse(STACK, "--stack", f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise refuse(STACK, "--stack", f"{path} is no text in UTF-8") from None


def document(path: Path, content: str) -> dict[str, Any]:
    """What a stack file's text says; raises InputError where it is none. It has a mapping under `config`."""
    import yaml  # noqa: PLC0415

    try:
        read: Any = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise refuse(STACK, "--stack", f"{path} is no YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise refuse(STACK, "--stack", f"{path} is nested too deeply for a stack file") from None
    if not isinstance(read, dict) or not isinstance(cast(dict[str, Any], read).get("config"), dict):
        raise refuse(STACK, "--stack", f"{path} has no `config:`, so it is no stack file")
    return cast(dict[str, Any], read)


def _bytes(path: Path) -> bytes:
    """What is in a file, which may be a pipe as well."""
    with path.open("rb") as file:
        read = file.read(MOST_BYTES + 1)
    if len(read) > MOST_BYTES:
        raise refuse(STACK, "--stack", f"{path} is larger than {MOST_BYTES >> 20} MiB, so no stack file")
    return read


def _near(path: Path) -> str:
    """The stack files that are there, for a name that is not."""
    files = sorted(str(file) for file in path.parent.glob(f"{PREFIX}*.yaml")) if path.parent.is_dir() else []
    return f"; there are {', '.join(files)}" if files else ""
