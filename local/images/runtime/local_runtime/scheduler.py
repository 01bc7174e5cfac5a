"""Which requests run: a first-in-first-out queue before the batch, as long as slots and the token budget allow.

The queue's length and the batch's size that the metrics report are these, so that an autoscaler acts on real numbers.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What the queue and the batch hold."""

    waiting: int
    running: int
    reserved_tokens: int
    """Of the budget, by the requests that run."""


class Scheduler:
    """Admits requests to the running batch in the order of their arrival."""

    def __init__(
        self,
        slots: int,
        token_budget: int,
        *,
        on_change: Callable[[Load], None],
        on_admission: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_change` is told of every change of the load, `on_admission` the batch's size with each new request."""
        self._slots = slots
        self._budget = token_budget
        self._on_change = on_change
        self._on_admission = on_admission
        self._running: list[int] = []
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def admitted(self, tokens: int) -> AsyncGenerator[None]:
        """Waits for the request's turn, then holds a slot and `tokens` of the budget while the block runs."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()  # takes it out of the queue, and lets those behind it in
            else:
                self._release(tokens)
            raise
        try:
            yield
        finally:
            self._release(tokens)

    def _release(self, tokens: int) -> None:
        self._running.remove(tokens)
        self._admit()

    def _admit(self) -> None:
        self._waiting = deque(entry for entry in self._waiting if not entry[1].cancelled())
        while self._waiting:
            tokens, turn = self._waiting[0]
            if len(self._running) >= self._slots or sum(self._running) + tokens > self._budget:
                break
            self._waiting.popleft()
            self._running.append(tokens)
            self._on_admission(len(self._running))
            turn.set_result(None)
        self._on_change(Load(len(self._waiting), len(self._running), sum(self._running)))
