"""`llm-serving catalog refresh`: rewrites the catalog's instance types from what EC2 says about them today.

EC2 knows sizes, not speeds: a GPU that gpus.csv lacks is told, and its instance types are left out. Prices have a file
of their own, which this does not touch.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cli import output
from cli.inputs import AWS, FILE, refuse
from llm_serving.capacity import catalog

GPU_CLASSES = ("g*", "p*")
"""Every instance type with NVIDIA GPUs is of a class that begins so."""
NOT_COMPARED = ("source", "date")
"""Columns whose change alone leaves a row as it was."""
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The rows that the file should have, and what changed."""

    rows: Sequence[Row]
    added: Sequence[str]
    changed: Sequence[str]
    left_out: Mapping[str, str]
    """Instance types that EC2 has and the file gets not, with the reason."""


def refreshed(
    rows: Iterable[Row], gpus: Sequence[Row], described: Iterable[Any], source: str, today: date
) -> Refreshed:
    """Bring the rows of instances.csv up to date with what EC2 describes.

    A row that EC2 agrees with, and one that it does not describe, stay as they are: no region sells every type.

    :param gpus: Rows of gpus.csv.
    :param described: As `describe_instance_types` has them; those without NVIDIA GPUs are passed over.
    """
    known = {row["name"]: row for row in rows}
    added: list[str] = []
    changed: list[str] = []
    left_out: dict[str, str] = {}
    for instance in sorted(described, key=_order):
        if not (gpu := _nvidia(instance)):
            continue
        name = instance["InstanceType"]
        if not (gpu_name := _gpu_name(gpu, gpus)):
            size = gpu["MemoryInfo"]["SizeInMiB"]
            left_out[name] = f"gpus.csv has no {gpu['Name']} of {size} MiB"
            continue
        row = {**_row(instance, gpu), "gpu": gpu_name, "source": source, "date": today.isoformat()}
        if name not in known:
            added.append(name)
        elif any(known[name][column] != row[column] for column in known[name] if column not in NOT_COMPARED):
            changed.append(name)
        else:
            continue
        known[name] = row
    return Refreshed(list(known.values()), added, changed, left_out)


def _order(instance: Any) -> tuple[str, int, str]:
    name = instance["InstanceType"]
    return name.partition(".")[0], instance["VCpuInfo"]["DefaultVCpus"], name


def _nvidia(instance: Any) -> Any:
    gpus = instance.get("GpuInfo", {}).get("Gpus", [])
    return next((gpu for gpu in gpus if gpu.get("Manufacturer") == "NVIDIA"), None)


def _gpu_name(gpu: Any, gpus: Sequence[Row]) -> str | None:
    """The catalog's name of a GPU: AWS calls some of different memory the same, and sells fractions of one."""
    fractional = "yes" if gpu["Count"] == 0 else "no"
    memory = ("", str(gpu["MemoryInfo"]["SizeInMiB"]))
    return next(
        (
            row["name"]
            for row in gpus
            if row["aws_name"] == gpu["Name"] and row["fractional"] == fractional and row["aws_memory_mib"] in memory
        ),
        None,
    )


def _row(instance: Any, gpu: Any) -> Row:
    return {
        "name": instance["InstanceType"],
        "vcpus": str(instance["VCpuInfo"]["DefaultVCpus"]),
        "memory_gib": f"{instance['MemoryInfo']['SizeInMiB'] / 1024:.10g}",
        "gpus": str(gpu["Count"]),
        "gpu_memory_mib": str(gpu["MemoryInfo"]["SizeInMiB"]),
        "efa_interfaces": str(instance["NetworkInfo"].get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)),
        "nvme_gb": str(instance.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)),
        "architecture": instance["ProcessorInfo"]["SupportedArchitectures"][0],
        "capacity_block": "yes" if "capacity-block" in instance["SupportedUsageClasses"] else "no",
    }


def describe(region: str) -> list[Any]:
    """The instance types of a region that may have NVIDIA GPUs; raises InputError where EC2 can't be asked."""
    import boto3  # noqa: PLC0415  only this command talks to AWS
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    session: Any = boto3
    try:
        paginator = session.client("ec2", region_name=region).get_paginator("describe_instance_types")
        pages = paginator.paginate(Filters=[{"Name": "instance-type", "Values": list(GPU_CLASSES)}])
        return [instance for page in pages for instance in page["InstanceTypes"]]
    except (BotoCoreError, ClientError) as error:
        text = " ".join(str(error).split())
        raise refuse(AWS, "--region", f"EC2 in {region} can't be asked: {text}") from None


def run(region: str, today: date, folder: Path = catalog.FOLDER, *, as_json: bool) -> int:
    """Rewrite instances.csv and return 0; raises InputError where EC2 can't be asked or the file can't be written."""
    instances = folder / "instances.csv"
    result = refreshed(
        _read(instances), _read(folder / "gpus.csv"), describe(region), f"ec2 describe-instance-types {region}", today
    )
    if result.added or result.changed:
        _write(instances, result.rows)
    if as_json:
        output.emit_json(
            {"added": result.added, "changed": result.changed, "left_out": result.left_out, "rows": len(result.rows)}
        )
        return 0
    output.emit(
        [
            *(f"added    {name}" for name in result.added),
            *(f"changed  {name}" for name in result.changed),
            *(f"left out {name}: {reason}" for name, reason in result.left_out.items()),
            f"{len(result.rows)} instance types; {len(result.added)} added, {len(result.changed)} changed",
        ]
    )
    return 0


def _read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[Row]) -> None:
    """Replace the file at once: a reader sees the old one or the new one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(text.getvalue(), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise refuse(FILE, str(path), f"can't be written: {error.strerror}") from None
