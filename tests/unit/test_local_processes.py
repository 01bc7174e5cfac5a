"""Daemons of the local environment: ended for good, whether they listen or not."""

import sys
import uuid
from pathlib import Path

import pytest

from local import processes
from local.processes import Daemon

POLITE = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.mark.parametrize("program", [POLITE, DEAF], ids=["polite", "deaf"])
def test_what_is_stopped_is_gone_and_collected(program: str) -> None:
    daemon = Daemon(f"test-{uuid.uuid4().hex}")
    try:
        daemon.start([sys.executable, "-c", program], ready=lambda: "up" in daemon.tail())
        pid = daemon.pid
    finally:
        daemon.stop(timeout=1)
        daemon.log.unlink()
    assert pid is not None
    assert daemon.pid is None
    assert not Path(f"/proc/{pid}").exists()
    assert pid not in processes._children  # pyright: ignore[reportPrivateUsage]
