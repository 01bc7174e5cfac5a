"""Daemons of the local environment: ended for good, whether they listen or not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from local import processes
from local.processes import Daemon, start_time

POLITE = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
HALF_GONE = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit of the first thread alone
"""


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


def test_a_process_is_there_until_its_last_thread_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", HALF_GONE])
    try:
        until = time.monotonic() + 30
        while _status(process.pid) != "Z" and time.monotonic() < until:
            time.sleep(0.01)
        assert _status(process.pid) == "Z"
        assert start_time(process.pid) is not None
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # has ended, and is not collected
        assert start_time(process.pid) is None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
