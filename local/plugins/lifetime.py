"""Ends a plugin with the engine that started it, even where the engine was killed and could end nothing."""

import os
import threading
import time
from collections.abc import Callable

CHECK_SECONDS = 1.0


def when_orphaned(end: Callable[[], object]) -> None:
    """Calls `end`, from a thread of its own, once the process that started this one is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_SECONDS)
        end()

    threading.Thread(target=watch, daemon=True).start()
