"""Fetches a revision to a folder: in parts, many at once, verified, going on where an earlier attempt stopped.

Files come to a hidden folder beside the destination, which gets its name once every file is what the manifest says.
"""

import hashlib
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from botocore.exceptions import ClientError

from llm_serving.registry import aliases, manifest, s3
from llm_serving.registry.errors import RegistryError, StoppedError, code, explained
from llm_serving.registry.manifest import File, Manifest
from llm_serving.registry.names import revision_prefix
from llm_serving.registry.s3 import Bucket

JOURNAL = ".parts"
"""Ending of the file beside a half-fetched one that has the numbers of the parts that are in it, a line each."""
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pull:
    """What `pull` did."""

    manifest: Manifest
    directory: Path
    fetched_bytes: int
    """Less than all where an interrupted pull was gone on with; 0 where the folder was whole already."""


def pull(bucket: Bucket, model: str, reference: str, directory: Path, progress: s3.Progress | None = None) -> Pull:
    """Make a folder hold a revision, which is given by its name or an alias.

    Raises NotThereError where there is none, RegistryError where the folder has something else in it, the disk has too
    little room or a file isn't what the manifest says, BucketError where S3 refuses. The folder is then as it was.
    """
    progress = progress or s3.Progress()
    try:
        with explained(bucket.name):
            revision = aliases.resolve(bucket, model, reference)
            wanted = manifest.get(bucket, model, revision)
            _check_paths(wanted)
            progress.begin(wanted.size)
            if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
                _check_whole(wanted, directory, progress.advance)
                return Pull(wanted, directory, 0)
            partial = directory.absolute().parent / f".{directory.absolute().name}.{revision}.partial"
            partial.mkdir(parents=True, exist_ok=True)
            fetcher = _Fetcher(bucket, revision_prefix(model, revision), partial, progress.advance)
            fetcher.fetch(wanted)
            if directory.exists():
                directory.rmdir()
            partial.rename(directory)
            return Pull(wanted, directory, fetcher.fetched)
    except OSError as error:
        raise RegistryError(f"{error.filename or directory} can't be written: {error.strerror}") from error


def _check_paths(wanted: Manifest) -> None:
    """The manifest decides where files are written: never outside the folder."""
    for file in wanted.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or not path.parts or any(part.startswith(".") for part in path.parts):
            raise RegistryError(f"the manifest names the file {file.path!r}, which isn't below the model's folder")


def _check_whole(wanted: Manifest, directory: Path, advance: s3.Advance) -> None:
    """A folder with something in it must hold the revision already."""

    def is_right(file: File) -> bool:
        path = directory / file.path
        return path.is_file() and path.stat().st_size == file.size and _sha256(path, advance) == file.sha256

    with ThreadPoolExecutor(s3.FILES_AT_ONCE) as pool:
        wrong = [
            file.path for file, right in zip(wanted.files, pool.map(is_right, wanted.files), strict=True) if not right
        ]
    if wrong:
        raise RegistryError(
            f"{directory} has something else in it ({manifest.named(wrong)} missing or different): name a folder that"
            " is not there yet"
        )


class _Fetcher:
    def __init__(self, bucket: Bucket, prefix: str, folder: Path, advance: s3.Advance):
        self._bucket = bucket
        self._prefix = prefix
        self._folder = folder
        self._advance = advance
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self.fetched = 0

    def fetch(self, wanted: Manifest) -> None:
        todo = [file for file in wanted.files if not self._is_fetched(file)]
        self._check_room(todo)
        self._parts = ThreadPoolExecutor(s3.parts_in_memory(max(file.size for file in wanted.files)), "fetcher")
        files = ThreadPoolExecutor(s3.FILES_AT_ONCE, "writer")
        try:
            for task in [files.submit(self._file, file) for file in todo]:
                task.result()
        except StoppedError:
            raise (self._error or RegistryError("the pull was stopped")) from None
        finally:
            self._stop.set()
            files.shutdown(cancel_futures=True)
            self._parts.shutdown(cancel_futures=True)

    def _is_fetched(self, file: File) -> bool:
        """Whether an earlier attempt fetched a file whole: it has no journal any more, so it was verified."""
        path = self._folder / file.path
        done = path.is_file() and path.stat().st_size == file.size and not _journal(path).exists()
        if done:
            self._advance(file.size)
        return done

    def _check_room(self, files: list[File]) -> None:
        needed = sum(file.size for file in files)
        # What an earlier attempt wrote is on the disk already.
        needed -= sum(path.stat().st_blocks * 512 for file in files if (path := self._folder / file.path).is_file())
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise RegistryError(
                f"{needed / 1e9:.1f} GB are to be fetched and {self._folder.parent} has {free / 1e9:.1f} GB left:"
                " make room, or name a folder on another disk"
            )

    def _file(self, file: File) -> None:
        path = self._folder / file.path
        journal = _journal(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        length = s3.part_bytes(file.size)
        done = {int(line) for line in journal.read_text().split()} if journal.exists() and path.exists() else set[int]()
        self._advance(sum(min(length, file.size - number * length) for number in done))
        with journal.open("a" if done else "w") as notes, path.open("r+b" if done else "wb") as stream:
            stream.truncate(file.size)
            numbers = [number for number in range(-(-file.size // length)) if number not in done]
            tasks = [self._parts.submit(self._part, file, number, stream.fileno()) for number in numbers]
            try:
                for number, task in zip(numbers, tasks, strict=True):
                    task.result()
                    notes.write(f"{number}\n")
                    notes.flush()
            except BaseException as error:
                self._fail(error)
                for task in tasks:
                    task.cancel()
                wait(tasks)  # the file must stay open until nobody writes to it
                raise
        if _sha256(path) != file.sha256:
            path.unlink()
            journal.unlink()
            error = RegistryError(
                f"{self._bucket.url}/{self._prefix}/{file.path} isn't what its manifest says: `llm-serving models"
                " verify --full` says what else is damaged; push the files as a new revision"
            )
            self._fail(error)
            raise error
        journal.unlink()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None and not isinstance(error, StoppedError):
                self._error = error
        self._stop.set()

    def _part(self, file: File, number: int, target: int) -> None:
        if self._stop.is_set():
            raise StoppedError
        length = s3.part_bytes(file.size)
        begin, end = number * length, min((number + 1) * length, file.size)
        key = f"{self._prefix}/{file.path}"
        try:
            data = s3.read_range(self._bucket, key, begin, end)
        except ClientError as error:
            if code(error) in (*manifest.ABSENT, "InvalidRange"):
                raise RegistryError(
                    f"{self._bucket.url}/{key} is missing or cut short: push the files as a new revision"
                ) from error
            raise
        os.pwrite(target, data, begin)
        with self._lock:
            self.fetched += len(data)
        self._advance(len(data))


def _journal(path: Path) -> Path:
    return path.with_name(f".{path.name}{JOURNAL}")


def _sha256(path: Path, advance: s3.Advance = s3.ignore) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(_READ_BYTES):
            digest.update(data)
            advance(len(data))
    return digest.hexdigest()
