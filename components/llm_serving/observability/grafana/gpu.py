"""The dashboard of the GPUs, from dcgm-exporter."""

from typing import Any

from llm_serving.observability.grafana.panels import (
    CELSIUS,
    COUNT,
    MIB,
    RATIO,
    WATT,
    Ask,
    Panel,
    Row,
    Variable,
    dashboard,
    graph,
    number,
)
from llm_serving.observability.inputs import MonitoringInputs

UID = "llm-serving-gpu"
_AT = '{Hostname=~"$node"}'
_LEGEND = "{{Hostname}} {{gpu}}"


def gpu(_: MonitoringInputs) -> dict[str, Any]:
    """The dashboard's JSON."""
    return dashboard(
        UID,
        "LLM serving: GPUs",
        "Use, memory, temperature and faults of every GPU.",
        variables=[Variable("node", "Node", "DCGM_FI_DEV_GPU_UTIL", "Hostname")],
        rows=[
            Row("Now", _now()),
            Row("Use", _use()),
            Row("Heat and power", _heat()),
            Row("Faults", _faults()),
        ],
    )


def _each(metric: str, factor: str = "") -> Ask:
    return Ask(f"max by (Hostname, gpu) ({metric}{_AT}){factor}", _LEGEND)


def _now() -> list[Panel]:
    return [
        number("GPUs", "GPUs that are seen.", COUNT, Ask(f"count(DCGM_FI_DEV_GPU_UTIL{_AT})"), width=6),
        number(
            "Mean tensor activity",
            "Share of the time in which tensor cores work, mean of all GPUs: how much of what is paid for is used.",
            RATIO,
            Ask(f"avg(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{_AT})"),
            width=6,
        ),
        number("Power", "Power that all GPUs draw.", WATT, Ask(f"sum(DCGM_FI_DEV_POWER_USAGE{_AT})"), width=6),
        number(
            "GPUs with an XID",
            "GPUs whose driver has reported an error since its exporter started.",
            COUNT,
            Ask(f"sum(DCGM_FI_DEV_XID_ERRORS{_AT} > bool 0)"),
            width=6,
        ),
    ]


def _use() -> list[Panel]:
    return [
        graph(
            "Busy",
            "Share of the time in which any kernel runs. High as soon as there is work, however little of the GPU it"
            " uses.",
            RATIO,
            _each("DCGM_FI_DEV_GPU_UTIL", " / 100"),
            maximum=1,
        ),
        graph(
            "Tensor cores active",
            "Share of the cycles in which tensor cores work: high in prefill, low in decoding.",
            RATIO,
            _each("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
            maximum=1,
        ),
        graph(
            "Memory bandwidth",
            "Share of the cycles in which memory is read or written: what bounds decoding.",
            RATIO,
            _each("DCGM_FI_PROF_DRAM_ACTIVE"),
            maximum=1,
        ),
        graph(
            "Memory used",
            "Memory that is in use. Runtimes take nearly all of it at their start and manage it themselves.",
            MIB,
            _each("DCGM_FI_DEV_FB_USED"),
            width=12,
        ),
        graph(
            "Share of memory used",
            "The same as a share of all memory that the GPU has.",
            RATIO,
            Ask(f"max by (Hostname, gpu) (llm_serving:gpu_memory_usage:ratio{_AT})", _LEGEND),
            maximum=1,
            width=12,
        ),
    ]


def _heat() -> list[Panel]:
    return [
        graph("Temperature", "Temperature of the GPU.", CELSIUS, _each("DCGM_FI_DEV_GPU_TEMP"), width=12),
        graph("Power by GPU", "Power that each GPU draws.", WATT, _each("DCGM_FI_DEV_POWER_USAGE"), width=12),
    ]


def _faults() -> list[Panel]:
    return [
        graph(
            "Last XID",
            "The newest error code of the driver, 0 where there was none. NVIDIA's XID catalogue says what each means.",
            COUNT,
            _each("DCGM_FI_DEV_XID_ERRORS"),
            width=12,
        ),
        graph(
            "Remapped memory rows",
            "Rows of memory that were replaced for errors that could not be corrected, and replacements that failed.",
            COUNT,
            Ask(f"max by (Hostname, gpu) (DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{_AT})", f"{_LEGEND} remapped"),
            Ask(f"max by (Hostname, gpu) (DCGM_FI_DEV_ROW_REMAP_FAILURE{_AT})", f"{_LEGEND} failed"),
            width=12,
        ),
    ]
