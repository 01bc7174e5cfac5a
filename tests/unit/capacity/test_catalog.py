"""The catalog's files: every row is whole and sourced, what is unknown stays unknown, and EC2 can renew the types."""

import csv
import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.ec2.models.instance_types import InstanceTypeBackend

from llm_serving.capacity import catalog
from llm_serving.capacity.catalog import refresh as refreshing
from llm_serving.capacity.catalog.refresh import refresh

TABLES = ("gpus", "instances", "prices", "runtimes", "node_images", "cuda", "kubernetes")
TODAY = date(2026, 11, 26)


def rows(table: str, folder: Path = catalog.FOLDER) -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_unique_and_names_its_source_and_date(table: str) -> None:
    lines = rows(table)

    assert lines
    for line in lines:
        assert line["source"]
        assert date.fromisoformat(line["date"]) <= TODAY
        assert None not in line.values()
    keys = [tuple(list(line.values())[:3]) if table == "node_images" else next(iter(line.values())) for line in lines]
    assert len(keys) == len(set(keys))


def test_every_model_names_its_source_and_date() -> None:
    entries = json.loads((catalog.FOLDER / "models.json").read_text(encoding="utf-8"))

    for entry in entries:
        assert entry["source"]
        date.fromisoformat(entry["date"])
    names = [name.casefold() for entry in entries for name in (entry["name"], *entry["aliases"])]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "gpu", "gpus", "mib", "price"),
    [
        ("g4dn.xlarge", "T4", 1, 15360, 0.526),  # AWS says 16384
        ("g5.12xlarge", "A10G", 4, 22888, 5.672),  # CUDA sees more than AWS says
        ("p4d.24xlarge", "A100", 8, 40960, 21.957642),
        ("p4de.24xlarge", "A100-80GB", 8, 81920, 27.44705),
        ("p5.4xlarge", "H100", 1, 81079, 6.88),
        ("p5e.48xlarge", "H200", 8, 143155, None),
        ("p6e-gb200.36xlarge", "GB200", 4, 189471, None),
        ("g6f.large", "L4-fraction", 0, 2861, 0.202),
        ("p3.8xlarge", "V100", 4, 16384, 12.24),
        ("g7.48xlarge", "RTXPRO4500", 8, 32768, 28.51328),
    ],
)
def test_instance_types(name: str, gpu: str, gpus: int, mib: int, price: float | None) -> None:
    found = catalog.instance(name)

    assert (found.gpu.name, found.gpus, found.gpu_memory_mib, found.usd_per_hour) == (gpu, gpus, mib, price)


