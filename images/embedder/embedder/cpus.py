"""The CPUs that this process may use, which is seldom what the machine has: a container's limit is a share of time.

And whether they compute in bfloat16.
"""

import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
"""Linux's names of the instructions: AMD from Zen 4 on, Intel from Cooper Lake on; on AWS those of m7a and m7i."""


def available_cpus(cgroup: Path = _ROOT) -> int:
    """The CPUs of the process's affinity and its container's limit, rounded up; at least one."""
    allowed = len(os.sched_getaffinity(0))
    limit = _limit(cgroup)
    return allowed if limit is None else max(1, min(allowed, math.ceil(limit)))


def _limit(cgroup: Path) -> float | None:
    """The limit of cgroup v2, else of v1; None where there is none."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def computes_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies matrices of bfloat16 by instructions of its own."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _BFLOAT16.isdisjoint(flags.split())
