"""A revision is pushed once, its manifest last, and never changes."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from llm_serving.model_registry import RevisionExistsError, push

BUCKET = "models"


@pytest.fixture
def s3() -> Iterator[Any]:
    session: Any = boto3.Session()
    with mock_aws():
        client = session.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.safetensors").write_bytes(b"weights")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x").write_text("a working copy's own")
    return tmp_path


def keys(s3: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_push(s3: Any, weights: Path) -> None:
    done = push(weights, BUCKET, "m", "1", s3)

    assert (done.prefix, done.files, done.size_bytes, done.uploaded) == ("models/m/1", 2, 9, True)
    assert keys(s3) == ["models/m/1/config.json", "models/m/1/manifest.json", "models/m/1/parts/a.safetensors"]
    manifest = json.loads(s3.get_object(Bucket=BUCKET, Key="models/m/1/manifest.json")["Body"].read())
    assert manifest == {
        "model": "m",
        "revision": "1",
        "files": [
            {"path": "config.json", "size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()},
            {"path": "parts/a.safetensors", "size": 7, "sha256": hashlib.sha256(b"weights").hexdigest()},
        ],
    }


def test_pushing_the_same_again_uploads_nothing(s3: Any, weights: Path) -> None:
    push(weights, BUCKET, "m", "1", s3)
    before = s3.head_object(Bucket=BUCKET, Key="models/m/1/config.json")["LastModified"]

    assert not push(weights, BUCKET, "m", "1", s3).uploaded
    assert s3.head_object(Bucket=BUCKET, Key="models/m/1/config.json")["LastModified"] == before


def test_a_revision_never_changes(s3: Any, weights: Path) -> None:
    push(weights, BUCKET, "m", "1", s3)
    (weights / "config.json").write_text("{1}")

    with pytest.raises(RevisionExistsError, match=r"s3://models/models/m/1 exists with other content \(config\.json\)"):
        push(weights, BUCKET, "m", "1", s3)
    assert s3.get_object(Bucket=BUCKET, Key="models/m/1/config.json")["Body"].read() == b"{}"
    assert push(weights, BUCKET, "m", "2", s3).uploaded


def test_files_without_a_manifest_are_no_revision(s3: Any, weights: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key="models/m/1/config.json", Body=b"half of an earlier push")

    assert push(weights, BUCKET, "m", "1", s3).uploaded
    assert s3.get_object(Bucket=BUCKET, Key="models/m/1/config.json")["Body"].read() == b"{}"


def test_the_manifest_is_written_last(s3: Any, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(s3, "upload_file", fail)
    with pytest.raises(OSError, match="the network is down"):
        push(weights, BUCKET, "m", "1", s3)

    assert keys(s3) == []


def test_another_push_at_the_same_time(s3: Any, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"model": "m", "revision": "1", "files": [{"path": "b", "size": 0, "sha256": "0" * 64}]}
    upload = s3.upload_file

    def racing(*arguments: Any, **keywords: Any) -> None:
        upload(*arguments, **keywords)
        s3.put_object(Bucket=BUCKET, Key="models/m/1/manifest.json", Body=json.dumps(other).encode())

    monkeypatch.setattr(s3, "upload_file", racing)
    with pytest.raises(RevisionExistsError):
        push(weights, BUCKET, "m", "1", s3)


@pytest.mark.parametrize(("model", "revision"), [("a/b", "1"), ("", "1"), ("m", "../x"), ("m", ".hidden")])
def test_names_that_are_not_one_part_of_a_key(s3: Any, weights: Path, model: str, revision: str) -> None:
    with pytest.raises(ValueError, match="must be one part of a key"):
        push(weights, BUCKET, model, revision, s3)


def test_an_empty_folder(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no files"):
        push(tmp_path, BUCKET, "m", "1", s3)
