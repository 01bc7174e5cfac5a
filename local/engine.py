"""Runs the Pulumi CLI on a stack and shows its progress as one line, its problems as they are.

The stack file is copied before use: the CLI writes the passphrase's salt into it, and the committed file must
stay as it is. For the same reason a new stack is made from a folder that holds nothing but the project's name.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import yaml
from rich.status import Status

from local.console import console
from local.errors import LocalError
from local.paths import ROOT, STATE, state
from local.plugins.aws import warm

PATIENCE_S = 120
"""How long the operations under way may take to end: the emulated cloud is done with most in a second."""
_BACKEND = f"file://{STATE / 'pulumi-state'}"
QUIET = ("same", "read", "refresh")
"""Steps that change nothing."""


WORDS = {"same": "unchanged", "create": "created", "update": "updated", "delete": "deleted"}


@dataclass
class Outcome:
    """What an operation did: counts by step (`create`, `update`, `same`, ...) and what it had to say."""

    changes: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    """What the program has printed or logged for information."""
    steps: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Each step that the engine took or planned, as its event tells it: `op`, `urn`, `old`, `new`, `detailedDiff`."""

    @property
    def changed(self) -> int:
        """How many resources were created, changed, replaced or deleted."""
        return sum(count for step, count in self.changes.items() if step not in QUIET)

    def summary(self) -> str:
        """One line for a person, such as `112 created` or `112 unchanged`."""
        parts = [f"{count} {WORDS.get(step, step)}" for step, count in sorted(self.changes.items()) if count]
        return ", ".join(parts) or "nothing to do"


