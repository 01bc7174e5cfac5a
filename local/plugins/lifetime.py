"""How a plugin begins, and how it ends: with the engine that started it, even where that was killed."""

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

CHECK_SECONDS = 1.0


def when_orphaned(end: Callable[[], object]) -> None:
    """Calls `end`, from a thread of its own, once the process that started this one is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_SECONDS)
        end()

    threading.Thread(target=watch, daemon=True).start()


def begin(description: str) -> tuple[str, threading.Event]:
    """Reads a plugin's command line. Returns the engine's address, and what is set when the plugin shall end."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tracing")
    parser.add_argument("engine", nargs="?", default="")
    known, _ = parser.parse_known_args()
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    when_orphaned(stop.set)
    return known.engine, stop
