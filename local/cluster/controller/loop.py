"""How each part of the controller runs: again and again, and whatever fails is said once, not once a second."""

import logging
import threading
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from local.cluster.api import ApiError
from local.errors import LocalError

log = logging.getLogger("controller")
EXPECTED = (ApiError, LocalError, BotoCoreError, ClientError, OSError)
"""What happens when the emulator or the API server is away or restarting."""


class Streak:
    """Says the first of a row of failures, and when the row ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._failing = False

    def failed(self, error: Exception) -> None:
        """A step failed. One line for what is expected, a traceback for what is a fault of ours."""
        if not self._failing:
            expected = isinstance(error, EXPECTED)
            log.warning("%s: %s; trying again", self.name, error, exc_info=None if expected else error)
        self._failing = True

    def succeeded(self) -> None:
        """A step went well."""
        if self._failing:
            log.info("%s: works again", self.name)
        self._failing = False


def forever(name: str, step: Callable[[], None], stop: threading.Event, *, seconds: float) -> None:
    """Runs `step` until `stop` is set, `seconds` apart."""
    streak = Streak(name)
    while not stop.is_set():
        try:
            step()
        except Exception as error:  # noqa: BLE001  a fault in one part must not end it, nor the other parts
            streak.failed(error)
        else:
            streak.succeeded()
        stop.wait(seconds)
