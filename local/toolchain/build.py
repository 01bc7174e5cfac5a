"""Builds Go programs at their pinned versions into the cache: once per machine, whole or not at all."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.console import console
from local.errors import LocalError
from local.paths import CACHE
from local.toolchain.tools import EXECUTOR, EXECUTOR_MODULE, EXECUTOR_PATH, MODULES, TOOLS, Module

PROGRAMS = CACHE / "tools"
GO_VERSION = (1, 26)
LINKER = "-s -w"
TAGS = "no_btrfs no_devmapper no_zfs"
"""containerd's snapshotters that want C libraries. One set of flags for all: what they share is compiled once."""


def key(module: Module) -> str:
    """Names a build by all that goes into it: the module's files and the flags."""
    digest = hashlib.sha256(f"{LINKER} {module.flags} {TAGS} {module.programs} {module.embedded}".encode())
    for path in sorted(module.folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def folder(module: Module) -> Path:
    """Where a module's programs are, built or not."""
    return PROGRAMS / f"{module.name}-{key(module)}"


def build_all(modules: Sequence[Module]) -> None:
    """Builds what isn't built yet, with one line of progress for each.

    Raises LocalError where Go is missing or too old, the disk is too full, or a build fails.
    """
    missing = [module for module in modules if not folder(module).is_dir()]
    if not missing:
        return
    _check_go()
    _check_disk(missing)
    done = expected = 0.0
    for position, module in enumerate(missing, 1):
        pace = done / expected if expected else 1.0
        left = pace * sum(other.seconds for other in missing[position - 1 :])
        label = f"[{position}/{len(missing)}] {module.name}"
        console.print(
            f"building {label}: about {pace * module.seconds:.0f} s, {left / 60:.0f} min for all that is left"
        )
        begun = time.monotonic()
        with console.status(f"building {label}"):
            _build(module)
        done += time.monotonic() - begun
        expected += module.seconds
        console.print(f"[green]✓[/green] built {module.name} [dim]{time.monotonic() - begun:.0f} s[/dim]")


@contextmanager
def locked(name: str) -> Generator[None]:
    """Holds a lock of the machine's cache: a second process that wants the same thing waits, and then finds it."""
    path = CACHE / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(module: Module) -> None:
    with locked(module.name):
        target = folder(module)
        if target.is_dir():
            return
        PROGRAMS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PROGRAMS, prefix=f".{module.name}-") as scratch:
            source = Path(scratch) / "source"
            shutil.copytree(module.folder, source)
            for path in module.embedded:
                carried = _module_folder(source, _first_requirement(source)) / path
                (source / carried.name).write_bytes(carried.read_bytes())
            output = Path(scratch) / "programs"
            output.mkdir()
            for name, package in module.programs.items():
                _compile(module, source, output / name, package)
            output.rename(target)


def _compile(module: Module, source: Path, output: Path, package: str) -> None:
    flags = [f"-ldflags={LINKER} {module.flags}".rstrip(), "-trimpath", "-tags", TAGS, "-o", str(output), package]
    command = ["go", "build", "-mod=readonly", "-buildvcs=false", *flags]
    done = subprocess.run(command, cwd=source, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise explanation(module.name, done.stderr)


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}


def explanation(name: str, words: str) -> LocalError:
    """What a failed build means for the user."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = next(
        (line for line in lines if re.search(r"no space left|Forbidden|refused|dial tcp|: 4\d\d ", line)), ""
    )
    if "no space left" in words:
        return LocalError(f"the disk filled up while {name} was built", f"free some below {CACHE} and run it again")
    if telling:
        return LocalError(f"a Go module that {name} needs can't be had: {telling}", "check GOPROXY and the network")
    return LocalError(f"{name} didn't build: {' '.join(lines[-3:])}", "run it again; what is built already is kept")


def _check_go() -> None:
    try:
        words = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        remedy = f"install Go {GO_VERSION[0]}.{GO_VERSION[1]} or newer and put it on PATH"
        raise LocalError("Go isn't installed, and the local environment builds its programs with it", remedy) from None
    found = tuple(int(number) for number in re.findall(r"\d+", words)[:2])
    if found < GO_VERSION:
        raise LocalError(f"Go is {words.removeprefix('go')}", f"install Go {GO_VERSION[0]}.{GO_VERSION[1]} or newer")


def _check_disk(missing: Sequence[Module]) -> None:
    needed = sum(module.disk_gb for module in missing)
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free / 1e9
    if free < needed:
        raise LocalError(f"building needs about {needed:.1f} GB, and {CACHE} has {free:.1f} GB free", "free some disk")


def _first_requirement(source: Path) -> str:
    edited = subprocess.run(
        ["go", "mod", "edit", "-json"], cwd=source, env=_environment(), capture_output=True, text=True, check=True
    )
    return json.loads(edited.stdout)["Require"][0]["Path"]


def _module_folder(source: Path, path: str) -> Path:
    """Where Go keeps a module that another one requires. Raises LocalError where it can't be downloaded."""
    command = ["go", "mod", "download", "-json", path]
    done = subprocess.run(command, cwd=source, env=_environment(), capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if "Dir" not in answer:
        raise explanation(path, answer.get("Error") or done.stderr)
    return Path(answer["Dir"])


def ensure_executor() -> Path:
    """Pulumi's program that runs a Python program, copied from the SDK's module. Raises LocalError as a build does."""
    pulumi = next(module for module in TOOLS if module.name == "pulumi")
    target = PROGRAMS / f"{EXECUTOR}-{key(pulumi)}"
    if not target.exists():
        _check_go()
        with locked(EXECUTOR), tempfile.TemporaryDirectory() as scratch:
            shutil.copytree(MODULES / pulumi.name, scratch, dirs_exist_ok=True)
            content = (_module_folder(Path(scratch), EXECUTOR_MODULE) / EXECUTOR_PATH).read_bytes()
            PROGRAMS.mkdir(parents=True, exist_ok=True)
            draft = target.with_suffix(".tmp")
            draft.write_bytes(content)
            draft.chmod(0o755)
            draft.replace(target)
    return target
