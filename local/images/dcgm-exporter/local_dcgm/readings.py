"""What a GPU of this node reads, in DCGM's names and units."""

from dataclasses import dataclass
from pathlib import Path

IDLE_WATTS, BUSY_WATTS = 16.0, 72.0
"""Of an L4, whose power limit is 72 W (NVIDIA L4 datasheet)."""
IDLE_CELSIUS, BUSY_CELSIUS = 35.0, 75.0
CLOCK_MHZ = 2040.0
"""An L4's highest clock."""
RESERVED_SHARE = 0.02
"""Of a GPU's memory, what the driver keeps for itself."""


@dataclass(frozen=True)
class Usage:
    """How busy this machine is, each from 0 to 1."""

    cpu: float
    memory: float


@dataclass
class Meter:
    """Tells how busy the machine was since it was last asked."""

    proc: Path = Path("/proc")
    _busy: float = 0
    _total: float = 0

    def read(self) -> Usage:
        """Return the CPUs' use since the last call, or since boot at the first one, and the memory's use now."""
        fields = [int(field) for field in (self.proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        total, idle = float(sum(fields)), float(fields[3] + fields[4])
        busy, passed = total - idle - self._busy, total - self._total
        self._busy, self._total = total - idle, total
        sizes = dict(line.split(":") for line in (self.proc / "meminfo").read_text().splitlines())
        free, all_of_it = (float(sizes[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
        return Usage(cpu=busy / passed if passed > 0 else 0.0, memory=1 - free / all_of_it)


@dataclass
class Gpu:
    """One GPU: `memory_mib` is its memory in MiB."""

    memory_mib: float
    energy_millijoules: float = 0

    def readings(self, usage: Usage, seconds: float) -> dict[str, float]:
        """Return every field by DCGM's name. `seconds` have passed since it was last asked."""
        watts = IDLE_WATTS + (BUSY_WATTS - IDLE_WATTS) * usage.cpu
        self.energy_millijoules += watts * seconds * 1000
        celsius = IDLE_CELSIUS + (BUSY_CELSIUS - IDLE_CELSIUS) * usage.cpu
        reserved = round(self.memory_mib * RESERVED_SHARE)
        used = round((self.memory_mib - reserved) * usage.memory)
        return {
            "DCGM_FI_DEV_GPU_UTIL": round(usage.cpu * 100),
            "DCGM_FI_DEV_MEM_COPY_UTIL": round(usage.memory * 100),
            "DCGM_FI_DEV_FB_USED": used,
            "DCGM_FI_DEV_FB_FREE": round(self.memory_mib - reserved - used),
            "DCGM_FI_DEV_FB_RESERVED": reserved,
            "DCGM_FI_DEV_GPU_TEMP": round(celsius),
            "DCGM_FI_DEV_MEMORY_TEMP": round(celsius),
            "DCGM_FI_DEV_POWER_USAGE": round(watts, 3),
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": round(self.energy_millijoules),
            "DCGM_FI_DEV_SM_CLOCK": CLOCK_MHZ,
            "DCGM_FI_DEV_XID_ERRORS": 0,
            "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
            "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 0,
            "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
            "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": 0,
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE": round(usage.cpu, 6),
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": round(usage.cpu, 6),
            "DCGM_FI_PROF_DRAM_ACTIVE": round(usage.memory, 6),
        }


FIELDS = tuple(Gpu(memory_mib=1).readings(Usage(0, 0), 0))
"""The counters that it knows."""


@dataclass(frozen=True)
class Counter:
    """A line of the list of counters."""

    name: str
    kind: str
    help: str


def counters(text: str) -> list[Counter]:
    """Return the counters of a list; raises ValueError for a line that the exporter would refuse."""
    found: list[Counter] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 3 or parts[1] not in ("gauge", "counter"):
            raise ValueError(f"malformed CSV record, expected 3 fields: {line!r}")
        if parts[0] not in FIELDS:
            raise ValueError(f"could not find DCGM field; err: unknown field {parts[0]}")
        found.append(Counter(*parts))
    return found


def exposition(wanted: list[Counter], labels: list[dict[str, str]], values: list[dict[str, float]]) -> str:
    """Return the metrics in Prometheus's text format: `labels` and `values` have an entry for each GPU."""
    lines: list[str] = []
    for counter in wanted:
        lines += [f"# HELP {counter.name} {counter.help}", f"# TYPE {counter.name} {counter.kind}"]
        for names, readings in zip(labels, values, strict=True):
            text = ",".join(f'{name}="{value}"' for name, value in names.items())
            lines.append(f"{counter.name}{{{text}}} {readings[counter.name]}")
    return "\n".join(lines) + "\n"
