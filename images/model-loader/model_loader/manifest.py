"""A revision's manifest: which files it has. The release pipeline writes it last, so that it is there or whole."""

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast

from model_loader.errors import LoadError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """One file of a revision."""

    path: str
    """Relative to the revision's folder, with forward slashes."""
    size: int
    """Bytes."""
    sha256: str
    """Of its content, in lower-case hex."""


@dataclass(frozen=True)
class Manifest:
    """The files of one revision of a model."""

    model: str
    revision: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def parse(text: bytes) -> Manifest:
    """Reads a manifest. Raises LoadError that names the part that isn't as it should be."""
    try:
        known: Any = json.loads(text)
        files = tuple(_file(entry) for entry in known["files"])
        manifest = Manifest(str(known["model"]), str(known["revision"]), files)
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"manifest.json is not a manifest ({error!r}): upload the revision again") from error
    if not files or len({file.path for file in files}) < len(files):
        raise LoadError("manifest.json names no file, or one twice: upload the revision again")
    return manifest


def _file(entry: Any) -> File:
    fields = cast("dict[str, Any]", entry)
    file = File(fields["path"], fields["size"], fields["sha256"])
    path = PurePosixPath(file.path)
    # The manifest decides where files are written: never outside the destination.
    if path.is_absolute() or not path.parts or any(part in (".", "..") or part.startswith(".") for part in path.parts):
        raise LoadError(f"manifest.json names the file {file.path!r}, which is not a path below the model's folder")
    if isinstance(file.size, bool) or not isinstance(fields["size"], int) or file.size < 0:
        raise LoadError(f"manifest.json gives {file.path} the size {file.size!r}")
    if not _SHA256.fullmatch(file.sha256):
        raise LoadError(f"manifest.json gives {file.path} a SHA-256 that isn't one")
    return file
