"""The examples as another team would run them: each in a copy of its folder, beside the components."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.paths import ROOT
from tests.program_harness import ProgramStack

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(path.parent.name for path in EXAMPLES.glob("*/Pulumi.yaml"))


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
        if isinstance(value, list):
            stack.run("config", "set", key, "--type", "json", "--", json.dumps(value))
        else:
            stack.run("config", "set", key, "--", str(value).lower() if isinstance(value, bool) else str(value))
    return stack