def read(path: Path) -> dict[str, Any]:
    """A YAML file's content. Raises LocalError where it isn't YAML, or no group of keys."""
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    try:
        content: Any = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise LocalError(f"{where} is not valid YAML", " ".join(str(error).split())) from None
    if content is not None and not isinstance(content, dict):
        raise LocalError(f"{where} holds no keys", "write it as Pulumi.local.yaml is: `config:` and keys below it")
    return cast("dict[str, Any]", content or {})


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`; what is a group of keys in both is merged likewise."""
    both = {key: merged(base[key], value) for key, value in over.items() if _is_group(base.get(key), value)}
    return {**base, **over, **both}


def without_nulls(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that are null.

    So an override takes a key away, as in RFC 7396, JSON Merge Patch: else a group of keys could only be added to.
    """
    return {
        key: without_nulls(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if value is not None
    }


def _is_group(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def known_stacks(root: Path = ROOT) -> list[str]:
    """The stacks that have a file in `stacks/` of a checkout."""
    files = (root / "stacks").glob("Pulumi.*.yaml")
    return sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in files)


def committed(stack: str, root: Path = ROOT) -> dict[str, Any]:
    """A stack file's content. Raises LocalError where there is no such stack, or its file isn't YAML."""
    if stack not in known_stacks(root):
        raise LocalError(f"there is no stack {stack!r}", f"stacks/ has {', '.join(known_stacks(root))}")
    return read(root / "stacks" / f"Pulumi.{stack}.yaml")


class Engine:
    """The Pulumi CLI, with its environment, for one stack."""

    def __init__(
        self,
        stack: str,
        program: Path,
        environment: Mapping[str, str],
        overrides: Mapping[str, Any] | None = None,
        root: Path = ROOT,
    ) -> None:
        """`overrides` is laid over the stack file's content; the committed file stays as it is.

        `root` is the checkout whose program runs.
        """
        self.stack = stack
        self.root = root
        self.program = program
        self.overrides = overrides or {}
        self.environment = {**os.environ, **environment, "PULUMI_DEBUG_COMMANDS": "true"}  # for --event-log

    def stack_file(self) -> dict[str, Any]:
        """The committed stack file's content, with the overrides."""
        return without_nulls(merged(committed(self.stack, self.root), self.overrides))

    def select(self) -> None:
        """Creates the stack where it doesn't exist yet, and brings its configuration up to date."""
        config = self.stack_file()
        known: list[dict[str, Any]] = json.loads(self._query("stack", "ls", "--json"))
        if self.stack not in (stack["name"] for stack in known):
            self._initialise()
        salt = read(self._salt_file).get("encryptionsalt") if self._salt_file.exists() else None
        temporary = self.config_file.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump({**config, "encryptionsalt": salt} if salt else config, sort_keys=False))
        temporary.replace(self.config_file)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets in plain."""
        return json.loads(self._query("stack", "output", "--json", "--show-secrets", "--stack", self.stack) or "{}")

    def up(self) -> Outcome:
        """Creates or updates every resource. Raises LocalError, in the engine's words, where one fails."""
        return self._operate("up", "--yes", "--skip-preview")

    def refresh(self) -> Outcome:
        """Reads every resource back into the state."""
        return self._operate("refresh", "--yes", "--skip-preview")

    def destroy(self) -> Outcome:
        """Deletes every resource."""
        return self._operate("destroy", "--yes", "--skip-preview")

    def preview(self) -> Outcome:
        """Computes what `up` would do."""
        return self._operate("preview")

    def unprotect(self) -> None:
        """Takes the protection off every resource in the state, so that a preview can go on where one is replaced."""
        self._query("state", "unprotect", "--all", "--yes", "--stack", self.stack)

    def export(self) -> dict[str, Any]:
        """The stack's state, secrets in plain."""
        return json.loads(self._query("stack", "export", "--show-secrets", "--stack", self.stack))

    def restore(self, resources: Sequence[Mapping[str, Any]]) -> None:
        """Puts an exported state's resources, secrets in plain, in place of the stack's own."""
        own = self.export()
        file = state("pulumi", "restored.json")
        file.write_text(json.dumps({**own, "deployment": {**own["deployment"], "resources": resources}}))
        self._query("stack", "import", "--file", str(file), "--stack", self.stack)
        file.unlink()

    @property
    def config_file(self) -> Path:
        """The copy of the stack file that the CLI reads, with the salt of this checkout's passphrase."""
        return state("pulumi", "config", f"Pulumi.{self.stack}.yaml")

    @property
    def _salt_file(self) -> Path:
        return state("pulumi", "new", f"Pulumi.{self.stack}.yaml")

    def _initialise(self) -> None:
        project = read(self.root / "Pulumi.yaml")
        self._salt_file.unlink(missing_ok=True)
        (self._salt_file.parent / "Pulumi.yaml").write_text(
            yaml.safe_dump({"name": project["name"], "runtime": project["runtime"]})
        )
        self._query("stack", "init", self.stack, folder=self._salt_file.parent)

    def _query(self, *arguments: str, folder: Path | None = None) -> str:
        where = str(folder or self.root)
        command = [str(self.program), *arguments, "--non-interactive", "--color", "never", "-C", where]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().removeprefix("error: ")
            raise LocalError(f"pulumi {arguments[0]} {arguments[1]} failed: {words}")
        return done.stdout

    def _warm_bridge(self, operation: str, log: IO[bytes]) -> AbstractContextManager[dict[str, str]]:
        """A bridge for an operation that changes nothing: it ends with this command, and an engine may go on without.

        One whose command is killed still ends what is under way, and what its provider makes then must be recorded.
        """
        return warm.started(self.environment, log) if operation == "preview" else contextlib.nullcontext({})

    def _operate(self, operation: str, *flags: str) -> Outcome:
        release_locks()
        events = state("pulumi", f"{operation}.events.jsonl")
        events.unlink(missing_ok=True)
        log = state("log", f"pulumi-{operation}.log")
        command = [
            *(str(self.program), operation, *flags),
            *("--stack", self.stack, "--config-file", str(self.config_file), "--event-log", str(events)),
            *("--suppress-outputs", "--non-interactive", "--color", "never", "-C", str(self.root)),
        ]
        with (
            log.open("wb") as output,
            self._warm_bridge(operation, output) as bridge,
            console.status(f"pulumi {operation}") as status,
        ):
            process = subprocess.Popen(
                command,
                env={**self.environment, **bridge},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            outcome = Outcome()
            done = threading.Event()
            watcher = threading.Thread(target=_watch, args=(events, outcome, status, operation, done), daemon=True)
            watcher.start()
            try:
                code = process.wait()
            except KeyboardInterrupt:
                _interrupt(process)
                raise
            finally:
                done.set()
                watcher.join()
        if code:
            last_words = log.read_text(errors="replace").strip().splitlines()[-12:]
            problems = outcome.problems or last_words
            # A preview's state folder, and the log in it, is gone when a person reads this.
            remedy = "" if operation == "preview" else f"all of it is in {log}"
            raise LocalError(f"pulumi {operation} failed:\n  " + "\n  ".join(problems), remedy)
        return outcome


def _interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Asks the engine to end after the operations under way, so that nothing created is forgotten."""
    console.print("[yellow]stopping after the operations under way; Ctrl-C again to stop at once[/yellow]")
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=PATIENCE_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def running() -> list[int]:
    """The processes of the Pulumi CLI that work on this checkout's state, whoever started them."""
    marker = f"PULUMI_BACKEND_URL={_BACKEND}\0".encode()
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text() == "pulumi\n" and marker in path.with_name("environ").read_bytes():
                found.append(int(path.parent.name))
    return found


def end_orphans() -> None:
    """Ends engines whose command was killed: after the operations under way, so that nothing made is forgotten."""
    for number in (signal.SIGINT, signal.SIGKILL):
        for pid in running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + PATIENCE_S
        while running() and time.monotonic() < deadline:
            time.sleep(0.1)
    release_locks()


def release_locks() -> None:
    """Frees the stacks that a killed engine has left locked."""
    if not running():
        for lock in (STATE / "pulumi-state" / ".pulumi" / "locks").rglob("*.json"):
            lock.unlink(missing_ok=True)


def _lines(path: Path, done: threading.Event) -> Iterator[str]:
    """A growing file's whole lines, until the writer is done and everything is read."""
    while not path.exists():
        if done.wait(0.1):
            return
    with path.open() as file:
        rest = ""
        while True:
            last = done.is_set()
            rest += file.read()
            *lines, rest = rest.split("\n")
            yield from lines
            if last:
                return
            time.sleep(0.1)


def _watch(events: Path, outcome: Outcome, status: Status, operation: str, done: threading.Event) -> None:
    active: dict[str, None] = {}
    finished = 0
    for line in _lines(events, done):
        event: dict[str, Any] = json.loads(line)
        if before := event.get("resourcePreEvent"):
            outcome.steps.append(before["metadata"])
            if before["metadata"]["op"] not in QUIET:
                active[before["metadata"]["urn"]] = None
        elif after := event.get("resOutputsEvent"):
            finished += 1
            active.pop(after["metadata"]["urn"], None)
        elif said := event.get("diagnosticEvent"):
            _note(said, outcome)
        elif total := event.get("summaryEvent"):
            outcome.changes.update(total.get("resourceChanges") or {})
        waiting = ", ".join(_short(urn) for urn in list(active)[:3])
        status.update(f"pulumi {operation}: {finished} done" + (f", now {waiting}" if waiting else ""))


def _short(urn: str) -> str:
    kind, name = urn.split("::")[-2:]
    return f"{kind.rpartition(':')[2]} {name}"


def _telling(message: str) -> str:
    """A message without the traceback of a program that failed: the log has that."""
    before, traceback, rest = message.partition("Traceback (most recent call last)")
    return f"{before} {rest.strip().splitlines()[-1]}" if traceback and rest.strip() else message


def _note(said: dict[str, Any], outcome: Outcome) -> None:
    if said.get("ephemeral"):
        return
    lines = _telling(said.get("message", "").replace("<{%reset%}>", "")).splitlines()
    # An error keeps its lines: each may be a problem of its own.
    joined = "\n    " if said["severity"] == "error" else " "
    text = joined.join(" ".join(line.split()) for line in lines if line.strip())
    where = _short(said["urn"]) + ": " if said.get("urn") else ""
    if said["severity"] == "error" and text:
        outcome.problems.append(where + text)
    elif said["severity"] == "warning" and text:
        outcome.warnings.append(where + text)
    elif said["severity"].startswith("info") and text:
        outcome.notes.append(text)
