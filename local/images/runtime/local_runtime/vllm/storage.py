"""Weights from S3, as vLLM's Run:ai streamer gets them: with the pod's role, straight from the bucket.

The real one reads tensors into the GPU's memory and keeps none. llama.cpp maps a file, so here the file is written to
vLLM's cache folder first, which must be writable.
"""

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class StorageError(Exception):
    """Weights that can't be had from their bucket."""


def is_remote(model: str) -> bool:
    """Whether a model's name is an address in S3."""
    return model.startswith("s3://")


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where vLLM keeps what it downloads."""
    if root := environment.get("VLLM_CACHE_ROOT"):
        return Path(root)
    home = environment.get("XDG_CACHE_HOME") or f"{environment.get('HOME', '')}/.cache"
    return Path(home) / "vllm"


def download(model: str, environment: Mapping[str, str]) -> Path:
    """Gets the GGUF files and the configuration below an address; returns their folder.

    `model` is like s3://bucket/prefix. Raises StorageError.
    """
    bucket, _, prefix = model.removeprefix("s3://").rstrip("/").partition("/")
    folder = cache_folder(environment) / "model_streamer" / hashlib.sha256(model.encode()).hexdigest()[:8]
    # Imported by name: only this front end's image has it.
    boto3: Any = importlib.import_module("boto3")
    exceptions: Any = importlib.import_module("botocore.exceptions")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        client = boto3.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        for key in keys:
            if key.endswith(".gguf") or key == f"{prefix}/config.json":
                partial = folder / (Path(key).name + ".partial")
                client.download_file(bucket, key, str(partial))
                partial.replace(folder / Path(key).name)
    except (exceptions.BotoCoreError, exceptions.ClientError, OSError) as error:
        raise StorageError(f"{model}: {error}") from error
    return folder
