"""Which Python runs a Pulumi program, and which packages that Python has.

The rules are those of Pulumi's own host: `runtime.options.virtualenv` and `runtime.options.toolchain` of
Pulumi.yaml, PulumiPlugin.yaml or PulumiPolicy.yaml decide.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions, version
from pathlib import Path
from typing import Any

TOOLCHAINS = ("auto", "pip", "uv")


class InterpreterError(Exception):
    """The options name a Python that can't be used. The message says what to do."""


@dataclass(frozen=True)
class Interpreter:
    """A Python, and the folder of its virtual environment where it has one."""

    python: Path
    virtualenv: Path | None
    managed_by_uv: bool = False

    @property
    def site_packages(self) -> list[Path]:
        """The folders with this Python's installed packages."""
        if self.virtualenv is None:
            return [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
        return sorted(self.virtualenv.glob("lib/python3*/site-packages"))

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with this virtual environment activated, as its `activate` script does."""
        environment = {name: value for name, value in base.items() if name != "PYTHONHOME"}
        if self.virtualenv is not None:
            environment["VIRTUAL_ENV"] = str(self.virtualenv)
            environment["PATH"] = f"{self.virtualenv / 'bin'}{os.pathsep}{base.get('PATH', os.defpath)}"
        return environment


@dataclass(frozen=True)
class Plugin:
    """A Pulumi plugin that an installed SDK asks for."""

    name: str
    version: str
    server: str = ""


def choose(options: Mapping[str, Any], root: Path, environment: Mapping[str, str]) -> Interpreter:
    """The Python for a program below `root` with these `runtime.options`, whether or not it exists yet.

    Without any option it is the one named by PULUMI_PYTHON_CMD, else the one that this host runs on.
    Raises InterpreterError for a toolchain that this host doesn't know.
    """
    toolchain = str(options.get("toolchain") or "auto").lower()
    if toolchain not in TOOLCHAINS:
        raise InterpreterError(
            f"runtime.options.toolchain is {toolchain!r}: this language host knows {', '.join(TOOLCHAINS)}"
        )
    virtualenv = str(options.get("virtualenv") or "")
    project = _uv_project(root) if toolchain in ("uv", "auto") else None
    if virtualenv:
        folder = root / virtualenv
    elif project is not None:
        folder = project / (environment.get("UV_PROJECT_ENVIRONMENT") or ".venv")
    elif toolchain == "uv":
        folder = root / ".venv"
    else:
        return _ambient(environment)
    return Interpreter(folder / "bin" / "python", folder, managed_by_uv=toolchain == "uv" or not virtualenv)


def require(interpreter: Interpreter) -> Interpreter:
    """The interpreter itself; raises InterpreterError where there is no such Python."""
    if interpreter.python.exists():
        return interpreter
    remedy = "run `uv sync`" if interpreter.managed_by_uv else "run `pulumi install` in the folder that names it"
    raise InterpreterError(f"the virtual environment {interpreter.virtualenv} does not exist: {remedy}")


def required_plugins(site_packages: list[Path]) -> list[Plugin]:
    """The plugins of every Pulumi SDK installed there, at the version that the SDK was made for, by name."""
    found: dict[str, Plugin] = {}
    for description in (path for folder in site_packages for path in sorted(folder.glob("*/pulumi-plugin.json"))):
        try:
            content: dict[str, Any] = json.loads(description.read_text())
        except (OSError, ValueError):
            continue
        if not content.get("resource"):
            continue
        name = content.get("name") or description.parent.name.removeprefix("pulumi_").replace("_", "-")
        version = str(content.get("version") or "").removeprefix("v")
        if version:
            found.setdefault(name, Plugin(name, version, str(content.get("server") or "")))
    return [found[name] for name in sorted(found)]


def dependencies(site_packages: list[Path], *, transitive: bool) -> list[tuple[str, str]]:
    """Installed distributions with their versions, by name.

    Without `transitive`, those that another one requires are left out.
    """
    installed = list(distributions(path=[str(folder) for folder in site_packages]))
    serving: set[str] = set()
    if not transitive:
        serving.update(name for found in installed for name in _requirements(found))
    named = {_normal(found.name): found.version for found in installed}
    return sorted((name, version) for name, version in named.items() if name not in serving)


def version_of(package: str) -> str:
    """The version of a package that this host itself runs on."""
    return version(package)


def _ambient(environment: Mapping[str, str]) -> Interpreter:
    command = environment.get("PULUMI_PYTHON_CMD")
    if command:
        return Interpreter(Path(command), None)
    folder = Path(sys.prefix) if sys.prefix != sys.base_prefix else None
    return Interpreter(Path(sys.executable), folder)


def _uv_project(root: Path) -> Path | None:
    for folder in (root, *root.parents):
        if (folder / "uv.lock").is_file():
            return folder
    return None


def _requirements(distribution: Distribution) -> Iterator[str]:
    for requirement in distribution.requires or []:
        specification, _, marker = requirement.partition(";")
        if "extra ==" not in marker and (name := re.match(r"[\w.-]+", specification.strip())):
            yield _normal(name.group())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
