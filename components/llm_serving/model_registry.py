"""The model registry: pushes a revision of a model's weights to the model bucket, where the model loader finds it.

A revision is immutable: pods of one revision must all have the same weights, whenever they start. Its manifest is
written last, so that a revision is there or it isn't. Uses boto3 only; no Pulumi.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

MANIFEST = "manifest.json"
FILES_AT_ONCE = 4


class RevisionExistsError(Exception):
    """The bucket has this revision with other content."""


@dataclass(frozen=True)
class Push:
    """What `push` did."""

    prefix: str
    """Folder of the revision in the bucket."""
    files: int
    size_bytes: int
    """Of all files together."""
    uploaded: bool
    """False where the bucket had the revision already."""


def push(directory: Path, bucket: str, model: str, revision: str, client: Any) -> Push:
    """Uploads a folder as one revision of a model; does nothing where the bucket has the same one already.

    `client` is a boto3 S3 client. Raises RevisionExistsError where the revision is there with other content, ValueError
    for a folder without files or a name that isn't one part of a key, botocore's ClientError where S3 refuses.
    """
    for field, value in (("model", model), ("revision", revision)):
        if not value or "/" in value or value.startswith("."):
            raise ValueError(f"{field}: {value!r} must be one part of a key, without slashes")
    prefix = f"models/{model}/{revision}"
    manifest = _manifest(directory, model, revision)
    files: list[dict[str, Any]] = manifest["files"]
    size = sum(file["size"] for file in files)
    existing = _existing(bucket, prefix, client)
    if existing is not None:
        _check_same(existing, manifest, f"s3://{bucket}/{prefix}")
        return Push(prefix, len(files), size, uploaded=False)

    def upload(path: str) -> None:
        client.upload_file(str(directory / path), bucket, f"{prefix}/{path}")

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        list(pool.map(upload, [file["path"] for file in files]))
    _write_manifest(manifest, bucket, prefix, client)
    return Push(prefix, len(files), size, uploaded=True)


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    sha256: str


def _manifest(directory: Path, model: str, revision: str) -> dict[str, Any]:
    # Hidden files are a working copy's own: caches, version control.
    paths = sorted(
        path
        for path in directory.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )
    if not paths:
        raise ValueError(f"directory: {directory} has no files")
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        hashes = list(pool.map(_sha256, paths))
    files = [
        asdict(_File(path.relative_to(directory).as_posix(), path.stat().st_size, digest))
        for path, digest in zip(paths, hashes, strict=True)
        if path.relative_to(directory).as_posix() != MANIFEST
    ]
    return {"model": model, "revision": revision, "files": files}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _existing(bucket: str, prefix: str, client: Any) -> dict[str, Any] | None:
    try:
        return json.loads(client.get_object(Bucket=bucket, Key=f"{prefix}/{MANIFEST}")["Body"].read())
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise


def _check_same(existing: dict[str, Any], manifest: dict[str, Any], where: str) -> None:
    if existing == manifest:
        return
    before = {file["path"]: file["sha256"] for file in existing["files"]}
    after = {file["path"]: file["sha256"] for file in manifest["files"]}
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    raise RevisionExistsError(
        f"{where} exists with other content ({', '.join(changed[:5]) or 'other names'}): a revision never changes;"
        " push the files as a new revision"
    )


def _write_manifest(manifest: dict[str, Any], bucket: str, prefix: str, client: Any) -> None:
    body = json.dumps(manifest, indent=1).encode()
    try:
        # Two pushes at once: the second one's manifest must not replace the first one's.
        client.put_object(
            Bucket=bucket,
            Key=f"{prefix}/{MANIFEST}",
            Body=body,
            ContentType="application/json",
            IfNoneMatch="*",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise
        existing = _existing(bucket, prefix, client)
        if existing is not None:
            _check_same(existing, manifest, f"s3://{bucket}/{prefix}")
