"""A revision is pushed once, its manifest last, and never changes; an interrupted push is gone on with."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from model_loader.manifest import parse as loader_parse

from llm_serving.registry import s3
from llm_serving.registry.errors import (
    BucketError,
    InvalidModelError,
    MovedError,
    RegistryError,
    RevisionExistsError,
)
from llm_serving.registry.manifest import File, get, parse
from llm_serving.registry.push import push
from llm_serving.registry.s3 import Bucket
from tests.model_files import write_adapter, write_model
from tests.s3_harness import Network, Server, s3_client

FILES = ["config.json", "model.safetensors", "original/params.json", "tokenizer.json"]


def keys(bucket: Bucket) -> list[str]:
    return [entry["Key"] for entry in bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", [])]


def content(bucket: Bucket, key: str) -> bytes:
    return bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()


def uploads(bucket: Bucket) -> list[Any]:
    return bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])


class Counter(s3.Progress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self._lock = threading.Lock()

    def begin(self, total: int) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        with self._lock:
            self.done += count


def test_push(bucket: Bucket, model: Path) -> None:
    (model / ".cache").mkdir()
    (model / ".cache" / "x").write_text("a working copy's own")
    (model / "manifest.json").write_text("another push's")
    progress = Counter()

    done = push(model, bucket, "m", "1", progress)

    assert (done.prefix, done.uploaded) == ("models/m/1", True)
    assert keys(bucket) == [f"models/m/1/{name}" for name in sorted([*FILES, "manifest.json"])]
    assert progress.done == progress.total == done.sent_bytes == done.manifest.size
    written = content(bucket, "models/m/1/manifest.json")
    assert parse(written, "") == done.manifest
    assert [file.path for file in done.manifest.files] == FILES
    for file in done.manifest.files:
        data = (model / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert content(bucket, f"models/m/1/{file.path}") == data
    assert done.manifest.config["layers"] == 2
    assert done.manifest.config["architectures"] == ["LlamaForCausalLM"]


def test_the_model_loader_reads_the_manifest(bucket: Bucket, model: Path) -> None:
    done = push(model, bucket, "m", "1")
    read = loader_parse(content(bucket, "models/m/1/manifest.json"))
    assert [(file.path, file.size, file.sha256) for file in read.files] == [
        (file.path, file.size, file.sha256) for file in done.manifest.files
    ]


def test_s3_keeps_the_checksum_of_every_object(bucket: Bucket, model: Path) -> None:
    for file in push(model, bucket, "m", "1").manifest.files:
        head = bucket.client.head_object(Bucket=bucket.name, Key=f"models/m/1/{file.path}", ChecksumMode="ENABLED")
        assert head["ChecksumSHA256"] == file.checksum
        assert ("-7" in head["ChecksumSHA256"]) == (file.path == "model.safetensors")


def test_pushing_the_same_again_uploads_nothing(bucket: Bucket, model: Path) -> None:
    first = push(model, bucket, "m", "1")
    progress = Counter()
    again = push(model, bucket, "m", "1", progress)

    assert (again.uploaded, again.sent_bytes, again.manifest) == (False, 0, first.manifest)
    assert progress.done == progress.total


def test_a_revision_never_changes(bucket: Bucket, model: Path) -> None:
    push(model, bucket, "m", "1")
    before = content(bucket, "models/m/1/tokenizer.json")
    (model / "tokenizer.json").write_text('{"other": 1}')

    with pytest.raises(RevisionExistsError, match=r"m/1 exists with other content \(tokenizer\.json\).*a new revision"):
        push(model, bucket, "m", "1")
    assert content(bucket, "models/m/1/tokenizer.json") == before
    assert push(model, bucket, "m", "2").uploaded


def test_what_an_interrupted_push_of_other_files_left_is_replaced(bucket: Bucket, model: Path) -> None:
    size = (model / "model.safetensors").stat().st_size
    for name, data in (("tokenizer.json", b"[]"), ("model.safetensors", bytes(size))):
        bucket.client.put_object(Bucket=bucket.name, Key=f"models/m/1/{name}", Body=data)
    progress = Counter()

    assert push(model, bucket, "m", "1", progress).uploaded
    assert content(bucket, "models/m/1/tokenizer.json") == b"{}"
    assert content(bucket, "models/m/1/model.safetensors") == (model / "model.safetensors").read_bytes()
    assert progress.done == progress.total


def test_files_of_an_interrupted_push_are_not_sent_again(bucket: Bucket, model: Path) -> None:
    push(model, bucket, "m", "1")
    bucket.client.delete_object(Bucket=bucket.name, Key="models/m/1/manifest.json")
    bucket.client.delete_object(Bucket=bucket.name, Key="models/m/1/config.json")

    done = push(model, bucket, "m", "1")
    assert (done.uploaded, done.sent_bytes) == (True, (model / "config.json").stat().st_size)


@pytest.mark.parametrize("cut_after", [1_000, 1_500_000, 4_000_000, 6_000_000])
def test_a_cut_network_and_the_push_after_it(server: Server, bucket: Bucket, model: Path, cut_after: int) -> None:
    network = Network(server.port, cut_after)
    behind = Bucket(bucket.name, s3_client(network.port))
    with pytest.raises(BucketError, match=r"the connection to s3://.* was lost .*goes on where it stopped"):
        push(model, behind, "m", "1")
    assert network.is_cut.is_set()
    assert "models/m/1/manifest.json" not in keys(bucket)
    assert "models/m/1/model.safetensors" not in keys(bucket)
    kept = sum(
        part["Size"]
        for upload in uploads(bucket)
        for part in bucket.client.list_parts(Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]).get(
            "Parts", []
        )
    )

    done = push(model, bucket, "m", "1")
    large = (model / "model.safetensors").read_bytes()
    assert done.sent_bytes <= done.manifest.size - kept
    assert (cut_after < 4_000_000) or kept > 0
    assert content(bucket, "models/m/1/model.safetensors") == large
    assert uploads(bucket) == []


def test_an_upload_of_a_file_that_has_changed_since_is_not_mixed(server: Server, bucket: Bucket, model: Path) -> None:
    with pytest.raises(BucketError):
        push(model, Bucket(bucket.name, s3_client(Network(server.port, 5_000_000).port)), "m", "1")
    write_model(model, bytes(range(255, -1, -1)) * 4096 * 6)

    done = push(model, bucket, "m", "1")
    assert done.sent_bytes > 5 * s3.MEBIBYTE
    assert content(bucket, "models/m/1/model.safetensors") == (model / "model.safetensors").read_bytes()


def test_an_upload_without_checksums_is_begun_anew(bucket: Bucket, model: Path) -> None:
    key = "models/m/1/model.safetensors"
    foreign = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
    bucket.client.upload_part(
        Bucket=bucket.name, Key=key, UploadId=foreign, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32"
    )

    assert push(model, bucket, "m", "1").uploaded
    assert content(bucket, key) == (model / "model.safetensors").read_bytes()
    assert uploads(bucket) == []


def _between(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, operation: str, act: Callable[[dict[str, Any]], object]
) -> None:
    """Have something happen just before an operation is made for the first time."""
    original = getattr(bucket.client, operation)
    acted = threading.Event()

    def call(**arguments: Any) -> Any:
        if not acted.is_set():
            acted.set()
            act(arguments)
        return original(**arguments)

    monkeypatch.setattr(bucket.client, operation, call)


def test_a_request_whose_answer_was_lost_counts(
    bucket: Bucket, model: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = s3_client(server.port)
    for operation in ("complete_multipart_upload", "put_object"):
        call = getattr(twin, operation)
        _between(bucket, monkeypatch, operation, lambda made, call=call: call(**made))

    done = push(model, bucket, "m", "1")
    assert done.uploaded
    assert content(bucket, "models/m/1/model.safetensors") == (model / "model.safetensors").read_bytes()


def test_another_push_of_other_files_at_the_same_time(
    bucket: Bucket, model: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = s3_client(server.port)

    def interfere(_: Any) -> None:
        twin.put_object(Bucket=bucket.name, Key="models/m/1/model.safetensors", Body=b"another's")

    _between(bucket, monkeypatch, "complete_multipart_upload", interfere)
    with pytest.raises(MovedError, match="somebody else pushes the same revision"):
        push(model, bucket, "m", "1")
    assert "models/m/1/manifest.json" not in keys(bucket)
    assert content(bucket, "models/m/1/model.safetensors") == b"another's"


def test_a_file_that_is_replaced_before_the_manifest_is_written(
    bucket: Bucket, model: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = s3_client(server.port)
    size = (model / "model.safetensors").stat().st_size
    original = bucket.client.complete_multipart_upload

    def complete(**arguments: Any) -> Any:
        answer = original(**arguments)
        twin.put_object(Bucket=bucket.name, Key=arguments["Key"], Body=bytes(size))
        return answer

    monkeypatch.setattr(bucket.client, "complete_multipart_upload", complete)
    with pytest.raises(MovedError, match=r"model\.safetensors changed after they were sent"):
        push(model, bucket, "m", "1")
    assert "models/m/1/manifest.json" not in keys(bucket)


@pytest.mark.parametrize("same", [True, False])
def test_a_manifest_that_was_written_meanwhile(
    bucket: Bucket, model: Path, server: Server, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    twin = s3_client(server.port)
    original = bucket.client.put_object

    def put(**arguments: Any) -> Any:
        if arguments["Key"].endswith("manifest.json"):
            known = json.loads(arguments["Body"])
            if not same:
                known["files"].append({"path": "b", "size": 0, "sha256": "0" * 64})
            known["created"] = "2026-01-01T00:00:00Z"
            twin.put_object(Bucket=bucket.name, Key=arguments["Key"], Body=json.dumps(known).encode())
        return original(**arguments)

    monkeypatch.setattr(bucket.client, "put_object", put)
    if same:
        assert push(model, bucket, "m", "1").manifest.created == "2026-01-01T00:00:00Z"
    else:
        with pytest.raises(RevisionExistsError, match=r"other content \(b\)"):
            push(model, bucket, "m", "1")
    assert get(bucket, "m", "1").created == "2026-01-01T00:00:00Z"


def test_a_file_that_changes_while_it_is_pushed(bucket: Bucket, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = model / "model.safetensors"

    def write(_: Any) -> None:
        time.sleep(0.01)
        large.touch()

    _between(bucket, monkeypatch, "upload_part", write)
    with pytest.raises(RegistryError, match=r"model\.safetensors changed while it was pushed"):
        push(model, bucket, "m", "1")
    assert "models/m/1/manifest.json" not in keys(bucket)


def test_nothing_of_a_folder_with_problems_is_sent(bucket: Bucket, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(InvalidModelError, match="has no tokenizer"):
        push(model, bucket, "m", "1")
    assert keys(bucket) == []


@pytest.mark.parametrize(
    ("name", "revision", "near"),
    [
        ("a/b", "1", "a-b"),
        ("", "1", "a09a354"),
        ("m", "../x", "x"),
        ("m", ".hidden", "hidden"),
        ("m", "x" * 65, "x" * 64),
    ],
)
def test_names_that_are_not_one_part_of_a_key(bucket: Bucket, model: Path, name: str, revision: str, near: str) -> None:
    with pytest.raises(RegistryError, match=f"nearest valid value: {near}$"):
        push(model, bucket, name, revision)


@pytest.mark.parametrize("revision", ["aliases", "stable", "canary"])
def test_names_that_aliases_have(bucket: Bucket, model: Path, revision: str) -> None:
    with pytest.raises(RegistryError, match="is kept for aliases"):
        push(model, bucket, "m", revision)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"model":"m","revision":"1","files":[{}]}', b'{"model":"m","revision":"1","files":1}']
)
def test_a_manifest_that_is_none(bucket: Bucket, model: Path, text: bytes) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="models/m/1/manifest.json", Body=text)
    with pytest.raises(RegistryError, match=r"models/m/1/manifest\.json is no manifest"):
        push(model, bucket, "m", "1")


def test_a_bucket_that_is_not_there(bucket: Bucket, model: Path) -> None:
    with pytest.raises(BucketError, match="there is no bucket nowhere: `pulumi stack output modelBucketName`"):
        push(model, Bucket("nowhere", bucket.client), "m", "1")


def test_no_rights(server: Server, bucket: Bucket, model: Path) -> None:
    iam = s3_client(server.port, service="iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    allow = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    iam.put_user_policy(
        UserName="reader", PolicyName="read", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    )
    reader = Bucket(bucket.name, s3_client(server.port, key["AccessKeyId"], key["SecretAccessKey"]))

    with pytest.raises(BucketError, match=r"is not allowed \(AccessDenied\): pushing takes s3:PutObject"):
        push(model, reader, "m", "1")
    assert keys(bucket) == []


@pytest.mark.parametrize("code", ["QuotaExceeded", "XMinioStorageFull"])
def test_a_full_bucket(bucket: Bucket, model: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    sent: list[int] = []
    original = bucket.client.upload_part

    def refuse(**arguments: Any) -> Any:
        sent.append(arguments["PartNumber"])
        if len(sent) > 2:
            raise ClientError({"Error": {"Code": code, "Message": ""}}, "UploadPart")
        return original(**arguments)

    monkeypatch.setattr(bucket.client, "upload_part", refuse)
    with pytest.raises(BucketError, match=rf"is full \({code}\): raise its quota, or delete revisions"):
        push(model, bucket, "m", "1")
    assert "models/m/1/manifest.json" not in keys(bucket)


@given(st.integers(0, 5 * 10**12))
def test_parts_obey_the_limits(size: int) -> None:
    part = s3.part_bytes(size)
    assert part % s3.MEBIBYTE == 0
    assert -(-size // part) <= s3.MOST_PARTS
    held = part * s3.parts_in_memory(size)
    assert held <= max(s3.BUFFER_BYTES, 2 * part)
    assert held <= s3.BUFFER_BYTES or size > 600 * 10**9


@given(st.binary(max_size=3 * s3.MEBIBYTE // 1024))
def test_changes_are_found(data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    files = [File("a", len(data), digest), File("b", 1, "0" * 64)]
    known = parse(json.dumps({"model": "m", "revision": "1", "files": [vars_of(file) for file in files]}).encode(), "")
    assert known.changes(files) == []
    assert known.changes(files[:1]) == ["b"]
    assert known.changes([File("a", len(data) + 1, digest), files[1], File("c", 0, "")]) == ["a", "c"]


def vars_of(file: File) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256}


def test_an_adapter_is_a_revision_as_a_model_is(bucket: Bucket, tmp_path: Path) -> None:
    done = push(write_adapter(tmp_path), bucket, "summaries", "1")
    assert done.uploaded
    text = content(bucket, "models/summaries/1/manifest.json")
    assert get(bucket, "summaries", "1").config["target_modules"] == ["q_proj", "v_proj"]
    assert [file.path for file in loader_parse(text).files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert not push(tmp_path, bucket, "summaries", "1").uploaded
    write_adapter(tmp_path, peft_type="IA3")
    with pytest.raises(InvalidModelError, match="runtimes serve LORA only"):
        push(tmp_path, bucket, "summaries", "2")
    assert not [key for key in keys(bucket) if "/2/" in key]
