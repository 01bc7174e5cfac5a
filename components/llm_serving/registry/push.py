"""Pushes a folder as a revision of a model: looked over first, its manifest last, and never changed again."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from botocore.exceptions import ClientError

from llm_serving.registry import inspection, manifest, s3
from llm_serving.registry.errors import MovedError, RegistryError, RevisionExistsError, code, explained
from llm_serving.registry.inspection import LocalFile
from llm_serving.registry.manifest import File, Manifest
from llm_serving.registry.names import MANIFEST, revision_prefix
from llm_serving.registry.s3 import Bucket
from llm_serving.registry.upload import Uploader, stored


@dataclass(frozen=True, slots=True)
class Push:
    """What `push` did."""

    prefix: str
    """Folder of the revision in the bucket."""
    manifest: Manifest
    """As it is in the bucket."""
    uploaded: bool
    """False where the bucket had the revision already."""
    sent_bytes: int
    """Less than all where an interrupted push was gone on with."""


def push(directory: Path, bucket: Bucket, model: str, revision: str, progress: s3.Progress | None = None) -> Push:
    """Make a folder a revision of a model; does nothing where the bucket has the same one already.

    `progress` is told how far it is. Whatever is raised, the bucket's
    revisions are as they were. Raises InvalidModelError for a folder that no runtime could load, RevisionExistsError
    where the revision is there with other content, MovedError where somebody pushes it at the same time, BucketError
    where S3 refuses, RegistryError for a name that can't be one.
    """
    prefix = revision_prefix(model, revision)
    progress = progress or s3.Progress()
    try:
        files = inspection.inspect(directory)
        progress.begin(sum(file.size for file in files))
        with explained(bucket.name):
            before = manifest.find(bucket, model, revision)
            if before is not None:
                _check_same(before, _local(files, progress.advance), f"{bucket.url}/{prefix}")
                return Push(prefix, before, uploaded=False, sent_bytes=0)
            uploader = Uploader(bucket, prefix, progress.advance)
            sent = uploader.upload(files)
            _check_complete(uploader.tags, bucket, prefix)
            made = Manifest(model, revision, tuple(sent), _now(), inspection.summary(directory))
            return Push(prefix, _publish(made, bucket, prefix), uploaded=True, sent_bytes=uploader.sent)
    except OSError as error:
        raise RegistryError(f"{error.filename or directory} can't be read: {error.strerror}") from error


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _local(files: Sequence[LocalFile], advance: s3.Advance) -> list[File]:
    def known(file: LocalFile) -> File:
        return File(file.path, file.size, s3.digests(file.location, file.size, advance).sha256)

    with ThreadPoolExecutor(s3.FILES_AT_ONCE) as pool:
        return list(pool.map(known, files))


def _check_same(existing: Manifest, files: Sequence[File], where: str) -> None:
    if changed := existing.changes(files):
        raise RevisionExistsError(
            f"{where} exists with other content ({manifest.named(changed)}): a revision never changes; push the files"
            " as a new revision"
        )


def _check_complete(tags: Mapping[str, str], bucket: Bucket, prefix: str) -> None:
    """A manifest is only written over what is there: somebody may have deleted or replaced a file since it was sent."""
    there = {key: each.etag for key, each in stored(bucket, prefix).items()}
    if wrong := sorted(path for path, tag in tags.items() if there.get(f"{prefix}/{path}") != tag):
        raise MovedError(f"{bucket.url}/{prefix}: {manifest.named(wrong)} changed after they were sent: push again")


def _publish(made: Manifest, bucket: Bucket, prefix: str) -> Manifest:
    """Write the manifest; return the one that the bucket then has."""
    try:
        # Two pushes at once: the second one's manifest must not replace the first one's.
        bucket.client.put_object(
            Bucket=bucket.name,
            Key=f"{prefix}/{MANIFEST}",
            Body=made.text(),
            ContentType="application/json",
            ChecksumAlgorithm="SHA256",
            IfNoneMatch="*",
        )
    except ClientError as error:
        existing = None
        if code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
            existing = manifest.find(bucket, made.model, made.revision)
        if existing is None:
            raise
        _check_same(existing, made.files, f"{bucket.url}/{prefix}")
        return existing
    return made
