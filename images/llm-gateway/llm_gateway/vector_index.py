"""Vectors in this process, each in a partition, found by their cosine: exact, and bounded in number.

A partition is one matrix, so that a search is one product of it with the vector that is sought.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""A vector of length one."""

CANDIDATES = 8
"""Most alike entries that a search returns: the guard may refuse some."""
_FIRST_ROWS = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A question that was answered."""

    key: str
    """Key of its answer in the exact cache; an entry replaces an older one of the same key."""
    partition: str
    text: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that a search found."""

    key: str
    text: str
    similarity: float
    """Cosine of the two vectors."""


class _Partition:
    """Rows of a matrix; a row that is free is no number, and so like nothing."""

    def __init__(self, dimensions: int) -> None:
        self.entries: OrderedDict[str, tuple[int, str]] = OrderedDict()  # row and text by key, the oldest first
        self._keys: dict[int, str] = {}
        self._free: list[int] = []
        self._matrix = np.zeros((_FIRST_ROWS, dimensions), np.float32)

    def add(self, entry: Entry) -> None:
        if self._free:
            row = self._free.pop()
        else:
            row = len(self.entries)
            if row == len(self._matrix):
                # np.resize would repeat the rows, and two copies are there only until this returns.
                self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])
        self._matrix[row] = entry.vector
        self.entries[entry.key] = row, entry.text
        self._keys[row] = entry.key

    def remove(self, key: str) -> None:
        row, _ = self.entries.pop(key)
        del self._keys[row]
        self._matrix[row] = np.nan
        self._free.append(row)

    def search(self, vector: Vector, threshold: float) -> list[Match]:
        scores = self._matrix[: len(self.entries) + len(self._free)] @ vector
        rows = np.flatnonzero(scores >= threshold)
        best = rows[np.argsort(-scores[rows], kind="stable")][:CANDIDATES]
        found: list[Match] = []
        for row in map(int, best):
            key = self._keys[row]
            found.append(Match(key, self.entries[key][1], float(scores[row])))
        return found


class VectorIndex:
    """Entries in partitions. The oldest go first: of a partition that is full, then of all.

    :param max_entries: Most entries in all.
    :param max_partition: Most entries of one partition.
    """

    def __init__(self, max_entries: int, max_partition: int) -> None:
        self._max_entries = max_entries
        self._max_partition = max_partition
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._all: OrderedDict[str, tuple[tuple[str, int], float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, entry: Entry, expires: float) -> None:
        """Adds an entry that is of use until `expires`, which never falls from one call to the next."""
        self._remove(entry.key)
        place = entry.partition, len(entry.vector)  # another embedder's vectors can't be compared
        partition = self._partitions.get(place)
        if partition is None:
            partition = self._partitions[place] = _Partition(len(entry.vector))
        elif len(partition.entries) >= self._max_partition:
            self._remove(next(iter(partition.entries)))
            self._partitions[place] = partition  # a partition of one has gone with it
        partition.add(entry)
        self._all[entry.key] = place, expires
        while len(self._all) > self._max_entries:
            self._remove(next(iter(self._all)))

    def expire(self, now: float) -> None:
        """Drops what has expired."""
        while self._all:
            key, (_, expires) = next(iter(self._all.items()))
            if expires > now:
                return
            self._remove(key)

    def search(self, partition: str, vector: Vector, threshold: float) -> list[Match]:
        """The entries of a partition that are at least as alike as `threshold`, the most alike first."""
        found = self._partitions.get((partition, len(vector)))
        return [] if found is None else found.search(vector, threshold)

    def _remove(self, key: str) -> None:
        place, _ = self._all.pop(key, (None, 0))
        if place is not None:
            partition = self._partitions[place]
            partition.remove(key)
            if not partition.entries:
                del self._partitions[place]
