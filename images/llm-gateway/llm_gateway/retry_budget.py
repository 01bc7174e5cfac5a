"""How many requests may be sent again: a service that fails must not get several times its load for it.

The same rule as Finagle's and Linkerd's budgets: each request earns a part of a retry, and a few come with time, so
that quiet services have some, too.
"""

import time
from collections.abc import Callable

BURST = 100
"""Retries that may be saved: those of a pod's requests that all fail at once, as when its node is lost."""


class RetryBudget:
    """The budget of one service."""

    def __init__(
        self, percent: float, per_second: float, clock: Callable[[], float] = time.monotonic, burst: float = BURST
    ) -> None:
        """Retries may be `percent` of the requests, and `per_second` besides."""
        # In hundredths of a retry, which sums of percents hit.
        self._percent = percent
        self._per_second = 100 * per_second
        self._clock = clock
        self._most = 100 * burst
        self._saved = self._most
        self._at = clock()

    def requested(self) -> None:
        """Counts a request."""
        self._saved = min(self._saved + self._percent, self._most)

    def take(self) -> bool:
        """Whether a request may be sent again; if so, that is counted."""
        now = self._clock()
        self._saved = min(self._saved + (now - self._at) * self._per_second, self._most)
        self._at = now
        if self._saved < 100:
            return False
        self._saved -= 100
        return True
