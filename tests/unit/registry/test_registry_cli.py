"""`llm-serving models`: what a person sees, what a program reads, and what an interrupted command leaves."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli import transfer
from cli.models import VARIABLE
from llm_serving.registry.s3 import Bucket
from tests.model_files import write_model
from tests.s3_harness import Network, Server
from tests.unit.cli.cli_runner import Answer, ask

ROOT = Path(__file__).resolve().parents[3]


def variables(port: int, bucket: str) -> dict[str, str]:
    return {
        VARIABLE: bucket,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_MAX_ATTEMPTS": "1",
    }


@pytest.fixture(autouse=True)
def environment(server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(server.port, bucket.name).items():
        monkeypatch.setenv(name, value)


def models(capsys: pytest.CaptureFixture[str], *arguments: str) -> Answer:
    return ask(capsys, "models", *arguments)


def push(capsys: pytest.CaptureFixture[str], folder: Path, revision: str, *more: str) -> Answer:
    return models(capsys, "push", str(folder), "--name", "m", "--revision", revision, *more)


def test_a_revision_from_push_to_pull(
    capsys: pytest.CaptureFixture[str], model: Path, bucket: Bucket, tmp_path: Path
) -> None:
    pushed = push(capsys, model, "a")
    assert (pushed.status, pushed.err) == (0, "")
    assert pushed.out == (
        f"s3://{bucket.name}/models/m/a: 4 files, 6.3 MB\n"
        "in the stack file: revision: a, weightGb: 0.007\n"
        "in use: llm-serving models promote m a\n"
    )
    assert push(capsys, model, "a").out == f"s3://{bucket.name}/models/m/a is there already: 4 files, 6.3 MB\n"
    push(capsys, write_model(tmp_path / "b"), "b")

    assert models(capsys, "promote", "m", "a").out == "stable of m is a\n"
    assert models(capsys, "promote", "m", "a").out == "stable of m is a already\n"
    assert models(capsys, "promote", "m", "b").out == "stable of m is b, was a\n"
    assert models(capsys, "promote", "m", "b", "--to", "canary").out == "canary of m is b\n"
    listed = [line.split()[:5] for line in models(capsys, "list").out.splitlines()]
    assert listed[0] == ["model", "revision", "alias", "size", "files"]
    assert ["m", "b", "stable", "canary", listed[1][4] if "b" in listed[1] else listed[2][4]] in listed
    assert models(capsys, "rollback", "m").out == "stable of m is a again\n"

    shown = models(capsys, "show", "m").out
    assert f"s3://{bucket.name}/models/m/a: 6.3 MB, pushed 20" in shown
    assert "architectures   LlamaForCausalLM\n" in shown
    assert "model.safetensors" in shown
    verified = models(capsys, "verify", "m", "stable")
    assert verified.out == "m a is whole: 4 files, 6.3 MB, compared by S3's checksums\n"
    assert models(capsys, "verify", "m", "--full").out == "m a is whole: 4 files, 6.3 MB, read and hashed\n"
    pulled = models(capsys, "pull", "m", "--into", str(tmp_path / "out"))
    assert pulled.out == f"m a is in {tmp_path}/out: 4 files, 6.3 MB, verified\n"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_answers_for_programs(capsys: pytest.CaptureFixture[str], model: Path, bucket: Bucket, tmp_path: Path) -> None:
    brief = {"model": "m", "revision": "a", "file_count": 4, "weight_gb": 0.007}
    pushed = push(capsys, model, "a", "--json").json
    assert pushed.items() >= {**brief, "uploaded": True, "url": f"s3://{bucket.name}/models/m/a"}.items()
    assert (
        pushed["sent_bytes"] == pushed["size_bytes"] == sum(f.stat().st_size for f in model.rglob("*") if f.is_file())
    )
    promoted = models(capsys, "promote", "m", "a", "--json").json
    assert promoted.items() >= {"model": "m", "moved": True, "alias": "stable", "revision": "a"}.items()
    (listed,) = models(capsys, "list", "--json").json["models"]
    assert listed["revisions"][0].items() >= brief.items()
    assert listed["aliases"] == [{key: promoted[key] for key in ("alias", "revision", "previous", "updated")}]
    shown = models(capsys, "show", "m", "--json").json
    assert [file["path"] for file in shown["files"]][1] == "model.safetensors"
    assert shown["config"]["layers"] == 2
    assert models(capsys, "verify", "m", "--json").json.items() >= {**brief, "whole": True, "findings": []}.items()
    pulled = models(capsys, "pull", "m", "--into", str(tmp_path / "out"), "--json").json
    assert pulled.items() >= {**brief, "fetched_bytes": pushed["size_bytes"], "directory": f"{tmp_path}/out"}.items()


def test_a_damaged_revision(capsys: pytest.CaptureFixture[str], model: Path, bucket: Bucket) -> None:
    push(capsys, model, "a")
    bucket.client.put_object(Bucket=bucket.name, Key="models/m/a/config.json", Body=b"")
    bucket.client.put_object(Bucket=bucket.name, Key="models/m/a/notes", Body=b"")
    bucket.client.put_object(Bucket=bucket.name, Key="models/m/a/tokenizer.json", Body=b"[]")
    answer = models(capsys, "verify", "m", "a", "--json")
    assert (answer.status, answer.json["whole"]) == (1, False)
    assert answer.codes == ["REVISION_DAMAGED", "REVISION_STRAY", "REVISION_UNVERIFIED"]
    lines = models(capsys, "verify", "m", "a").out
    assert "m.a: config.json has 0 bytes; the manifest says " in lines
    assert "; push the files as a new revision [REVISION_DAMAGED]" in lines
    assert "m a is damaged: 4 files" in lines


def refused(answer: Answer, code: str, *parts: str) -> None:
    assert (answer.status, answer.out) == (1, "")
    assert "Traceback" not in answer.err
    assert f"[{code}]" in answer.err
    for part in parts:
        assert part in answer.err


def test_refusals(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(capsys, model, "a")
    changed = write_model(tmp_path / "changed")
    refused(
        push(capsys, changed, "a"), "INPUT_REVISION", "push: s3://", "exists with other content (model.safetensors)"
    )
    refused(push(capsys, changed, "a/b"), "INPUT_REVISION", "nearest valid value: a-b")
    refused(push(capsys, tmp_path / "no", "b"), "INPUT_MODEL_FILES", f"{tmp_path}/no: is no folder")
    (changed / "config.json").write_text("")
    (changed / "tokenizer.json").unlink()
    answer = push(capsys, changed, "b")
    refused(answer, "INPUT_MODEL_FILES", "changed/config.json: is no JSON", f"{changed}: has no tokenizer")
    assert len(answer.err.splitlines()) == 2
    refused(models(capsys, "show", "m", "x"), "INPUT_REVISION", "show: s3://", "has no revision x of m")
    refused(models(capsys, "rollback", "m"), "INPUT_REVISION", "has no stable of m: promote a revision first")
    refused(models(capsys, "list", "--bucket", "nowhere"), "INPUT_BUCKET", "there is no bucket nowhere")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    refused(models(capsys, "list"), "INPUT_BUCKET", "the connection to s3://")
    monkeypatch.delenv(VARIABLE)
    refused(models(capsys, "list"), "INPUT_OPTIONS", f"--bucket: missing: name the model bucket, or set {VARIABLE}")
    answer = models(capsys, "list", "--json")
    assert (answer.status, answer.codes) == (1, ["INPUT_OPTIONS"])


def test_no_credentials(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    refused(models(capsys, "list"), "INPUT_BUCKET", "no AWS credentials can be had", "run `aws sso login`")
    monkeypatch.setenv("AWS_PROFILE", "lost")
    refused(models(capsys, "list"), "INPUT_BUCKET", "The config profile (lost) could not be found")


def test_an_empty_registry(capsys: pytest.CaptureFixture[str], bucket: Bucket) -> None:
    assert models(capsys, "list").out.startswith(f"s3://{bucket.name} has no models: `llm-serving models push --help`")
    assert models(capsys, "list", "--json").json == {"models": []}


def test_an_interrupted_push_goes_on(server: Server, bucket: Bucket, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", os.urandom(64 << 20))
    network = Network(server.port, 10**12, delay=0.02)
    command = [sys.executable, "-m", "cli", "models", "push", str(folder), "--name", "m", "--revision", "a"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'components'}"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, **variables(network.port, bucket.name)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not kept(bucket):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: nobody sees any of it; the same command goes on where it stopped\n"
    listed = bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", [])
    assert "models/m/a/manifest.json" not in [entry["Key"] for entry in listed]

    before = kept(bucket)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**environment, **variables(server.port, bucket.name)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ", of which " in done.stdout
    assert before > 0
    stored = bucket.client.get_object(Bucket=bucket.name, Key="models/m/a/model.safetensors")["Body"].read()
    assert stored == (folder / "model.safetensors").read_bytes()


def kept(bucket: Bucket) -> int:
    """Bytes of parts whose object isn't there yet."""
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    parts = [
        bucket.client.list_parts(Bucket=bucket.name, Key=each["Key"], UploadId=each["UploadId"]).get("Parts", [])
        for each in uploads
    ]
    return sum(part["Size"] for each in parts for part in each)


def test_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with transfer.progress("pushing m") as progress:
        progress.begin(3_000_000_000)
        progress.advance(1_000_000_000)
        now[0] = 110
        progress.advance(1_000_000_000)
        progress.advance(500)
    assert capsys.readouterr().err == "pushing m: 2.00 GB of 3.00 GB, 200.0 MB/s, 5 s left\n"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with transfer.progress("pushing m") as progress:
        progress.begin(2000)
        progress.advance(1000)
    assert "pushing m" in terminal.getvalue()
    assert "1.0/2.0 kB" in terminal.getvalue()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.5e6, "1.5 MB"), (7e10, "70.00 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert transfer.size(count) == text
