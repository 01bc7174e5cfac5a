"""The CRI's log format: `TIME STREAM TAGS TEXT` a line, where the tag P says that the text goes on in the next."""

from collections.abc import Mapping
from dataclasses import dataclass

LONGEST = 128 * 1024
"""Bytes of text after which a line is cut, so that what is kept of lines that go on is bounded."""


@dataclass(frozen=True)
class Record:
    """One line that a container has written."""

    time: str
    """As the CRI writes it: RFC 3339 with nanoseconds."""
    stream: str
    text: str


@dataclass(frozen=True)
class Part:
    """The beginning of a line whose end isn't there yet."""

    time: str
    start: int
    """Where in the file it begins."""
    text: bytes


Pending = Mapping[str, Part]
"""What isn't whole yet, by stream."""


def join(data: bytes, start: int, pending: Pending) -> tuple[list[Record], dict[str, Part]]:
    """Return the whole lines in `data`, which begins at `start` of its file, and what of it isn't whole.

    `data` ends with the end of a line. A line in another format is left out.
    """
    records: list[Record] = []
    parts = dict(pending)
    for line in _lines(data):
        words = line.removesuffix(b"\n").split(b" ", 3)
        if len(words) >= 3 and words[1] in (b"stdout", b"stderr"):
            stream = words[1].decode()
            part = parts.pop(stream, Part(words[0].decode(errors="replace"), start, b""))
            part = Part(part.time, part.start, part.text + (words[3] if len(words) > 3 else b""))
            if words[2].split(b":")[0] == b"P" and len(part.text) < LONGEST:
                parts[stream] = part
            else:
                records.append(_record(stream, part))
        start += len(line)
    return records, parts


def cut_off(pending: Pending) -> list[Record]:
    """Return lines whose end will never come, as far as they are there."""
    return [_record(stream, part) for stream, part in pending.items()]


def _record(stream: str, part: Part) -> Record:
    return Record(part.time, stream, part.text.decode(errors="replace"))


def _lines(data: bytes) -> list[bytes]:
    # Not splitlines: a carriage return belongs to the text.
    return [line + b"\n" for line in data.removesuffix(b"\n").split(b"\n")]
