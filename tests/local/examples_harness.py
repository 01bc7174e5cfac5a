"""The examples as another team would run them: each in a copy of its folder, beside the components."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from local.paths import ROOT
from tests.program_harness import ProgramStack

EXAMPLES = ROOT / "examples"


def checkout(folder: Path) -> Path:
    """Makes a folder in which examples find what they find in a checkout, and returns it.

    The CLI writes a stack's configuration into the program's folder; the checkout's own stays as it is.
    """
    for name in ("components", "uv.lock", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(EXAMPLES, folder / "examples")
    return folder


def example(checkout: Path, name: str, environment: Mapping[str, str], config: Mapping[str, Any]) -> ProgramStack:
    """Makes a stack of an example, with this configuration."""
    stack = ProgramStack(checkout / "examples" / name, environment)
    stack.run("stack", "init", "test")
    for key, value in config.items():
        for path, each in _settings(key, value):
            kind = type(value).__name__ if isinstance(value, int) else "string"  # `bool` is an `int`, too
            stack.run("config", "set", "--path", path, "--type", kind, "--", each)
    return stack


def _settings(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """A setting as `pulumi config set` takes it: a list one element at a time."""
    if isinstance(value, list):
        for number, element in enumerate(cast("list[str]", value)):
            yield f"{key}[{number}]", element
    else:
        yield key, str(value).lower() if isinstance(value, bool) else str(value)
