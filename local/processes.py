"""Background programs of the environment: started once, found again, stopped with everything they started.

A daemon is known by its pid together with its start time, so that a reused pid is never taken for it.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError
from local.paths import STATE, state


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where it is gone or a zombie.

    One whose first thread alone has ended is neither, though the kernel says Z of it, too: until the last of them has
    ended, as after a SIGKILL, what the process listens at stays taken.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    status, threads, started = fields[0], int(fields[17]), int(fields[19])
    return None if status == "Z" and threads == 1 else started


def processor_seconds(pid: int) -> float:
    """Processor time that a process, without those it started, has taken. Raises OSError where it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Daemon:
    """One background program, by name: its pid file and log are `.state/run/NAME.json` and `.state/log/NAME.log`."""

    name: str

    @property
    def _pid_file(self) -> Path:
        return state("run", f"{self.name}.json")

    @property
    def log(self) -> Path:
        """The file with the program's standard output and error."""
        return state("log", f"{self.name}.log")

    @property
    def pid(self) -> int | None:
        """The running program's pid, or None."""
        try:
            record = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return record["pid"] if start_time(record["pid"]) == record["started"] else None

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
        timeout: float = 60,
    ) -> None:
        """Starts the program unless it runs, and waits until `ready` answers True.

        The program gets a session of its own, so that Ctrl-C in the terminal doesn't reach it.
        Raises LocalError, with the log's last lines, where it ends or isn't ready within `timeout` seconds.
        """
        if self.pid is None:
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                )
            _children[process.pid] = process
            record = {"pid": process.pid, "started": start_time(process.pid)}
            self._pid_file.write_text(json.dumps(record))
        deadline = time.monotonic() + timeout
        while ready is not None and not ready():
            if self.pid is None:
                raise LocalError(f"{self.name} ended while starting:\n{self.tail()}", f"its log is {self.log}")
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{self.name} was not ready within {timeout:.0f} s:\n{self.tail()}", f"its log is {self.log}"
                )
            time.sleep(0.1)

    def stop(self, timeout: float = 15) -> None:
        """Ends the program and every process of its session: politely, then by force after `timeout` seconds."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + timeout
            while self.pid is not None and time.monotonic() < deadline:
                reap(pid)
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if (child := _children.get(pid)) is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout)  # one that was killed takes a moment to be gone, too
            reap(pid)
        self._pid_file.unlink(missing_ok=True)

    def tail(self, lines: int = 8) -> str:
        """The last lines of the program's log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"


_children: dict[int, "subprocess.Popen[bytes]"] = {}
"""What this process has started, so that it can be collected when it has ended."""


def reap(pid: int) -> None:
    """Collects a dead child so that it doesn't linger as a zombie; does nothing for another's child."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]


def reap_all() -> None:
    """Collects every child that is dead."""
    for pid in list(_children):
        reap(pid)


def daemons() -> list[Daemon]:
    """Every daemon that has a pid file, running or not."""
    return [Daemon(path.stem) for path in sorted((STATE / "run").glob("*.json"))]
