"""Free ports on this machine, chosen once and remembered, so that addresses survive a restart."""

import fcntl
import json
import random
import socket
from collections.abc import Collection

from local.errors import LocalError
from local.paths import state

PREFERRED = {
    "cloud": 4566,
    "apiserver": 6443,
    "etcd": 2379,
    "etcd-peer": 2380,
    "controller-manager": 10257,
    "scheduler": 10259,
    "kwok": 10247,
    "registry": 5000,
    "cache": 6379,
    "identity": 9443,
}
"""The port each service has where nothing else holds it: the one that its users expect."""

UNASKED = range(20000, 30000)
"""Where other ports are chosen.

Below Linux's ephemeral ports (32768 to 60999), any of which the kernel gives to a connection of whatever program: while
a service restarted, its port would be lost to one. And below the node ports of Kubernetes (30000 to 32767).
"""


_CHANCE = random.SystemRandom()
"""Of the kernel: processes whose generators have the same seed would choose the same ports."""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))  # taken on any address is taken
        except OSError:
            return False
    return True


def free(taken: Collection[int] = ()) -> int:
    """A port that nothing listens on and that isn't one of `taken`; nothing remembers it."""
    for port in _CHANCE.sample(UNASKED, 100):
        if port not in taken and _is_free(port):
            return port
    raise LocalError("no free TCP port was found", "stop a program that listens on many ports")


def port(service: str) -> int:
    """The port of a service of this environment: the remembered one, else the preferred one, else any free one.

    A remembered port is returned without asking whether it is free: its own service may hold it. See `claim`.
    """
    return _choose(service, recheck=False)


def claim(service: str) -> int:
    """The port for a service that is about to start: as `port`, but moved if another program holds it now."""
    return _choose(service, recheck=True)


def _choose(service: str, *, recheck: bool) -> int:
    path = state("ports.json")
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        ports: dict[str, int] = json.loads(file.read() or "{}")
        known = ports.get(service)
        if known is not None and not (recheck and not _is_free(known)):
            return known
        taken = {number for name, number in ports.items() if name != service}
        preferred = PREFERRED.get(service)
        usable = preferred is not None and preferred not in taken and _is_free(preferred)
        ports[service] = preferred if preferred is not None and usable else free(taken)
        file.seek(0)
        file.truncate()
        json.dump(ports, file, indent=1, sort_keys=True)
        return ports[service]
