"""The image that stands for the DCGM exporter: its counters, its labels, and the lists that it refuses."""

from pathlib import Path

import pytest
from local_dcgm.__main__ import Exporter
from local_dcgm.readings import FIELDS, Counter, Gpu, Meter, Usage, counters

from llm_serving.observability import metrics


def test_it_knows_every_counter_that_the_queries_use() -> None:
    assert {metric.name for metric in metrics.GPU} == set(FIELDS)


def test_a_busy_gpu() -> None:
    gpu = Gpu(memory_mib=1000)
    readings = gpu.readings(Usage(cpu=0.5, memory=0.25), 10)
    assert readings["DCGM_FI_DEV_GPU_UTIL"] == 50
    assert readings["DCGM_FI_DEV_FB_USED"] == 245
    assert sum(readings[f"DCGM_FI_DEV_FB_{part}"] for part in ("USED", "FREE", "RESERVED")) == 1000
    assert readings["DCGM_FI_DEV_POWER_USAGE"] == 44
    assert readings["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 440_000
    assert gpu.readings(Usage(cpu=0, memory=0), 1)["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 456_000


def test_use_is_measured_between_two_readings(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 750 kB\n")
    (tmp_path / "stat").write_text("cpu  100 0 0 100 0 0 0 0 0 0\n")
    meter = Meter(tmp_path)
    assert meter.read() == Usage(cpu=0.5, memory=0.25)
    (tmp_path / "stat").write_text("cpu  110 0 0 190 0 0 0 0 0 0\n")
    assert meter.read().cpu == pytest.approx(0.1)
    assert meter.read().cpu == 0


def test_one_series_for_each_gpu_and_wanted_counter() -> None:
    wanted = [Counter("DCGM_FI_DEV_XID_ERRORS", "gauge", "Last error")]
    text = Exporter(wanted, "node-1", {"count": 2, "product": "NVIDIA L4", "memory_mib": 23034}).metrics()
    assert text.splitlines()[:2] == [
        "# HELP DCGM_FI_DEV_XID_ERRORS Last error",
        "# TYPE DCGM_FI_DEV_XID_ERRORS gauge",
    ]
    series = text.splitlines()[2:]
    assert len(series) == 2
    assert series[1].startswith('DCGM_FI_DEV_XID_ERRORS{gpu="1",UUID="GPU-')
    assert series[1].endswith('device="nvidia1",modelName="NVIDIA L4",Hostname="node-1"} 0')


def test_a_list_of_counters() -> None:
    text = "# a comment\n\nDCGM_FI_DEV_GPU_UTIL, gauge, GPU utilization (in %).\n"
    assert counters(text) == [Counter("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("DCGM_FI_DEV_GPU_UTIL, gauge", "malformed CSV record"),
        ("DCGM_FI_DEV_GPU_UTIL, histogram, x", "malformed CSV record"),
        ("DCGM_FI_DEV_NO_SUCH, gauge, x", "could not find DCGM field"),
    ],
)
def test_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counters(line)
