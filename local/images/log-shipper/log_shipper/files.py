"""The log files of a node's containers: found, followed through rotation, and never read twice.

Where each file was read to is kept, so that a shipper that starts again goes on there. A file that was rotated
meanwhile is known by its inode.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from log_shipper import cri
from log_shipper.cri import Part, Record
from log_shipper.events import Container

CHUNK = 64 * 1024
"""Bytes read at once. The CRI's lines are 16 KiB and their beginning at most, so that one of them is always whole."""
ROTATED_SECONDS = 10.0
"""How long a file that was moved away is looked at: the runtime writes to it until it is told of the new one."""
DATAPLANE = ("aws-node", "kube-proxy")
"""Pods whose logs the add-on puts into another log group."""

Deliver = Callable[[Container, str, list[Record]], None]
"""Takes a container's lines and the name of their file; raises where they were not taken."""


@dataclass
class Tail:
    """One file that is being read."""

    link: str
    """Its name in /var/log/containers."""
    container: Container
    file: BinaryIO
    inode: int
    offset: int = 0
    pending: dict[str, Part] = field(default_factory=dict[str, Part])
    moved: float | None = None
    """Since when it has been rotated or deleted."""

    @property
    def delivered(self) -> int:
        """Up to where everything has been delivered."""
        return min((self.offset, *(part.start for part in self.pending.values())))

    def read(self, deliver: Deliver) -> bool:
        """Deliver the next lines; returns whether there were any. Nothing has changed where `deliver` raises."""
        if os.fstat(self.file.fileno()).st_size < self.offset:
            self.offset, self.pending = 0, {}
        self.file.seek(self.offset)
        data = self.file.read(CHUNK)
        whole = data.rfind(b"\n") + 1 or (len(data) if len(data) == CHUNK else 0)
        if not whole:
            return False
        records, pending = cri.join(data[:whole], self.offset, self.pending)
        if records:
            deliver(self.container, self.link, records)
        self.offset, self.pending = self.offset + whole, pending
        return True

    def close(self, deliver: Deliver) -> None:
        """Deliver what has no end yet: it comes no more."""
        if self.pending:
            deliver(self.container, self.link, cri.cut_off(self.pending))
        self.file.close()


class Files:
    """Every container's log on this node. `state` is a file that remembers how far each was read."""

    def __init__(self, folder: Path, state: Path) -> None:
        self._folder = folder
        self._state = state
        self._tails: list[Tail] = []
        self._saved: dict[str, dict[str, int]] = _load(state)

    def read(self, deliver: Deliver, *, chunks: int = 16) -> bool:
        """Deliver what is new, at most so many chunks of a file; returns whether more is there.

        Raises what `deliver` raises; what it hasn't taken comes again with the next call.
        """
        self._find()
        more = False
        try:
            for tail in list(self._tails):
                full = all(tail.read(deliver) for _ in range(chunks))
                more |= full
                if not full and tail.moved is not None and time.monotonic() - tail.moved > ROTATED_SECONDS:
                    tail.close(deliver)
                    self._tails.remove(tail)
        finally:
            self._save()
        return more

    def close(self) -> None:
        """Close every file; another `Files` of the same state goes on with them."""
        for tail in self._tails:
            tail.file.close()

    def _find(self) -> None:
        """Open files that are new, and see which ones were moved away."""
        now = time.monotonic()
        found = {link: opened for link in _links(self._folder) if (opened := _inode(self._folder / link)) is not None}
        for tail in self._tails:
            if tail.moved is None and found.get(tail.link) != tail.inode:
                tail.moved = now
        known = {(tail.link, tail.inode) for tail in self._tails}
        for link, inode in sorted(found.items()):
            if (link, inode) not in known:
                self._open(link, now)

    def _open(self, link: str, now: float) -> None:
        target = (self._folder / link).resolve()
        container = Container.of(link, target)
        if container is None:
            return
        read = {int(inode): offset for inode, offset in self._saved.get(link, {}).items()}
        # The rotated ones first: their lines are older.
        for path in (*_siblings(target, set(read)), target):
            try:
                file = path.open("rb")
            except OSError:  # deleted meanwhile
                continue
            inode = os.fstat(file.fileno()).st_ino
            moved = None if path == target else now
            if any((tail.link, tail.inode) == (link, inode) for tail in self._tails):
                file.close()
                continue
            self._tails.append(Tail(link, container, file, inode, read.get(inode, 0), moved=moved))

    def _save(self) -> None:
        saved: dict[str, dict[str, int]] = {}
        for tail in self._tails:
            saved.setdefault(tail.link, {})[str(tail.inode)] = tail.delivered
        if saved != self._saved:
            temporary = self._state.with_suffix(".new")
            temporary.write_text(json.dumps(saved))
            temporary.replace(self._state)
            self._saved = saved


def _links(folder: Path) -> Iterable[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:  # a node that has had no pod
        return []
    return [name for name in names if name.endswith(".log") and not name.startswith(DATAPLANE)]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:  # a link that leads nowhere any more
        return None


def _siblings(target: Path, inodes: set[int]) -> list[Path]:
    """The files beside a log that it was before it was rotated, of those inodes, the oldest first."""
    found = sorted(target.parent.glob(f"{target.name}.*"))
    return [path for path in found if path.suffix not in {".gz", ".tmp"} and _inode(path) in inodes]


def _load(state: Path) -> dict[str, dict[str, int]]:
    try:
        return json.loads(state.read_text())
    except (OSError, ValueError):  # the first start, or a disk that was full
        return {}
