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
from dataclasses import dataclass, field
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
"""containerd's snapshotters that want C libraries.

One set for all, as far as it goes: what they share is compiled once.
"""


def key(module: Module) -> str:
    """Names a build by all that goes into it: the module's files and the flags."""
    digest = hashlib.sha256(f"{LINKER} {module.flags} {_tags(module)} {module.programs} {module.embedded}".encode())
    for path in sorted(path for path in module.folder.iterdir() if path.suffix in {".mod", ".sum", ".go"}):
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
        after = pace * sum(other.seconds for other in missing[position:])
        progress = Progress(f"[{position}/{len(missing)}] {module.name}", pace * module.seconds, after)
        if not console.is_terminal:
            console.print(progress.__rich__())
        with console.status(progress):
            _build(module)
        done += progress.elapsed
        expected += module.seconds
        console.print(f"[green]✓[/green] built {module.name} [dim]{progress.elapsed:.0f} s[/dim]")


@dataclass(frozen=True)
class Progress:
    """What a person reads while a module is built; on a terminal it is drawn anew as the time left shrinks."""

    label: str
    seconds: float
    """What the module is expected to take."""
    after: float
    """What the modules after it are expected to take, in seconds."""
    begun: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    def __rich__(self) -> str:
        left = max(self.seconds - self.elapsed, 0)
        total = (left + self.after) / 60
        return f"building {self.label}: about {left:.0f} s, {total:.0f} min for all that is left"


@contextmanager
def locked(name: str) -> Generator[None]:
    """Holds a lock of the machine's cache: a second process that wants the same thing waits, and then finds it."""
    path = CACHE / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"waiting for another run that gets {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(module: Module) -> None:
    with locked(module.name):
        target = folder(module)
        if target.is_dir():
            return
        PROGRAMS.mkdir(parents=True, exist_ok=True)
        for abandoned in PROGRAMS.glob(f".{module.name}.*"):
            shutil.rmtree(abandoned, ignore_errors=True)  # by a run that was killed: the lock is ours, so it is dead
        with tempfile.TemporaryDirectory(dir=PROGRAMS, prefix=f".{module.name}.") as scratch:
            source = Path(scratch) / "source"
            shutil.copytree(module.folder, source)
            for path in module.embedded:
                carried = _module_folder(module.name, source, _first_requirement(source)) / path
                (source / carried.name).write_bytes(carried.read_bytes())
            output = Path(scratch) / "programs"
            output.mkdir()
            _compile(module, source, output, Path(scratch))
            output.rename(target)


def _compile(module: Module, source: Path, output: Path, temporary: Path) -> None:
    """One call for all of a module's programs, so that what they share is compiled and linked side by side.

    Go names several programs by their packages, and a single one as it is told.
    """
    target = output / next(iter(module.programs)) if len(module.programs) == 1 else output
    flags = [f"-ldflags={LINKER} {module.flags}".rstrip(), "-trimpath", "-tags", _tags(module), "-o", str(target)]
    command = [*_tied(), "go", "build", *flags, *module.programs.values()]
    environment = {**_environment(), "GOTMPDIR": str(temporary)}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise explanation(module.name, done.stderr)
    for name, package in module.programs.items() if target == output else ():
        (output / package.rpartition("/")[2]).rename(output / name)


def _tags(module: Module) -> str:
    return f"{TAGS} {module.tags}".rstrip()


def _tied() -> list[str]:
    """Makes a command end when this process is killed: nothing that a killed run started goes on building."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


_UNAVAILABLE = re.compile(
    r"Forbidden|refused|dial tcp|i/o timeout|: [45]\d\d |checksum mismatch|requires go >=|toolchain not available"
)
"""What Go writes where a module, or the Go version that it asks for, can't be had."""


def explanation(name: str, words: str) -> LocalError:
    """What a failed build means for the user."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = next((line for line in lines if _UNAVAILABLE.search(line)), "")
    if "no space left" in words:
        remedy = f"free some space on the disks of {CACHE} and of Go's cache, and run it again"
        return LocalError(f"the disk filled up while {name} was built", remedy)
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
    """Go's own cache takes nearly all of the space."""
    asked = subprocess.run(["go", "env", "GOCACHE"], env=_environment(), capture_output=True, text=True, check=True)
    cache = Path(asked.stdout.strip())
    cache.mkdir(parents=True, exist_ok=True)
    needed = sum(module.disk_gb for module in missing)
    free = shutil.disk_usage(cache).free / 1e9
    if free < needed:
        raise LocalError(f"building needs about {needed:.1f} GB, and {cache} has {free:.1f} GB free", "free some disk")


def _first_requirement(source: Path) -> str:
    edited = subprocess.run(
        ["go", "mod", "edit", "-json"], cwd=source, env=_environment(), capture_output=True, text=True, check=True
    )
    return json.loads(edited.stdout)["Require"][0]["Path"]


def _module_folder(name: str, source: Path, path: str) -> Path:
    """Where Go keeps a module that `name` requires. Raises LocalError where it can't be downloaded."""
    command = ["go", "mod", "download", "-json", path]
    done = subprocess.run(command, cwd=source, env=_environment(), capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if "Dir" not in answer:
        raise explanation(name, answer.get("Error") or done.stderr)
    return Path(answer["Dir"])


def ensure_executor() -> Path:
    """Pulumi's program that runs a Python program, copied from the SDK's module. Raises LocalError as a build does."""
    pulumi = next(module for module in TOOLS if module.name == "pulumi")
    target = PROGRAMS / f"{EXECUTOR}-{key(pulumi)}"
    if not target.exists():
        _check_go()
        with locked(EXECUTOR), tempfile.TemporaryDirectory() as scratch:
            shutil.copytree(MODULES / pulumi.name, scratch, dirs_exist_ok=True)
            content = (_module_folder(EXECUTOR, Path(scratch), EXECUTOR_MODULE) / EXECUTOR_PATH).read_bytes()
            PROGRAMS.mkdir(parents=True, exist_ok=True)
            draft = target.with_suffix(".tmp")
            draft.write_bytes(content)
            draft.chmod(0o755)
            draft.replace(target)
    return target