def test_a_price_is_never_zero_and_every_priced_type_is_there() -> None:
    assert all(each.usd_per_hour is None or each.usd_per_hour > 0 for each in catalog.instances().values())
    assert {line["name"] for line in rows("prices")} == set(catalog.instances())
    assert {each.family for each in catalog.instances().values()} >= {
        *("g4dn", "g5", "g5g", "g6", "gr6", "g6e", "g6f", "gr6f", "g7", "g7e"),
        *("p3", "p3dn", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300", "p6e-gb200"),
    }


def test_gpus_know_their_drivers_and_links() -> None:
    gpus = catalog.gpus()

    assert gpus["RTXPRO4500"].minimum_driver == 595
    assert gpus["V100"].last_driver == 580
    assert gpus["L4-fraction"].last_driver == 580
    assert gpus["L4"].last_driver is None
    assert {name for name, gpu in gpus.items() if gpu.nvlink} == {
        *("V100", "A100", "A100-80GB", "H100", "H200", "B200", "B300", "GB200")
    }


def test_runtimes() -> None:
    assert {name: (each.version, each.cuda, each.memory_fraction) for name, each in catalog.runtimes().items()} == {
        "tgi": ("3.3.7", (12, 4), 0.90),
        "vllm": ("0.33.0", (13, 0), 0.92),
        "tensorrt-llm": ("1.2.1", (13, 0), 0.90),
    }
    assert catalog.runtime("tgi").framework_cuda == (12, 8)
    assert catalog.runtime("tgi").ptx_from == (9, 0)
    assert catalog.runtime("vllm").ptx_from is None


def test_drivers_and_dates() -> None:
    newest = {(each.ami_type, each.kubernetes_version): each for each in catalog.node_images()}

    assert newest["AL2023_x86_64_NVIDIA", "1.36"].driver == (580, 159, 3)
    assert newest["BOTTLEROCKET_x86_64_NVIDIA", "1.36"].driver == (580, 178, 4)
    assert not newest["AL2023_x86_64_NVIDIA", "1.36"].has_device_plugin
    assert newest["BOTTLEROCKET_x86_64_NVIDIA", "1.36"].has_device_plugin
    assert catalog.cuda_releases()[12, 9].minimum_driver == 525
    assert catalog.cuda_releases()[13, 0].native_driver == (580, 65, 6)
    assert catalog.kubernetes_releases()["1.34"].standard_support_ends == "2026-12-02"
    assert catalog.kubernetes_releases()["1.37"].standard_support_ends is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Llama-3.1-8B", "Llama-3.1-8B"),
        ("meta-llama/llama-3.1-8b-instruct", "Llama-3.1-8B"),
        ("qwen2-5-7b-instruct", "Qwen2.5-7B-Instruct"),
        ("llama-3-3-70b-instruct", "Llama-3.3-70B-Instruct"),
        ("smollm2-135m", "SmolLM2-135M"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
    ],
)
def test_models_are_found_by_any_of_their_names(name: str, found: str) -> None:
    assert catalog.model(name).name == found


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(catalog.UnknownError, match=r"'g5\.13xlarge' is no instance type .*g5\.12xlarge"):
        catalog.instance("g5.13xlarge")
    with pytest.raises(catalog.UnknownError, match=r"'meta-llama/Llama-3\.1-7B' is no model .*Llama-3\.1-8B"):
        catalog.model("meta-llama/Llama-3.1-7B")
    with pytest.raises(catalog.UnknownError, match=r"'tgy' is no runtime .*tgi"):
        catalog.runtime("tgy")
    with pytest.raises(catalog.UnknownError, match="nearest: tgi, vllm, tensorrt-llm"):
        catalog.runtime("")


