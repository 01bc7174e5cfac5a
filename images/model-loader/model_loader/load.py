"""Brings a folder in step with a manifest: what is missing is downloaded and verified, what is right is kept.

A file has its name only once its content is verified, so a loader that was killed goes on where it stopped, and a
model server never sees half a file.
"""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model_loader.errors import LoadError
from model_loader.manifest import File, Manifest

PARTIAL = ".partial"
"""Folder in the destination where files are while they are downloaded: renaming within one volume is atomic."""
FILES_AT_ONCE = 4
_log = logging.getLogger(__name__)


def load(manifest: Manifest, destination: Path, download: Callable[[str, Path], None]) -> None:
    """Makes `destination` hold the manifest's files. `download` writes the file of a path to where it is told.

    Raises LoadError where the disk has too little room, or a file isn't what the manifest says.
    """
    begun = time.monotonic()
    partial = destination / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise LoadError(f"{destination} can't be written: {error.strerror}; mount a volume there") from error
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        right = list(pool.map(_is_right, manifest.files, [destination / file.path for file in manifest.files]))
        missing = [file for file, is_right in zip(manifest.files, right, strict=True) if not is_right]
        size = sum(file.size for file in missing)
        _check_room(size, destination)
        _log.info(
            "%s revision %s: %d of %d files to download, %.1f of %.1f MB",
            *(manifest.model, manifest.revision, len(missing), len(manifest.files), size / 1e6, manifest.size / 1e6),
        )
        tasks = [
            pool.submit(_fetch, file, destination / file.path, partial / str(number), download)
            for number, file in enumerate(missing)
        ]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    partial.rmdir()
    seconds = time.monotonic() - begun
    _log.info("%s is complete in %s: %.1f s, %.1f MB/s", manifest.model, destination, seconds, size / 1e6 / seconds)


def _check_room(size: int, destination: Path) -> None:
    free = shutil.disk_usage(destination).free
    if size > free:
        raise LoadError(
            f"{size / 1e9:.1f} GB are to be downloaded and {destination} has {free / 1e9:.1f} GB left:"
            " give the volume, or the node's disk, more room"
        )


def _fetch(file: File, target: Path, partial: Path, download: Callable[[str, Path], None]) -> None:
    try:
        download(file.path, partial)
        found = sha256(partial)
    except OSError as error:
        raise LoadError(f"{file.path} can't be written: {error.strerror}") from error
    size = partial.stat().st_size
    if size != file.size or found != file.sha256:
        raise LoadError(
            f"{file.path} has {size} bytes and SHA-256 {found}, the manifest says {file.size} and {file.sha256}:"
            " upload the revision again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)


def _is_right(file: File, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
