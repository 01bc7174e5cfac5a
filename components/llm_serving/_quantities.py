"""CPU and memory as Kubernetes writes them back: another spelling of the same would be a change at every update.

The API server keeps what it was given, but webhooks in Go write each quantity anew, as that of LeaderWorkerSets does.
"""

from typing import TypedDict


class Resources(TypedDict):
    """Requests and limits of a container, by resource."""

    requests: dict[str, str]
    limits: dict[str, str]


def cpu(millicores: int) -> str:
    """Return so many thousandths of a CPU."""
    return f"{millicores}m" if millicores % 1000 else f"{millicores // 1000}"


def memory(mib: int) -> str:
    """Return so many MiB."""
    for unit in ("Mi", "Gi"):
        if mib % 1024:
            return f"{mib}{unit}"
        mib //= 1024
    return f"{mib}Ti"


def resources(cpu_millicores: int, memory_mib: int) -> Resources:
    """Return a container's requests and its memory limit.

    Memory is limited to what is asked for, so that a pod is never killed for what another one uses. CPU is not limited:
    idle cores are free to use, and a limit would only slow a busy pod down.
    """
    held = memory(memory_mib)
    return {"requests": {"cpu": cpu(cpu_millicores), "memory": held}, "limits": {"memory": held}}
