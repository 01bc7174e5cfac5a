"""The model loader waits, downloads, verifies and resumes; every failure is one line that says what to do."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from model_loader.__main__ import main
from model_loader.errors import LoadError
from model_loader.load import PARTIAL, load
from model_loader.manifest import File, Manifest, parse
from model_loader.source import Source, source
from moto import mock_aws

from llm_serving.registry.push import push
from llm_serving.registry.s3 import Bucket
from tests.model_files import safetensors

BUCKET = "bucket"
URL = f"s3://{BUCKET}/models/m/1"
CONTENT = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "parts/model.safetensors": safetensors(w=bytes(range(256)) * 40),
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        session: Any = boto3.Session()
        client = session.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def pushed(s3: Any, tmp_path: Path) -> Any:
    folder = tmp_path / "weights"
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    push(folder, Bucket(BUCKET, s3), "m", "1")
    return s3


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest(**content: bytes) -> Manifest:
    files = [File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()]
    return Manifest("m", "1", tuple(files))


@pytest.mark.usefixtures("pushed")
def test_loading_a_revision(tmp_path: Path) -> None:
    assert main([URL, str(tmp_path / "m")]) == 0

    assert found(tmp_path / "m") == CONTENT
    assert not (tmp_path / "m" / PARTIAL).exists()


@pytest.mark.usefixtures("pushed")
def test_without_a_destination_it_only_waits(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert main([URL]) == 0
        assert main([f"{URL}0", "--wait-seconds=0"]) == 1

    assert "m revision 1 is there: 0.0 MB" in caplog.messages
    assert f"{URL}0/manifest.json is not there yet; waited 0 s" in caplog.messages


def test_a_restart_fetches_only_what_is_missing_or_wrong(pushed: Any, tmp_path: Path) -> None:
    target = tmp_path / "m"
    assert main([URL, str(target)]) == 0
    (target / PARTIAL).mkdir()
    (target / PARTIAL / "0").write_bytes(b"half")
    (target / "config.json").write_bytes(b"[]")
    known = parse(pushed.get_object(Bucket=BUCKET, Key="models/m/1/manifest.json")["Body"].read())
    fetched: list[str] = []

    def download(path: str, to: Path) -> None:
        fetched.append(path)
        to.write_bytes(CONTENT[path])

    load(known, target, download)

    assert fetched == ["config.json"]
    assert found(target) == CONTENT


def test_a_file_that_is_not_what_the_manifest_says(tmp_path: Path) -> None:
    def wrong(_: str, to: Path) -> None:
        to.write_bytes(b"abd")

    with pytest.raises(LoadError, match=r"a has 3 bytes and SHA-256 .*, the manifest says 3 and"):
        load(manifest(a=b"abc"), tmp_path, wrong)

    assert not (tmp_path / "a").exists()


def test_a_disk_with_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_: Path) -> Any:
        return SimpleNamespace(total=10, used=8, free=2)

    monkeypatch.setattr(shutil, "disk_usage", usage)

    with pytest.raises(LoadError, match="give the volume, or the node's disk, more room"):
        load(manifest(a=b"abc"), tmp_path, lambda _, __: None)


def test_a_destination_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(LoadError, match="can't be written: Not a directory; mount a volume there"):
        load(manifest(a=b"abc"), tmp_path / "file", lambda _, __: None)


class Clock:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_waiting_for_a_manifest_that_comes_late(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now >= 25:
            s3.put_object(Bucket=BUCKET, Key="models/m/1/manifest.json", Body=b"here")

    with caplog.at_level(logging.INFO):
        assert source(URL).wait_for_manifest(600, clock=clock, sleep=sleep) == b"here"

    lines = [record.getMessage() for record in caplog.records if record.name.startswith("model_loader")]
    assert lines == [
        f"waiting: {URL}/manifest.json is not there yet ({waited} of at most 600 s)" for waited in (0, 10, 20)
    ]


@pytest.mark.usefixtures("s3")
def test_a_manifest_that_never_comes() -> None:
    clock = Clock()

    with pytest.raises(LoadError, match=r"s3://bucket/models/m/1/manifest\.json is not there yet; waited 30 s"):
        source(URL).wait_for_manifest(30, clock=clock, sleep=clock.sleep)


class Denying:
    """An S3 that refuses everything."""

    def list_objects_v2(self, **_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListObjectsV2")


def test_a_role_that_may_not_read(s3: Any) -> None:
    del s3  # moto answers STS
    clock = Clock()

    with pytest.raises(LoadError) as caught:
        Source(BUCKET, "models/m/1", Denying()).wait_for_manifest(600, clock=clock, sleep=clock.sleep)

    assert 55 < clock.now < 65
    assert "arn:aws:" in str(caught.value)
    assert "may not read s3://bucket/models/m/1/ (AccessDenied)" in str(caught.value)
    assert "s3:GetObject" in str(caught.value)


def test_a_bucket_that_is_not_there(s3: Any) -> None:
    del s3
    clock = Clock()

    with pytest.raises(LoadError, match="the bucket nowhere does not exist; waited"):
        source("s3://nowhere/models/m/1").wait_for_manifest(10, clock=clock, sleep=clock.sleep)


def test_a_file_that_the_manifest_names_and_the_bucket_lacks(pushed: Any, tmp_path: Path) -> None:
    pushed.delete_object(Bucket=BUCKET, Key="models/m/1/config.json")

    with pytest.raises(LoadError, match="is named by the manifest but is not there"):
        source(URL).download("config.json", tmp_path / "x")


@pytest.mark.usefixtures("s3")
def test_the_exit_status_of_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main([URL, str(tmp_path / "m"), "--wait-seconds", "0"]) == 1
    assert "is not there yet; waited 0 s" in caplog.text


@pytest.mark.parametrize("url", ["https://bucket/x", "s3://", "s3://bucket", "s3://bucket/", "bucket/models"])
def test_addresses_that_are_not_a_folder_of_a_bucket(url: str) -> None:
    with pytest.raises(LoadError, match="is not an address like s3://BUCKET/models/NAME/REVISION"):
        source(url)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("[]", "names no file"),
        ([{"path": "../x", "size": 1, "sha256": "0" * 64}], "is not a path below the model's folder"),
        ([{"path": "/x", "size": 1, "sha256": "0" * 64}], "is not a path below the model's folder"),
        ([{"path": "a/.partial", "size": 1, "sha256": "0" * 64}], "is not a path below the model's folder"),
        ([{"path": "a", "size": -1, "sha256": "0" * 64}], "gives a the size -1"),
        ([{"path": "a", "size": "1", "sha256": "0" * 64}], "gives a the size '1'"),
        ([{"path": "a", "size": 1, "sha256": "xyz"}], "a SHA-256 that isn't one"),
        ([{"path": "a", "size": 1}], "is not a manifest"),
        ([{"path": "a", "size": 1, "sha256": "0" * 64}] * 2, "or one twice"),
        (None, "is not a manifest"),
    ],
)
def test_manifests_that_are_not(files: Any, message: str) -> None:
    known = json.loads(files) if isinstance(files, str) else files

    with pytest.raises(LoadError, match=message):
        parse(json.dumps({"model": "m", "revision": "1", "files": known}).encode())


def test_a_manifest_that_is_not_json() -> None:
    with pytest.raises(LoadError, match="upload the revision again"):
        parse(b"<html>")
