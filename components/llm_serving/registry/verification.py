"""Compares a revision in the bucket with its manifest: by the checksums that S3 keeps, or by reading everything."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from botocore.exceptions import ClientError

from llm_serving.registry import aliases, manifest, s3
from llm_serving.registry.errors import code, explained
from llm_serving.registry.manifest import File, Manifest
from llm_serving.registry.names import MANIFEST, revision_prefix
from llm_serving.registry.s3 import Bucket
from llm_serving.registry.upload import stored


@dataclass(frozen=True, slots=True)
class Verified:
    """What a comparison found."""

    manifest: Manifest
    damaged: Sequence[str]
    """A line for each file that isn't what the manifest says."""
    unchecked: Sequence[str]
    """Files of which S3 keeps no checksum that could be compared: reading everything tells."""
    stray: Sequence[str]
    """Objects that the manifest doesn't name, which no pod loads: left by an interrupted push of other files."""


def verify(bucket: Bucket, model: str, reference: str, *, full: bool, progress: s3.Progress | None = None) -> Verified:
    """Compare a revision, given by its name or an alias, with its manifest; `full` reads every byte.

    Raises NotThereError where there is no such revision, BucketError where S3 refuses.
    """
    progress = progress or s3.Progress()
    advance = progress.advance
    with explained(bucket.name):
        revision = aliases.resolve(bucket, model, reference)
        wanted = manifest.get(bucket, model, revision)
        progress.begin(wanted.size)
        prefix = revision_prefix(model, revision)

        def problem(file: File) -> str | None:
            key = f"{prefix}/{file.path}"
            try:
                return (_read if full else _asked)(bucket, key, file, advance)
            except ClientError as error:
                if code(error) in manifest.ABSENT:
                    return "is missing"
                raise

        with ThreadPoolExecutor(s3.FILES_AT_ONCE if full else s3.CONNECTIONS // 2) as pool:
            found = {
                file.path: result for file, result in zip(wanted.files, pool.map(problem, wanted.files), strict=True)
            }
        known = {f"{prefix}/{file.path}" for file in wanted.files} | {f"{prefix}/{MANIFEST}"}
        stray = sorted(key.removeprefix(f"{prefix}/") for key in stored(bucket, prefix) if key not in known)
    return Verified(
        manifest=wanted,
        damaged=[f"{path} {text}" for path, text in found.items() if text],
        unchecked=[path for path, text in found.items() if text == ""],
        stray=stray,
    )


def _asked(bucket: Bucket, key: str, file: File, advance: s3.Advance) -> str | None:
    """What is wrong by what S3 says of the object; None for nothing, empty where it doesn't say enough."""
    head = bucket.client.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")
    advance(file.size)
    if head["ContentLength"] != file.size:
        return f"has {head['ContentLength']} bytes; the manifest says {file.size}"
    found = head.get("ChecksumSHA256")
    wanted = file.checksum or s3.base64_of(bytes.fromhex(file.sha256))
    if found is None or (file.checksum is None and "-" in found):
        return ""
    return None if found == wanted else f"has the checksum {found}; the manifest says {wanted}"


def _read(bucket: Bucket, key: str, file: File, advance: s3.Advance) -> str | None:
    """What is wrong with the object's content; None for nothing."""
    digest = hashlib.sha256()
    size = bucket.client.head_object(Bucket=bucket.name, Key=key)["ContentLength"]
    for begin in range(0, size, s3.PART_BYTES):
        data = s3.read_range(bucket, key, begin, min(begin + s3.PART_BYTES, size))
        digest.update(data)
        advance(len(data))
    if (size, digest.hexdigest()) == (file.size, file.sha256):
        return None
    return f"has {size} bytes and SHA-256 {digest.hexdigest()}; the manifest says {file.size} and {file.sha256}"
