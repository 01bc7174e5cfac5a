"""Measures `llm-serving models push` beside `aws s3 cp --recursive`: the same files, the same S3 server, in turn.

python -m local.bench_models --gigabytes 5
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from rich.table import Table

from local import machine, ports
from local.addresses import REGION
from local.console import console
from local.errors import LocalError
from local.paths import CACHE, ROOT
from local.processes import processor_seconds
from local.toolchain import build
from local.toolchain.tools import S3_SERVER
from local.weights import uv

RESULTS = ROOT / "bench"
GIGABYTES = 5.0
ROUNDS = 3
"""Pushes by each of the two, of which the median counts."""
SHARDS = 5
BUCKET = "bench"
KEY = "bench"
"""Of the server, which listens on this machine only and ends with the bench."""
AWSCLI = "awscli==1.46.3"
_COPY = ("s3", "cp", "--recursive", "--only-show-errors")
LEAST_RATE = 90
"""Percent of the AWS command line's rate that a push must have."""
MOST_MIB = 300
"""Most memory that a push may take, in MiB."""


@dataclass(frozen=True)
class Run:
    """One push by one program."""

    seconds: float
    memory_mib: float
    """Most that its process had resident."""
    processor_seconds: float
    server_seconds: float
    """Processor time that the S3 server took meanwhile."""


def run(gigabytes: float = GIGABYTES) -> None:
    """Measures both with a model of that size, and writes bench/models.json and bench/models.md."""
    load = round(os.getloadavg()[0], 1)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="bench-models-") as temporary:
        folder = Path(temporary) / "model"
        size = write_model(folder, int(gigabytes * 1e9))
        aws = _aws()
        ours: list[Run] = []
        theirs: list[Run] = []
        with _server(Path(temporary) / "bucket") as (url, server):
            for number in range(ROUNDS):
                with console.status(f"pushing {size / 1e9:.1f} GB, {number + 1} of {ROUNDS}"):
                    push = [sys.executable, "-m", "cli", "models", "push", str(folder), "--name", "m"]
                    ours.append(_measured([*push, "--revision", "1", "--bucket", BUCKET], url, server))
                    theirs.append(_measured([aws, *_COPY, str(folder), f"s3://{BUCKET}/copy"], url, server))
    results: dict[str, Any] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "awscli": AWSCLI.rpartition("=")[2],
        "load": load,
        "bytes": size,
        "rounds": ROUNDS,
        "push": summary(ours, size),
        "aws": summary(theirs, size),
        "rate_percent": rate_percent(ours, theirs),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "models.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "models.md").write_text(page(results))
    table = Table("measure", "value", "limit", box=None)
    for row in _rows(results):
        table.add_row(*row)
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}/")


def write_model(folder: Path, size: int) -> int:
    """Write a model whose weights have about `size` bytes that don't compress; return the size of all files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}\n')
    (folder / "tokenizer.json").write_text("{}\n")
    count = size // SHARDS
    for number in range(1, SHARDS + 1):
        name = f"w{number}"
        header = json.dumps({name: {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
        with (folder / f"model-{number:05}-of-{SHARDS:05}.safetensors").open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            for begin in range(0, count, 1 << 26):
                stream.write(os.urandom(min(1 << 26, count - begin)))
    return sum(path.stat().st_size for path in folder.iterdir())


def summary(runs: Sequence[Run], size: int) -> dict[str, Any]:
    """The medians of some pushes of `size` bytes, and each one's time."""
    seconds = statistics.median(run.seconds for run in runs)
    return {
        "seconds": round(seconds, 2),
        "each_seconds": [round(run.seconds, 2) for run in runs],
        "mb_s": round(size / 1e6 / seconds, 1),
        "memory_mib": round(max(run.memory_mib for run in runs)),
        "processor_seconds": round(statistics.median(run.processor_seconds for run in runs), 2),
        "server_seconds": round(statistics.median(run.server_seconds for run in runs), 2),
    }


def rate_percent(ours: Sequence[Run], theirs: Sequence[Run]) -> int:
    """The push's rate in percent of the other's: the median of the rounds, in each of which both met the same load."""
    return round(100 * statistics.median(b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)))


