"""Daemons of the local environment: ended for good, whether they listen or not."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from local import processes
from local.processes import Daemon, start_time
from tests.environment_harness import wait

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
        wait("its first thread has ended", lambda: _status(process.pid) == "Z", seconds=30)
        assert start_time(process.pid) is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # has ended, and is not collected
        assert start_time(process.pid) is None
    finally:
        process.kill()
        process.wait()


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
