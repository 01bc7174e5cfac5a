"""`llm-serving catalog`: what is known, and what EC2 says about it."""

import csv
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError
from moto import mock_aws

from cli import catalog_refresh
from cli.catalog import KINDS
from cli.inputs import InputError
from llm_serving.capacity import catalog
from tests.unit.cli.cli_runner import ask

TODAY = date(2026, 11, 25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("instances.csv", "gpus.csv"):
        shutil.copy(catalog.FOLDER / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def described() -> list[Any]:
    """What EC2 says, by way of moto, which takes seconds to say it."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        return catalog_refresh.describe("us-east-1")


@pytest.fixture
def ec2(described: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(_region: str) -> list[Any]:
        return described

    monkeypatch.setattr(catalog_refresh, "describe", describe)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def instance(name: str, gpu: str, mib: int, count: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 8},
        "MemoryInfo": {"SizeInMiB": 65536},
        "GpuInfo": {
            "Gpus": [{"Name": gpu, "Manufacturer": "NVIDIA", "Count": count, "MemoryInfo": {"SizeInMiB": mib}}]
        },
        "NetworkInfo": {},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "SupportedUsageClasses": ["on-demand"],
        **more,
    }


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_part_is_listed(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    listed = ask(capsys, "catalog", "list", kind, "--json").json
    assert list(listed) == [kind]
    assert listed[kind]
    text = ask(capsys, "catalog", "list", kind).out
    first = next(iter(listed[kind][0].values()))
    assert str(first) in text


def test_a_price_that_is_not_known_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ask(capsys, "catalog", "list", "instances").out.splitlines()
    assert next(line for line in lines if line.startswith("p5e.48xlarge")).split()[-1] == "unknown"


def test_a_part_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "catalog", "list", "modles", "--json")
    assert answer.status == 1
    assert answer.json["findings"][0]["alternatives"] == ["models"]


@pytest.mark.usefixtures("ec2")
def test_what_ec2_says_is_what_the_catalog_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "instances.csv").read_text()
    assert catalog_refresh.run("us-east-1", TODAY, folder, as_json=True) == 0
    assert (
        capsys.readouterr().out
        == json.dumps(
            {"added": [], "changed": [], "left_out": {}, "rows": len(rows(catalog.FOLDER / "instances.csv"))}, indent=2
        )
        + "\n"
    )
    assert (folder / "instances.csv").read_text() == before


@pytest.mark.usefixtures("ec2")
def test_a_changed_and_a_lost_row_are_written_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "instances.csv"
    text = path.read_text()
    lost = next(line for line in text.splitlines() if line.startswith("g6.xlarge,"))
    path.write_text(text.replace(lost + "\n", "").replace("g5.xlarge,4,16,", "g5.xlarge,2,16,"))
    assert catalog_refresh.run("us-east-1", TODAY, folder, as_json=False) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["added    g6.xlarge", "changed  g5.xlarge"]
    written = {row["name"]: row for row in rows(path)}
    assert len(written) == len(rows(catalog.FOLDER / "instances.csv"))
    for row in rows(catalog.FOLDER / "instances.csv"):
        if row["name"] in ("g6.xlarge", "g5.xlarge"):
            source = {"source": "ec2 describe-instance-types us-east-1", "date": "2026-11-25"}
            assert written[row["name"]] == {**row, **source}
        else:
            assert written[row["name"]] == row


def test_gpus_that_the_catalog_lacks_are_left_out_and_told() -> None:
    gpus = rows(catalog.FOLDER / "gpus.csv")
    described = [
        instance("x1.large", "Z9000", 1),
        instance("x2.large", "A100", 12345),
        instance("x3.large", "L4", 22888),
        instance("x4.large", "L4", 2861, count=0),
        {"InstanceType": "m7i.large", "VCpuInfo": {"DefaultVCpus": 2}},
    ]
    result = catalog_refresh.refreshed([], gpus, described, "test", TODAY)
    assert result.left_out == {
        "x1.large": "gpus.csv has no Z9000 of 1 MiB",
        "x2.large": "gpus.csv has no A100 of 12345 MiB",
    }
    assert [(row["name"], row["gpu"]) for row in result.rows] == [("x3.large", "L4"), ("x4.large", "L4-fraction")]
    assert result.rows[0]["efa_interfaces"] == result.rows[0]["nvme_gb"] == "0"
    assert result.rows[0]["memory_gib"] == "64"


def test_no_credentials_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def client(*_: object, **__: object) -> object:
        raise NoCredentialsError

    monkeypatch.setattr("boto3.client", client)
    answer = ask(capsys, "catalog", "refresh", "--json")
    assert answer.status == 1
    assert answer.codes == ["INPUT_AWS"]
    assert answer.err.splitlines() == [
        "error     --region: EC2 in us-east-1 can't be asked: Unable to locate credentials [INPUT_AWS]"
    ]


@pytest.mark.usefixtures("ec2")
def test_a_catalog_that_cannot_be_written_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "instances.csv").write_text("\n".join((folder / "instances.csv").read_text().splitlines()[:20]) + "\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(InputError, match="can't be written: Permission denied"):
        catalog_refresh.run("us-east-1", TODAY, folder, as_json=True)
