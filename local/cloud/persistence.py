"""Keeps the emulator's state on disk while it runs, so that a killed emulator loses at most the last second.

MiniStack saves at a clean shutdown only. Here every change leads to a save shortly after; a service's file is
replaced whole, and only where its content is new. Log events alone wait for the next change of another kind.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.cloud import emulator, stores

log = logging.getLogger("cloud.persistence")

QUIET_SECONDS = 0.5
"""How long changes are gathered before they are saved."""
AFTERTHOUGHT_SECONDS = 5.0
"""A second save after each change: threads of MiniStack finish some of them after the call has returned."""


class Saver:
    """Saves the services' records after each change.

    `changed` may be called at any time in the event loop; `run` does the work until it is cancelled.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = asyncio.Event()
        self._saved: dict[str, bytes] = {}

    def changed(self) -> None:
        """Says that something should be saved soon."""
        self._changed.set()

    async def run(self) -> None:
        """Saves after each change, until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(QUIET_SECONDS)
            await self.save()
            try:
                await asyncio.wait_for(self._changed.wait(), AFTERTHOUGHT_SECONDS)
            except TimeoutError:
                await self.save()

    async def save(self) -> None:
        """Saves now."""
        self._changed.clear()
        states = self._snapshot()
        try:
            await asyncio.to_thread(self._write, states)
        except OSError as error:  # a full disk, say: the state on disk stays the last good one
            log.warning("the cloud's state couldn't be saved, and is tried again: %s", error)
            self._changed.set()

    def _snapshot(self) -> dict[str, Any]:
        sources: dict[str, Callable[[], Any]] = emulator.application()._build_persistence_save_dict()
        states: dict[str, Any] = {}
        for name, get_state in {**sources, stores.KEY: stores.get_state}.items():
            try:
                state = get_state()
            except RuntimeError:  # a thread of MiniStack changed a dictionary while it was copied
                self._changed.set()
                continue
            if state is not None:
                states[name] = state
        return states

    def _write(self, states: dict[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, state in states.items():
            try:
                text = _encode(name, state)
            except (RuntimeError, TypeError, ValueError) as error:
                # Changed meanwhile, or a value that JSON has no form for: the other services are saved all the same.
                log.warning("the state of %s couldn't be saved: %s", name, error)
                continue
            digest = hashlib.blake2b(text).digest()
            if self._saved.get(name) == digest:
                continue
            path = self._folder / f"{name}.json"
            temporary = path.with_suffix(".json.new")
            temporary.write_bytes(text)
            temporary.replace(path)
            self._saved[name] = digest


def _encode(name: str, state: object) -> bytes:
    """A service's records in the form that MiniStack reads when it starts."""
    persistence = emulator.core("persistence")
    document = {"__ministack_format__": persistence._state_format_version(name), "payload": state}
    return json.dumps(document, default=persistence._json_default).encode()


def restore_additions() -> None:
    """Puts back the records of our own handlers; MiniStack puts back its own when it starts."""
    stores.restore(emulator.core("persistence").load_state(stores.KEY) or {})


def damaged(folder: Path) -> Path | None:
    """A state file that can't be read, if there is one: MiniStack would go on without it, and it would be lost."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return path
    return None
