"""Gets every program that the local environment runs: found on PATH at a fitting version, or built from Go modules."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from local.errors import LocalError
from local.toolchain import build
from local.toolchain.custom_resources import crds
from local.toolchain.packages import ensure_packages
from local.toolchain.terraform import aws_provider_binary
from local.toolchain.tools import EXECUTOR, TOOLS, Module, module_of

__all__ = ["aws_provider_binary", "crds", "ensure", "ensure_packages", "program"]


def ensure(*names: str) -> None:
    """Makes programs ready, building those that neither PATH nor the cache has. Raises LocalError where it can't."""
    if EXECUTOR in names:
        build.ensure_executor()
    wanted = {module_of(name).name for name in names if name != EXECUTOR and on_path(name) is None}
    build.build_all([module for module in TOOLS if module.name in wanted])


def program(name: str) -> Path:
    """The path of a program that is ready. Raises LocalError for one that isn't."""
    if name == EXECUTOR:
        return build.ensure_executor()
    found = on_path(name) or build.folder(module_of(name)) / name
    if not found.is_file():
        raise LocalError(f"the program {name} isn't built", "make tools")
    return found


@cache
def on_path(name: str) -> Path | None:
    """A program on PATH that is good enough."""
    module: Module = module_of(name)
    found = shutil.which(name)
    if module.fitting is None or found is None:
        return None
    try:
        asked = subprocess.run(
            [found, *module.fitting.arguments],
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if not module.fitting.version.search(asked.stdout + asked.stderr):
        return None

    return Path(found)
