"""A revision's manifest: its files with their sizes and checksums, and what the model's config says.

The model loader, which has an image of its own, reads `model`, `revision` and of each file `path`, `size` and `sha256`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from botocore.exceptions import ClientError

from llm_serving.registry.errors import NotThereError, RegistryError, code
from llm_serving.registry.names import MANIFEST, revision_prefix
from llm_serving.registry.s3 import Bucket

ABSENT = ("NoSuchKey", "404", "NotFound")
"""What S3 says of an object that isn't there."""
_SHOWN = 5
"""Files that a message names."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a revision."""

    path: str
    """Relative to the revision's folder, with forward slashes."""
    size: int
    """Bytes."""
    sha256: str
    """Of its content, in lower-case hex."""
    checksum: str | None = None
    """What S3 says of the object as ChecksumSHA256, in base64: of the content, or of the parts' checksums and then with
    `-` and their number. None where an earlier version pushed it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in one revision of a model."""

    model: str
    revision: str
    files: tuple[File, ...]
    created: str | None = None
    """When it was pushed: UTC, as in 2026-11-25T14:03:00Z. None where an earlier version pushed it."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Summary of the model's configuration, as `inspection.summary` makes it."""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def text(self) -> bytes:
        """The manifest as it is in the bucket."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    def changes(self, others: Iterable[File]) -> list[str]:
        """The paths of files that `others` lacks, has besides, or has with other content."""
        before = {file.path: (file.size, file.sha256) for file in self.files}
        after = {file.path: (file.size, file.sha256) for file in others}
        return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def parse(text: bytes, where: str) -> Manifest:
    """Read a manifest. Raises RegistryError, which names `where` it is from, for what is none."""
    try:
        known = cast("dict[str, Any]", json.loads(text))
        files = tuple(
            File(str(each["path"]), int(each["size"]), str(each["sha256"]), each.get("checksum"))
            for each in known["files"]
        )
        return Manifest(
            str(known["model"]), str(known["revision"]), files, known.get("created"), dict(known.get("config") or {})
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{where} is no manifest ({error!r}): push the files as a new revision") from error


def find(bucket: Bucket, model: str, revision: str) -> Manifest | None:
    """A revision's manifest; None where there is no such revision. Raises botocore's errors."""
    key = f"{revision_prefix(model, revision)}/{MANIFEST}"
    try:
        text = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    except ClientError as error:
        if code(error) in ABSENT:
            return None
        raise
    return parse(text, f"{bucket.url}/{key}")


def get(bucket: Bucket, model: str, revision: str) -> Manifest:
    """A revision's manifest. Raises NotThereError where there is no such revision, and botocore's errors."""
    found = find(bucket, model, revision)
    if found is None:
        raise NotThereError(
            f"{bucket.url} has no revision {revision} of {model}: `llm-serving models list` shows what it has"
        )
    return found


def named(paths: list[str]) -> str:
    """Some paths as a message names them: the first ones, and how many more there are."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(paths[:_SHOWN])}{more}"
