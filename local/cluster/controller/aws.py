"""Clients of the emulator, made when they are first asked for, and anew where it has moved to another port."""

import threading
from collections.abc import Callable
from typing import Any

from local import cloud
from local.ports import port

Client = Callable[[str], Any]
"""Gives a boto3 client by the name of its service."""
_clients: dict[tuple[str, int], Any] = {}
_lock = threading.Lock()


def client(service: str) -> Any:
    """A boto3 client for the emulator. Raises LocalError where the emulator doesn't run."""
    key = (service, port("cloud"))
    with _lock:  # boto3 makes clients in one thread at a time; what it has made may be shared
        if key not in _clients:
            _clients[key] = cloud.client(service)
        return _clients[key]
