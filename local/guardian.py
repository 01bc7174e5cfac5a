"""Clears up after a `make up` that was killed before it was done.

The guardian holds one end of a pipe. Where the other end closes without a word, the process that held it is gone, and
with it whoever would have stopped what it had started.
"""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from local.paths import ROOT, state

DONE = b"done"


@contextmanager
def guarded() -> Generator[None]:
    """Runs a block that starts things; if this process dies inside it, everything is stopped."""
    with state("log", "guardian.log").open("ab") as log:
        guardian = subprocess.Popen(
            [sys.executable, "-m", "local.guardian"],
            stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        guardian.communicate(DONE)


def main() -> None:
    """Waits for the other end of the pipe."""
    if sys.stdin.buffer.read() != DONE:
        # Only when they are needed: the guardian stays small.
        from local import engine, environment  # noqa: PLC0415

        with environment.exclusive():
            engine.end_orphans()
            environment.stop()


if __name__ == "__main__":
    main()
