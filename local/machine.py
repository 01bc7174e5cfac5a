"""The machine that a measurement is from, in the words that are written down with it."""

import os
import platform
from pathlib import Path


def described() -> dict[str, str | int]:
    """Its processor, cores, memory in GiB, and Linux version."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    gib = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 1,
        "memory_gib": gib,
        "linux": ".".join(platform.release().split(".")[:2]),
    }


def sentence(machine: dict[str, str | int]) -> str:
    """A machine as the pages name it."""
    return "{cores} cores of {cpu}, {memory_gib} GiB, Linux {linux}".format(**machine)
