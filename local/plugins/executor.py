"""Runs a Pulumi program with Pulumi's own executor, and keeps to itself what the engine has said already.

Started as `executor.py PULUMI_EXECUTOR ARGUMENTS...` by the language host, on the program's own Python, so it imports
nothing of this repository.
"""

import os
import runpy
import sys
from typing import Any

import pulumi

BAIL = 32
"""The exit status that tells the engine that the user knows what is wrong."""

SHUT_DOWN = ("resource monitor shut down", "Resource monitor has terminated", "Exception: context canceled")
"""What every call fails with once the engine gives up. It has told the user why; a traceback of this helps nobody."""


def main() -> None:
    """Runs the executor. Ends with its exit status, or with BAIL where it has logged what is wrong."""
    log = pulumi.log.error
    told: list[str] = []

    def error(message: str, *arguments: Any, **options: Any) -> None:
        told.append(message)
        if not any(phrase in message for phrase in SHUT_DOWN):
            log(message, *arguments, **options)

    pulumi.log.error = error
    # As if the executor had been started itself; this file's folder is no place for the program to import from.
    del sys.path[0]
    del sys.argv[0]
    code: Any = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        # After a RunError the executor ends with 1, which the engine would report as another, unexplained error.
        code = BAIL if ended.code == 1 and told else ended.code
    _end(code)


def _end(code: Any) -> None:
    """Ends this process at once: taking the SDKs apart, object by object, takes a second."""
    if not isinstance(code, int | None):
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    main()
