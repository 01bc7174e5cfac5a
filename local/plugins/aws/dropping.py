"""What the program sets and the Terraform provider doesn't know: said once, never passed over."""

import re
import threading
from collections.abc import Callable
from typing import Any

from pulumi.runtime.proto import engine_pb2

from local.plugins.aws.conversion import Dropped

_POSITION = re.compile(r"\[\d+\]")

Log = Callable[[engine_pb2.LogRequest], None]
"""Tells the engine, which tells the user."""


class Warnings:
    """Warns of each dropped property once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._given: set[str] = set()

    def about(self, token: str, urn: str) -> Dropped:
        """What to call for each property of a resource or function that is dropped."""

        def dropped(path: str, value: Any) -> None:
            name = f"{token}.{_POSITION.sub('', path)}"
            with self._lock:
                if value is None or name in self._given:
                    return
                self._given.add(name)
            message = f"{name} has no effect here: the Terraform AWS provider on this machine doesn't know it"
            self._log(engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=message, urn=urn))

        return dropped
