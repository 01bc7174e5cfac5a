"""A real S3 server for a test, and a network in front of it that can be cut."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local import ports

REGION = "us-east-1"


class Server:
    """The local cloud's emulator as a process, with no state but its own."""

    def __init__(self, folder: Path) -> None:
        self.port = ports.free()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "local.cloud.server", "--port", str(self.port), "--address", "127.0.0.1"),
                *("--state", str(folder), "--cache", f"127.0.0.1:{ports.free()}"),
            ],
            env={**os.environ, "XDG_CACHE_HOME": str(folder)},
        )
        deadline = time.monotonic() + 30
        while not _answers(self.port):
            assert self._process.poll() is None, "the emulator ended"
            assert time.monotonic() < deadline, "the emulator does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def s3_client(port: int, key: str = "test", secret: str = "test", service: str = "s3") -> Any:
    """A client that gives up at once."""
    session: Any = boto3.Session()
    return session.client(
        service,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=5,
            proxies={},
            max_pool_connections=32,
            s3={"payload_signing_enabled": False},
        ),
    )


class Network:
    """Passes bytes to a server until so many were sent to it; then it drops every connection, and takes none."""

    def __init__(self, port: int, cut_after: int, delay: float = 0) -> None:
        self._target = port
        self._left = cut_after
        self._delay = delay
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.is_cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop everything, now."""
        self.is_cut.set()
        with self._lock, contextlib.suppress(OSError):
            for connection in (self._listener, *self._connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._connections += [near, far]
                threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    time.sleep(self._delay)
                    with self._lock:
                        self._left -= len(data)
                        enough = self._left < 0
                    if enough:
                        self.cut()
                        return
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
