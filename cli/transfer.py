"""How far a transfer is, on standard error: a bar on a terminal, otherwise a line now and then."""

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from cli import output
from llm_serving.registry import s3

LINE_SECONDS = 10
"""Between two lines where standard error is no terminal."""


class Lines(s3.Progress):
    """Lines for a log. Transfers that end before the first one is due have none."""

    def __init__(self, what: str):
        self._what = what
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._begun = self._next = 0.0

    def begin(self, total: int) -> None:
        """As `Progress`."""
        self._total = total
        self._begun = time.monotonic()
        self._next = self._begun + LINE_SECONDS

    def advance(self, count: int) -> None:
        """As `Progress`."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + LINE_SECONDS
            rate = max(1.0, self._done / (now - self._begun))
            left = (self._total - self._done) / rate
            done = f"{size(self._done)} of {size(self._total)}, {size(rate)}/s, {left:.0f} s left"
        output.emit([f"{self._what}: {done}"], sys.stderr)


@contextmanager
def progress(what: str) -> Generator[s3.Progress]:
    """Show a transfer while the block runs."""
    if not sys.stderr.isatty():
        yield Lines(what)
        return
    from rich import progress as bars  # noqa: PLC0415  only a terminal needs it
    from rich.console import Console  # noqa: PLC0415

    class Bar(s3.Progress):
        def begin(self, total: int) -> None:
            shown.update(task, total=total)

        def advance(self, count: int) -> None:
            shown.advance(task, count)

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield Bar()


def size(count: float) -> str:
    """A number of bytes for a person, in powers of 1000 as model sizes are given."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
