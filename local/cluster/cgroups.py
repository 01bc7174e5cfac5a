"""The cgroup of each node, in every hierarchy of the machine: cgroup v1, v2, or both side by side.

A kubelet wants its root cgroup to exist before it starts, and a node that is killed leaves its cgroups behind.
"""

import contextlib
import time
from functools import cache
from pathlib import Path

from local.cluster.network import PREFIX
from local.errors import LocalError

_CONTROLLERS = ("cpuset", "cpu", "memory", "pids")
"""What a kubelet needs on cgroup v2."""


@cache
def hierarchies() -> dict[Path, str]:
    """The mounted hierarchies, with their type: `cgroup` or `cgroup2`."""
    found: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in ("cgroup", "cgroup2"):
            found[Path(before.split()[4])] = kind
    if not found:
        raise LocalError("this machine has no cgroup hierarchy mounted", "mount cgroup2 on /sys/fs/cgroup")
    return found


def name(node: str) -> str:
    """The name of a node's cgroup, the same in every hierarchy."""
    return f"{PREFIX}{node}"


def create(node: str) -> None:
    """Makes a node's cgroups. Raises LocalError where cgroup v2 does not let us have a controller."""
    only_v2 = set(hierarchies().values()) == {"cgroup2"}
    for root in hierarchies():
        if only_v2:
            _delegate(root)
        (root / name(node)).mkdir(exist_ok=True)


def _delegate(root: Path) -> None:
    switch = root / "cgroup.subtree_control"
    missing = set(_CONTROLLERS) - set(switch.read_text().split())
    if not missing:
        return
    try:
        switch.write_text(" ".join(f"+{controller}" for controller in sorted(missing)))
    except OSError as error:
        raise LocalError(
            f"cgroup v2 does not hand on {', '.join(sorted(missing))}: {error.strerror}",
            "run on the machine itself, or in a container started with --privileged --cgroupns=host",
        ) from error


def remove(node: str, *, seconds: float = 5) -> None:
    """Removes a node's cgroups; its processes must be dead, and are waited for until the kernel has let go of them."""
    deadline = time.monotonic() + seconds
    for root in hierarchies():
        while not _remove_tree(root / name(node)) and time.monotonic() < deadline:
            time.sleep(0.05)


def nodes() -> set[str]:
    """The names of nodes that have a cgroup."""
    return {path.name.removeprefix(PREFIX) for root in hierarchies() for path in root.glob(f"{PREFIX}*")}


def _remove_tree(folder: Path) -> bool:
    if not folder.exists():
        return True
    for path in sorted((path for path in folder.rglob("*/")), key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
