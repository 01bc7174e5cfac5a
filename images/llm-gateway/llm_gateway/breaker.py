"""Circuit breakers: what fails again and again is left alone for a while, and then tried with one request.

One address has the usual three states (Nygard, "Release It!"): closed; open, for a time that doubles with each return;
and half open, in which one request decides.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _State:
    failures: int = 0
    open_until: float = 0.0
    seconds: float = 0.0
    """For how long it was opened last; 0 while it is closed."""
    probing: bool = False
    """Whether a request is on its way that decides."""


class Breakers:
    """The breakers of any number of addresses; one that never failed takes no memory."""

    def __init__(
        self,
        failures: int,
        first_seconds: float,
        most_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An address opens after so many `failures` in a row, for `first_seconds`, later for up to `most_seconds`."""
        self._threshold = failures
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._clock = clock
        self._states: dict[str, _State] = {}

    def is_open(self, address: str) -> bool:
        """Whether the address is to be left alone now."""
        state = self._states.get(address)
        return state is not None and self._clock() < state.open_until

    def begin(self, address: str) -> None:
        """Notes a request: where it is the one that decides, the others wait for what comes of it, or for as long."""
        state = self._states.get(address)
        if state is not None and state.seconds and self._clock() >= state.open_until:
            state.probing = True
            state.open_until = self._clock() + state.seconds

    def succeeded(self, address: str) -> None:
        """Closes the breaker."""
        self._states.pop(address, None)

    def failed(self, address: str) -> bool:
        """Notes a failure; whether that has opened the breaker, from closed."""
        state = self._states.setdefault(address, _State())
        if state.seconds:
            if state.probing:
                self._open(state, min(2 * state.seconds, self._most_seconds))
            return False  # others began before it was opened
        state.failures += 1
        if state.failures < self._threshold:
            return False
        self._open(state, self._first_seconds)
        return True

    def _open(self, state: _State, seconds: float) -> None:
        state.seconds, state.probing, state.open_until = seconds, False, self._clock() + seconds

    def forget_others(self, addresses: frozenset[str]) -> None:
        """Drops what is known of every other address: pods come with new ones all the time."""
        for address in self._states.keys() - addresses:
            del self._states[address]
