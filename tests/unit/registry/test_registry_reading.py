"""Pulling and verifying: what a folder or a revision is worth is told by checksums; nothing half-fetched is seen."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_serving.registry import s3
from llm_serving.registry.aliases import promote
from llm_serving.registry.download import pull
from llm_serving.registry.errors import BucketError, NotThereError, RegistryError
from llm_serving.registry.push import push
from llm_serving.registry.s3 import Bucket
from llm_serving.registry.verification import verify
from tests.s3_harness import Network, Server, s3_client

LARGE = "models/m/1/model.safetensors"


@pytest.fixture
def pushed(bucket: Bucket, model: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    push(model, bucket, "m", "1")
    promote(bucket, "m", "1", "stable")
    monkeypatch.setattr(s3, "READ_ATTEMPTS", 1)
    return bucket


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(bucket: Bucket, key: str = LARGE) -> int:
    """Put other content of the same size in place of an object."""
    size = bucket.client.head_object(Bucket=bucket.name, Key=key)["ContentLength"]
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=bytes(size))
    return size


@pytest.mark.parametrize("reference", ["1", "stable"])
def test_pull(pushed: Bucket, model: Path, tmp_path: Path, reference: str) -> None:
    target = tmp_path / "deep" / "m"
    done = pull(pushed, "m", reference, target)
    assert (done.fetched_bytes, done.manifest.revision) == (done.manifest.size, "1")
    assert found(target) == found(model)
    assert [path.name for path in target.parent.iterdir()] == ["m"]
    assert pull(pushed, "m", reference, target).fetched_bytes == 0


def test_an_empty_file(bucket: Bucket, model: Path, tmp_path: Path) -> None:
    (model / "empty").write_bytes(b"")
    push(model, bucket, "m", "1")
    pull(bucket, "m", "1", tmp_path / "m")
    assert found(tmp_path / "m") == found(model)
    assert verify(bucket, "m", "1", full=True).damaged == verify(bucket, "m", "1", full=False).damaged == []


@pytest.mark.parametrize("cut_after", [3_000, 5_000])
def test_a_cut_network_and_the_pull_after_it(
    server: Server, pushed: Bucket, model: Path, tmp_path: Path, cut_after: int
) -> None:
    network = Network(server.port, cut_after)
    with pytest.raises(BucketError, match="goes on where it stopped"):
        pull(Bucket(pushed.name, s3_client(network.port)), "m", "1", tmp_path / "m")
    assert not (tmp_path / "m").exists()

    done = pull(pushed, "m", "1", tmp_path / "m")
    assert found(tmp_path / "m") == found(model)
    assert done.fetched_bytes <= done.manifest.size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "model"]


def test_parts_that_are_there_are_not_fetched_again(
    pushed: Bucket, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pushed.client.get_object
    ranges: list[str] = []

    def get(**arguments: Any) -> Any:
        if arguments["Key"] == LARGE:
            ranges.append(arguments["Range"])
            if arguments["Range"].startswith("bytes=4194304"):
                raise KeyboardInterrupt
        return original(**arguments)

    monkeypatch.setattr(pushed.client, "get_object", get)
    with pytest.raises(KeyboardInterrupt):
        pull(pushed, "m", "1", tmp_path / "m")
    assert not (tmp_path / "m").exists()
    monkeypatch.setattr(pushed.client, "get_object", original)

    done = pull(pushed, "m", "1", tmp_path / "m")
    assert done.fetched_bytes < 4 * s3.MEBIBYTE
    assert found(tmp_path / "m") == found(model)


def test_a_damaged_object_is_never_seen(pushed: Bucket, tmp_path: Path) -> None:
    damage(pushed)
    with pytest.raises(RegistryError, match=r"model\.safetensors isn't what its manifest says"):
        pull(pushed, "m", "1", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_cause_is_told_and_not_what_it_stopped(pushed: Bucket, tmp_path: Path) -> None:
    pushed.client.delete_object(Bucket=pushed.name, Key="models/m/1/tokenizer.json")
    with pytest.raises(RegistryError, match=r"tokenizer\.json is missing or cut short"):
        pull(pushed, "m", "1", tmp_path / "m")


def test_a_missing_object(pushed: Bucket, tmp_path: Path) -> None:
    pushed.client.delete_object(Bucket=pushed.name, Key=LARGE)
    with pytest.raises(RegistryError, match="is missing or cut short: push the files as a new revision"):
        pull(pushed, "m", "1", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_folder_with_something_else_in_it(pushed: Bucket, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("mine")
    with pytest.raises(RegistryError, match=r"has something else in it .*name a folder that is not there yet"):
        pull(pushed, "m", "1", tmp_path / "m")
    assert found(tmp_path / "m") == {"config.json": b"mine"}


def test_an_empty_folder_is_filled(pushed: Bucket, model: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    pull(pushed, "m", "1", tmp_path / "m")
    assert found(tmp_path / "m") == found(model)


def test_a_disk_with_too_little_room(pushed: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_: Path) -> Any:
        return SimpleNamespace(free=2)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(RegistryError, match=r"0\.0 GB are to be fetched and .* has 0\.0 GB left: make room"):
        pull(pushed, "m", "1", tmp_path / "m")


def test_a_folder_that_cannot_be_written(pushed: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="can't be written: Not a directory"):
        pull(pushed, "m", "1", tmp_path / "file" / "m")


@pytest.mark.parametrize("path", ["../x", "/x", ".hidden", "a/../../x"])
def test_a_manifest_that_names_files_elsewhere(bucket: Bucket, tmp_path: Path, path: str) -> None:
    text = json.dumps({"model": "m", "revision": "1", "files": [{"path": path, "size": 1, "sha256": "0" * 64}]})
    bucket.client.put_object(Bucket=bucket.name, Key="models/m/1/manifest.json", Body=text.encode())
    with pytest.raises(RegistryError, match="isn't below the model's folder"):
        pull(bucket, "m", "1", tmp_path / "m")


def test_what_is_not_there(pushed: Bucket, tmp_path: Path) -> None:
    for reference, missing in (("2", "no revision 2 of m"), ("canary", "no canary of m")):
        with pytest.raises(NotThereError, match=missing):
            pull(pushed, "m", reference, tmp_path / "m")
        with pytest.raises(NotThereError, match=missing):
            verify(pushed, "m", reference, full=False)


@pytest.mark.parametrize("full", [True, False])
def test_verifying(pushed: Bucket, full: bool) -> None:
    done = verify(pushed, "m", "stable", full=full)
    assert (done.manifest.revision, done.damaged, done.unchecked, done.stray) == ("1", [], [], [])
    damage(pushed, "models/m/1/config.json")
    pushed.client.put_object(Bucket=pushed.name, Key="models/m/1/tokenizer.json", Body=b"{ }")
    pushed.client.delete_object(Bucket=pushed.name, Key="models/m/1/original/params.json")
    pushed.client.put_object(Bucket=pushed.name, Key="models/m/1/notes.txt", Body=b"")

    done = verify(pushed, "m", "1", full=full)
    damaged = {line.split()[0]: line for line in done.damaged}
    assert damaged.keys() | set(done.unchecked) == {"config.json", "original/params.json", "tokenizer.json"}
    assert damaged["original/params.json"] == "original/params.json is missing"
    assert "has 3 bytes" in damaged["tokenizer.json"]
    assert ("config.json" in damaged) == full  # put without a checksum: only reading it tells
    assert done.stray == ["notes.txt"]


def test_a_checksum_that_differs(pushed: Bucket) -> None:
    size = pushed.client.head_object(Bucket=pushed.name, Key=LARGE)["ContentLength"]
    pushed.client.put_object(Bucket=pushed.name, Key=LARGE, Body=bytes(size), ChecksumAlgorithm="SHA256")
    (line,) = verify(pushed, "m", "1", full=False).damaged
    assert "has the checksum " in line


def test_a_revision_of_an_earlier_version(pushed: Bucket) -> None:
    key = "models/m/1/manifest.json"
    known = json.loads(pushed.client.get_object(Bucket=pushed.name, Key=key)["Body"].read())
    old = {
        "model": "m",
        "revision": "1",
        "files": [{k: f[k] for k in ("path", "size", "sha256")} for f in known["files"]],
    }
    pushed.client.put_object(Bucket=pushed.name, Key=key, Body=json.dumps(old).encode())

    done = verify(pushed, "m", "1", full=False)
    assert (done.damaged, done.unchecked) == ([], ["model.safetensors"])
    assert verify(pushed, "m", "1", full=True).unchecked == []
