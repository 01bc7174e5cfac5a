"""Reads the header of a GGUF file and checks it against the file, without reading the tensors.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO

from llm_serving.registry.safetensors_header import HeaderError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
TOKENIZER = "tokenizer.ggml.tokens"
"""Key of the vocabulary that a file with a tokenizer has."""
_ALIGNMENT = "general.alignment"
_DEFAULT_ALIGNMENT = 32
_MOST_NAME_BYTES = 1 << 16
"""Of keys and names; the format allows 65535."""
_MOST_TEXT_BYTES = 1 << 26
"""Of a text value; chat templates, the longest in use, have some 10 KB."""
_MOST_ENTRIES = 1 << 24
_MOST_DIMENSIONS = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY, _UINT32 = 8, 9, 4
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2),
}  # fmt: skip
"""Elements and bytes of a block of the types in common use, by their number in ggml.h; of others, only the beginning of
a tensor is checked."""


def keys(path: Path) -> set[str]:
    """The keys of a file's metadata, once its tensors are known to lie in the file. Raises HeaderError, OSError."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            return _Header(stream, size).read()
        except struct.error:
            raise HeaderError("broken GGUF header: the file ends within it; copy it again") from None


class _Header:
    def __init__(self, stream: BinaryIO, size: int):
        self._stream = stream
        self._size = size
        self._alignment = _DEFAULT_ALIGNMENT

    def read(self) -> set[str]:
        if self._stream.read(len(MAGIC)) != MAGIC:
            raise HeaderError("broken GGUF header: it doesn't begin with GGUF; copy the file again")
        version = self._number("I")
        if version not in VERSIONS:
            raise HeaderError(f"GGUF version {version} is not one of {', '.join(map(str, VERSIONS))}: convert it again")
        tensors, entries = self._count("Q"), self._count("Q")
        found = {self._entry() for _ in range(entries)}
        ends = [self._tensor() for _ in range(tensors)]
        if not ends:
            raise HeaderError("the GGUF file has no tensors, only a vocabulary: push the one with the weights")
        data = -(-self._stream.tell() // self._alignment) * self._alignment
        if data + max(ends) > self._size:
            raise HeaderError(
                f"the file has {self._size} bytes and its header tells of {data + max(ends)}: copy it again, whole"
            )
        return found

    def _number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self._stream.read(struct.calcsize(f"<{kind}")))[0])

    def _count(self, kind: str, most: int = _MOST_ENTRIES) -> int:
        count = self._number(kind)
        if count > most:
            raise HeaderError(f"broken GGUF header: a count of {count} where at most {most} makes sense")
        return count

    def _text(self, most: int = _MOST_NAME_BYTES) -> str:
        length = self._count("Q", most)
        data = self._stream.read(length)
        if len(data) < length:
            raise struct.error
        return data.decode("utf-8", "replace")

    def _entry(self) -> str:
        key = self._text()
        kind = self._number("I")
        if key == _ALIGNMENT and kind == _UINT32:
            self._alignment = max(1, self._number("I"))
        else:
            self._skip(kind)
        return key

    def _skip(self, kind: int, count: int = 1) -> None:
        if kind in _SCALARS:
            self._stream.seek(count * struct.calcsize(f"<{_SCALARS[kind]}"), 1)
        elif kind == _TEXT:
            for _ in range(count):
                self._text(_MOST_TEXT_BYTES)
        elif kind == _ARRAY and count == 1:
            self._skip(self._number("I"), self._count("Q"))
        else:
            raise HeaderError(f"broken GGUF header: a value of type {kind}, which there is not")

    def _tensor(self) -> int:
        """Where a tensor ends among the data."""
        self._text()
        sizes = [self._number("Q") for _ in range(self._count("I", _MOST_DIMENSIONS))]
        kind, offset = self._number("I"), self._number("Q")
        elements, size = _BLOCKS.get(kind, (1, 0))
        return offset + math.prod(sizes) // elements * size