def test_a_row_tells_its_source() -> None:
    assert "karpenter" in catalog.row("prices", "g5.xlarge")["source"]
    with pytest.raises(catalog.UnknownError):
        catalog.row("prices", "g5.huge")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("instances.csv", "gpus.csv", "prices.csv"):
        shutil.copy(catalog.FOLDER / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def ec2() -> Any:
    """What boto3 makes of moto's answer: of all GPU types and some others, as writing out all 1400 takes seconds."""
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        types: list[Any] = InstanceTypeBackend.instance_types
        few = [each for each in types if "GpuInfo" in each or each["InstanceType"].startswith("m7i.")]
        patch.setattr(InstanceTypeBackend, "instance_types", few)
        client = session.client("ec2", region_name="us-east-1")
        pages = list(client.get_paginator("describe_instance_types").paginate())
    return Ec2(*(each for page in pages for each in page["InstanceTypes"]), region="us-east-1")


def edit(folder: Path, name: str, **values: str) -> None:
    lines = rows("instances", folder)
    for line in lines:
        if line["name"] == name:
            line.update(values)
    save(folder, [line for line in lines if values or line["name"] != name])


def save(folder: Path, lines: list[dict[str, str]]) -> None:
    with (folder / "instances.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def test_refresh_corrects_adds_and_keeps(ec2: Any, folder: Path) -> None:
    edit(folder, "g5.xlarge", vcpus="5", gpu_memory_mib="1")
    edit(folder, "g6.48xlarge")
    edit(folder, "g6f.large", gpus="1", gpu="L4")
    before = rows("instances", folder)
    prices = (folder / "prices.csv").read_bytes()

    changes = refresh(ec2, today=TODAY, folder=folder)

    after = {line["name"]: line for line in rows("instances", folder)}
    assert changes.added == ("g6.48xlarge",)
    assert changes.updated == {"g5.xlarge": ("vcpus", "gpu_memory_mib"), "g6f.large": ("gpu", "gpus")}
    assert changes.kept == ("p3.2xlarge", "p3.8xlarge", "p3.16xlarge", "p6e-gb200.36xlarge")
    assert changes.skipped == {}
    assert len(changes.confirmed) == 62
    assert after["g5.xlarge"]["vcpus"] == "4"
    assert after["g5.xlarge"]["source"] == "EC2 DescribeInstanceTypes in us-east-1"
    assert after["g5.xlarge"]["date"] == "2026-11-26"
    assert after["g6f.large"]["gpus"] == "0"
    assert after["p3.2xlarge"] in before
    names = list(after)
    assert [name for name in names if name != "g6.48xlarge"] == [line["name"] for line in before]
    assert names[names.index("g6.48xlarge") - 1] == "g6.24xlarge"
    assert (folder / "prices.csv").read_bytes() == prices
    assert sorted(entry.name for entry in folder.iterdir()) == ["gpus.csv", "instances.csv", "prices.csv"]


def test_refreshing_twice_changes_nothing(ec2: Any, folder: Path) -> None:
    refresh(ec2, today=TODAY, folder=folder)
    once = (folder / "instances.csv").read_bytes()

    changes = refresh(ec2, today=TODAY, folder=folder)

    assert (folder / "instances.csv").read_bytes() == once
    assert not changes.added
    assert not changes.updated
    assert [{**line, "source": "", "date": ""} for line in rows("instances", folder)] == [
        {**line, "source": "", "date": ""} for line in rows("instances")
    ]


class Ec2:
    """Says what a test wants of instance types."""

    def __init__(self, *described: dict[str, Any], region: str = "eu-west-1") -> None:
        self._described = described
        self.meta = SimpleNamespace(region_name=region)

    def get_paginator(self, name: str) -> Any:
        return self

    def paginate(self) -> Iterator[dict[str, Any]]:
        for described in self._described:
            yield {"InstanceTypes": [described]}


def described(name: str, *gpus: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 4},
        "MemoryInfo": {"SizeInMiB": 16384},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "GpuInfo": {"Gpus": list(gpus)},
        **values,
    }


def gpu(name: str, memory: int | None = 22888) -> dict[str, Any]:
    memory_info = {"MemoryInfo": {"SizeInMiB": memory}} if memory else {}
    return {"Name": name, "Manufacturer": "NVIDIA", "Count": 1, **memory_info}


def test_refresh_skips_what_the_catalog_cannot_describe(folder: Path) -> None:
    before = (folder / "instances.csv").read_bytes()
    ec2 = Ec2(
        described("g9.xlarge", gpu("L9")),
        described("g5.mixed", gpu("A10G"), gpu("L4")),
        described("g5.blank", gpu("A10G", None)),
        described("g5.odd", gpu("A10G"), ProcessorInfo={}),
        described("g4ad.xlarge", {"Name": "Radeon", "Manufacturer": "AMD", "Count": 1}),
        described("m7i.large", GpuInfo={}),
    )

    changes = refresh(ec2, today=TODAY, folder=folder)

    assert changes.skipped == {
        "g9.xlarge": "gpus.csv has no GPU that AWS calls L9",
        "g5.mixed": "it has 2 kinds of GPU",
        "g5.blank": "EC2 does not say how much memory its GPU has",
        "g5.odd": "EC2 does not say what architecture it has",
    }
    assert (folder / "instances.csv").read_bytes() == before


def test_a_new_family_comes_last(folder: Path) -> None:
    refresh(Ec2(described("g8.xlarge", gpu("L4"))), today=TODAY, folder=folder)

    assert rows("instances", folder)[-1]["name"] == "g8.xlarge"


def test_a_failed_write_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "instances.csv").read_bytes()

    def full(descriptor: int, *arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(refreshing.os, "fdopen", full)
    with pytest.raises(OSError, match="No space left"):
        refresh(Ec2(described("g8.xlarge", gpu("L4"))), today=TODAY, folder=folder)

    assert (folder / "instances.csv").read_bytes() == before
    assert sorted(entry.name for entry in folder.iterdir()) == ["gpus.csv", "instances.csv", "prices.csv"]