def _aws() -> str:
    """The AWS command line, which is nothing that anybody needs but to compare with."""
    program = "import shutil; print(shutil.which('aws'))"
    arguments = [uv(), "tool", "run", "--quiet", "--from", AWSCLI, "python", "-c", program]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"{AWSCLI} can't be had: {done.stderr.strip()[-300:]}", "check that the package index answers")
    return done.stdout.strip()


@contextmanager
def _server(folder: Path) -> Generator[tuple[str, int]]:
    """An S3 server of the bench's own, which keeps objects in a folder; yields its address and its process id."""
    build.build_all([S3_SERVER])
    folder.mkdir()
    port = ports.free()
    process = subprocess.Popen(
        [
            build.folder(S3_SERVER) / "versitygw",
            "--port",
            f"127.0.0.1:{port}",
            "--quiet",
            "--keep-alive",
            "posix",
            folder,
        ],
        env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise LocalError("the S3 server ended at once", "run the command again")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _measured(arguments: Sequence[str], url: str, server: int) -> Run:
    """A program's push into an empty bucket."""
    variables = {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
    }
    bucket = _bucket(url)
    bucket.create()
    before = processor_seconds(server)
    begun = time.perf_counter()
    process = subprocess.Popen(
        arguments, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    said = process.stderr.read().decode().strip() if process.stderr else ""
    if process.returncode:
        raise LocalError(f"`{' '.join(arguments)}` failed while it was measured: {said[-400:]}", "run it by hand")
    served = processor_seconds(server) - before
    bucket.objects.delete()
    bucket.delete()
    return Run(seconds, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime, served)


def _bucket(url: str) -> Any:
    session: Any = boto3.Session(KEY, KEY, region_name=REGION)
    return session.resource("s3", endpoint_url=url).Bucket(BUCKET)


def page(results: Mapping[str, Any]) -> str:
    """The measurements as a page."""
    rows = "\n".join(f"| {name} | {value} | {limit} |" for name, value, limit in _rows(results))
    sizes = f"{results['bytes'] / 1e9:.2f} GB"
    turns = f"in turn, {results['rounds']} times each"
    return f"""# Pushing a model, measured

On {results["measured"]}, {machine.sentence(results["machine"])}. Written by `make bench`.

Both programs send the same {sizes} to the same S3 server on the same machine, {turns}: medians of
the times, the most of the memory. The server is the Versity gateway over a folder, for the emulator of the local cloud
would be what is measured. It takes about as much of the processors as the programs do, and the machine's load was
{results["load"]} when it began: this compares the two programs and says nothing of the rate to S3 itself. A push also
hashes every file for the manifest and sends every part with its SHA-256; `aws s3 cp` is version {results["awscli"]} as
it comes.

| measure | value | limit |
|---|---|---|
{rows}
"""


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    push, aws = results["push"], results["aws"]

    def spent(side: Mapping[str, Any]) -> str:
        each = ", ".join(str(seconds) for seconds in side["each_seconds"])
        return f"{side['seconds']} s ({each}), {side['mb_s']} MB/s"

    def processor(side: Mapping[str, Any]) -> str:
        return f"{side['processor_seconds']} s, and {side['server_seconds']} s of the server"

    return [
        ("`llm-serving models push`", spent(push), ""),
        ("`aws s3 cp --recursive`", spent(aws), ""),
        (
            "rate of the push, median of the rounds",
            f"{results['rate_percent']} % of the other's",
            f"{LEAST_RATE} % at least",
        ),
        ("processor time of the push", processor(push), ""),
        ("processor time of `aws s3 cp`", processor(aws), ""),
        ("memory of the push, at most", f"{push['memory_mib']} MiB", f"{MOST_MIB} MiB"),
        ("memory of `aws s3 cp`, at most", f"{aws['memory_mib']} MiB", ""),
    ]


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="local.bench_models", description="Measures pushing a model.")
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES, help="size of the model; default: %(default)s")
    run(parser.parse_args().gigabytes)


if __name__ == "__main__":
    main()
