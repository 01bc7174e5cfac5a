"""Rewrites the catalog's instance types from what EC2 says of them.

Prices are in a file of their own and stay as they are. A row of a type that EC2 doesn't offer in the client's region
stays too, with its source and date.
"""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from llm_serving.capacity import catalog

FILE = "instances.csv"
_GPU_MODELS = "gpus.csv"
_SOURCES = ("source", "date")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a refresh did to the rows, by the names of their instance types."""

    added: tuple[str, ...]
    updated: Mapping[str, tuple[str, ...]]
    """The columns that changed; a new source and date alone are no change."""
    confirmed: tuple[str, ...]
    """Those that EC2 describes as the catalog did."""
    kept: tuple[str, ...]
    """Those that EC2 did not describe."""
    skipped: Mapping[str, str]
    """Those that EC2 describes and the catalog cannot, with the reason."""


def refresh(ec2_client: Any, *, today: date, folder: Path = catalog.FOLDER) -> Changes:
    """Rewrite instances.csv from boto3's describe_instance_types, in one step: a failure leaves the old file.

    Rows keep their order; a new type comes after the last one of its family, or at the end.

    :param ec2_client: A boto3 EC2 client.
    :param today: Date that the rows get.
    :param folder: The catalog's.
    :raises botocore.exceptions.ClientError: EC2 refused; nothing is written.
    """
    path = folder / FILE
    columns, rows = _read(path)
    models = _read(folder / _GPU_MODELS)[1]
    source = {"source": f"EC2 DescribeInstanceTypes in {ec2_client.meta.region_name}", "date": today.isoformat()}
    known = {row["name"]: row for row in rows}
    added: dict[str, dict[str, str]] = {}
    updated: dict[str, tuple[str, ...]] = {}
    confirmed: list[str] = []
    skipped: dict[str, str] = {}
    for described in _described(ec2_client):
        name = described["InstanceType"]
        gpu = _gpu_model(described, models)
        if isinstance(gpu, _Unknown):
            skipped[name] = gpu.reason
            continue
        row = _row(described, gpu["name"]) | source
        if name not in known:
            added[name] = row
        elif changed := tuple(key for key in columns if key not in _SOURCES and row[key] != known[name][key]):
            updated[name] = changed
        else:
            confirmed.append(name)
        if name in known:
            known[name].update(row)
    described_names = {*updated, *confirmed}
    kept = tuple(name for name in known if name not in described_names)
    _write(path, columns, _ordered(rows, added))
    return Changes(tuple(sorted(added)), updated, tuple(sorted(confirmed)), kept, skipped)


def _described(ec2_client: Any) -> Iterator[Mapping[str, Any]]:
    """Types with NVIDIA GPUs; EC2 has no filter for them."""
    for page in ec2_client.get_paginator("describe_instance_types").paginate():
        for described in page["InstanceTypes"]:
            gpus = described.get("GpuInfo", {}).get("Gpus", [])
            if any(gpu.get("Manufacturer") == "NVIDIA" for gpu in gpus):
                yield described


@dataclass(frozen=True, slots=True)
class _Unknown:
    reason: str


def _gpu_model(described: Mapping[str, Any], models: Iterable[Mapping[str, str]]) -> Mapping[str, str] | _Unknown:
    gpus = described["GpuInfo"]["Gpus"]
    if len(gpus) > 1:
        return _Unknown(f"it has {len(gpus)} kinds of GPU")
    gpu = gpus[0]
    memory = gpu.get("MemoryInfo", {}).get("SizeInMiB")
    if not memory:
        return _Unknown("EC2 does not say how much memory its GPU has")
    if not described.get("ProcessorInfo", {}).get("SupportedArchitectures"):
        return _Unknown("EC2 does not say what architecture it has")
    fractional = "yes" if _is_fraction(gpu) else "no"
    found = [row for row in models if row["aws_name"] == gpu["Name"] and row["fractional"] == fractional]
    if not found:
        return _Unknown(f"{_GPU_MODELS} has no GPU that AWS calls {gpu['Name']}")
    # An A100 has 40 or 80 GB under one name.
    return min(found, key=lambda row: abs(int(row["aws_memory_mib"] or memory) - memory))


def _is_fraction(gpu: Mapping[str, Any]) -> bool:
    # A fraction of a GPU has a count of 0 there.
    return gpu.get("Count", 0) < 1 or gpu.get("GpuPartitionSize", 1) < 1


def _row(described: Mapping[str, Any], model: str) -> dict[str, str]:
    gpu = described["GpuInfo"]["Gpus"][0]
    return {
        "name": described["InstanceType"],
        "vcpus": str(described["VCpuInfo"]["DefaultVCpus"]),
        "memory_gib": f"{described['MemoryInfo']['SizeInMiB'] / 1024:g}",
        "gpu": model,
        "gpus": "0" if _is_fraction(gpu) else str(gpu["Count"]),
        "gpu_memory_mib": str(gpu["MemoryInfo"]["SizeInMiB"]),
        "efa_interfaces": str(described.get("NetworkInfo", {}).get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)),
        "nvme_gb": str(described.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)),
        "architecture": described["ProcessorInfo"]["SupportedArchitectures"][0],
        "capacity_block": "yes" if "capacity-block" in described.get("SupportedUsageClasses", []) else "no",
    }


def _ordered(rows: list[dict[str, str]], added: Mapping[str, dict[str, str]]) -> list[dict[str, str]]:
    ordered = list(rows)
    for row in sorted(added.values(), key=lambda row: (_family(row), int(row["vcpus"]), row["name"])):
        family = _family(row)
        last = max((place for place, other in enumerate(ordered) if _family(other) == family), default=len(ordered) - 1)
        ordered.insert(last + 1, row)
    return ordered


def _family(row: Mapping[str, str]) -> str:
    return row["name"].partition(".")[0]


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), list(reader)


def _write(path: Path, columns: list[str], rows: Iterable[Mapping[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
        Path(temporary).chmod(path.stat().st_mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
