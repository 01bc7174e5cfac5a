"""python -m log_shipper: ships until told to stop. Settings are environment variables, as in the add-on's DaemonSet."""

import os
import random
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from log_shipper.cloudwatch import CloudWatch, Refused
from log_shipper.cri import Record
from log_shipper.events import TAG, Container, batches, event
from log_shipper.files import Files

CONTAINERS = Path("/var/log/containers")
STATE = Path("/var/fluent-bit/state/containers.json")
"""How far each file was read."""
FLUSH_SECONDS = 5.0
"""How often it looks for new lines, as the add-on's Fluent Bit."""
LONGEST_WAIT = 60.0
"""Seconds between two tries, at most."""
HOPELESS = ("InvalidParameterException", "DataAlreadyAcceptedException")
"""Refusals of a batch that would be the same the next time: it is left out, or nothing after it would be shipped."""


NEEDED = (
    "CLUSTER_NAME",
    "HOST_NAME",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
"""Settings: the first three from the DaemonSet, the others from the Pod Identity webhook."""


class Shipper:
    """Reads a node's files and puts what is in them into a log group."""

    def __init__(self, files: Files, cloudwatch: CloudWatch, host: str) -> None:
        self._files = files
        self._cloudwatch = cloudwatch
        self._host = host
        self._failures = 0

    def step(self) -> float:
        """Ship what is new; returns how many seconds to wait before the next time."""
        try:
            more = self._files.read(self._deliver)
        except (OSError, Refused) as error:
            self._failures += 1
            if self._failures == 1:
                _say(f"{error}; trying again")
            return min(LONGEST_WAIT, 2.0**self._failures) * random.uniform(0.5, 1)  # noqa: S311  to spread the nodes
        if self._failures:
            _say("works again")
        self._failures = 0
        return 0 if more else FLUSH_SECONDS

    def _deliver(self, container: Container, file: str, records: list[Record]) -> None:
        stream = f"{self._host}-{TAG}{file}"
        for batch in batches(event(record, container, self._host) for record in records):
            try:
                self._cloudwatch.put(stream, batch)
            except Refused as refused:
                if refused.code not in HOPELESS:
                    raise
                _say(f"left out {len(batch)} lines of {file}: {refused}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Ship until SIGTERM; what is there by then is shipped, too. Ends with 1 where a setting is missing."""
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        _say(f"not set: {', '.join(missing)}; a pod made without credentials gets them when it is made anew")
        sys.exit(1)
    stop = threading.Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    group = f"/aws/containerinsights/{os.environ['CLUSTER_NAME']}/application"
    files = Files(CONTAINERS, STATE)
    shipper = Shipper(files, CloudWatch(group), os.environ["HOST_NAME"])
    _say(f"shipping {CONTAINERS} to {group}")
    while not stop.is_set():
        stop.wait(shipper.step())
    shipper.step()
    files.close()


if __name__ == "__main__":
    main()
