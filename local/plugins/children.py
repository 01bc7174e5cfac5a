"""The programs that the language host runs, and how they end.

Each gets a process group of its own, so that it ends with everything it started, and never outlives the engine.
"""

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import IO

PATIENCE_S = 10
"""How long a program may take to end after SIGTERM."""


class Child:
    """One program: a Pulumi program, a policy pack or a component provider."""

    def __init__(self, command: Sequence[str], *, cwd: str, env: Mapping[str, str], piped: bool) -> None:
        """Starts the program; with `piped`, its output is read with `output`, else it goes where the host's goes."""
        target = subprocess.PIPE if piped else None
        self._process = subprocess.Popen(
            command,
            cwd=cwd or None,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            process_group=0,
        )
        self._lock = threading.Lock()
        self.ended = False
        """Whether `end` ended it, and not the program itself."""

    def wait(self) -> int:
        """Waits for the program's end. Returns its exit status, negative for a signal."""
        return self._process.wait()

    def end(self) -> None:
        """Ends the program if it runs. SIGTERM ends a Python program without a traceback, unlike SIGINT."""
        with self._lock:
            if self._process.poll() is None:
                self.ended = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGTERM)

    def collect(self) -> None:
        """Waits for the end of a program that was ended, and enforces it where the program takes its time."""
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def output(self) -> Iterator[tuple[bytes, bytes]]:
        """The program's output as it comes: pieces of standard output (first) and of standard error (second)."""
        pieces: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()

        def pump(stream: IO[bytes] | None, *, error: bool) -> None:
            assert stream is not None
            with stream:
                while data := os.read(stream.fileno(), 65536):
                    pieces.put((b"", data) if error else (data, b""))
            pieces.put(None)

        readers = ((self._process.stdout, False), (self._process.stderr, True))
        for stream, error in readers:
            threading.Thread(target=pump, args=(stream,), kwargs={"error": error}, daemon=True).start()
        for _ in readers:
            while (piece := pieces.get()) is not None:
                yield piece


class Children:
    """Every program under way, so that the host can end them all."""

    def __init__(self) -> None:
        self._running: set[Child] = set()

    @contextlib.contextmanager
    def started(
        self, command: Sequence[str], *, cwd: str = "", env: Mapping[str, str], piped: bool
    ) -> Generator[Child]:
        """Starts a program, see `Child`, and ends it after the block if it still runs."""
        child = Child(command, cwd=cwd, env=env, piped=piped)
        self._running.add(child)
        try:
            yield child
        finally:
            child.end()
            child.collect()
            self._running.discard(child)

    def end_all(self) -> None:
        """Ends every program that runs."""
        for child in list(self._running):
            child.end()
