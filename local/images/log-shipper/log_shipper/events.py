"""What CloudWatch gets: events in the shape that Fluent Bit's Kubernetes filter gives them, in batches of its size."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from log_shipper.cri import Record

TAG = "application.var.log.containers."
"""What Fluent Bit makes of the files' folder; a stream is named by node, tag and file."""
_FILE = re.compile(r"(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<container>.+)-(?P<id>[0-9a-f]{64})\.log")

MOST_EVENTS = 10_000
MOST_BYTES = 1_048_576
OVERHEAD = 26
"""Limits of PutLogEvents: events of a batch, and their bytes with so many more for each."""
LONGEST_SPAN = timedelta(hours=24)
"""Between the first and the last event of a batch (PutLogEvents)."""
LONGEST = 262_144 - OVERHEAD
"""Bytes of an event, after which Fluent Bit's output cuts it."""


@dataclass(frozen=True)
class Container:
    """Whose log a file is."""

    name: str
    pod: str
    pod_id: str
    namespace: str
    id: str

    @classmethod
    def of(cls, link: str, target: Path) -> "Container | None":
        """Read the names from the file's own, and the pod's uid from where it leads; None for another kind of file."""
        found = _FILE.fullmatch(link)
        if found is None:
            return None
        # /var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log
        uid = target.parent.parent.name.rpartition("_")[2]
        return cls(found["container"], found["pod"], uid, found["namespace"], found["id"])


@dataclass(frozen=True)
class Event:
    """An event as CloudWatch takes it: milliseconds since 1970, and text."""

    timestamp: int
    message: str

    @property
    def size(self) -> int:
        """What it counts in a batch."""
        return len(self.message.encode()) + OVERHEAD


def event(record: Record, container: Container, host: str) -> Event:
    """Return a line's event; the fields of a line that is a JSON object are in `log_processed`."""
    body: dict[str, Any] = {
        "time": record.time,
        "stream": record.stream,
        "_p": "F",
        "log": record.text,
        "kubernetes": {
            "pod_name": container.pod,
            "namespace_name": container.namespace,
            "pod_id": container.pod_id,
            "host": host,
            "container_name": container.name,
            "docker_id": container.id,
        },
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    if _is_object(record.text):
        text = f'{text[:-1]},"log_processed":{record.text.strip()}}}'
    return Event(_milliseconds(record.time), text.encode()[:LONGEST].decode(errors="ignore"))


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} isn't JSON")


def _milliseconds(time: str) -> int:
    try:
        when = datetime.fromisoformat(time)
    except ValueError:
        when = datetime.now(UTC)
    return int(when.timestamp() * 1000)


def batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Yield the events in order of time, as many at once as PutLogEvents takes."""
    batch: list[Event] = []
    size = 0
    for each in sorted(events, key=lambda event: event.timestamp):
        late = batch and each.timestamp - batch[0].timestamp > LONGEST_SPAN / timedelta(milliseconds=1)
        if batch and (late or len(batch) == MOST_EVENTS or size + each.size > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size
    if batch:
        yield batch
