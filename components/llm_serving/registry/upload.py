"""Sends files to S3: in parts, many at once, each with its SHA-256, going on where an earlier attempt stopped.

A file is read once: its parts are hashed for S3, and the whole of it for the manifest, on the way. At no time are more
than `s3.parts_in_memory` parts in memory, and `s3.FILES_AT_ONCE` files that are too small for parts. Nothing that is
there already is replaced unless it is exactly what was found there at the beginning, so that two pushes at once can't
mix.
"""

import contextlib
import hashlib
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from llm_serving.registry import s3
from llm_serving.registry.errors import MovedError, RegistryError, StoppedError, code
from llm_serving.registry.inspection import LocalFile
from llm_serving.registry.manifest import ABSENT, File
from llm_serving.registry.s3 import Bucket

_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload", "InvalidPart", "412", "409", *ABSENT)
"""What S3 says where an object isn't what it was, or a request that it had done already is made again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is in the bucket."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    etag: str
    digest: bytes

    @property
    def checksum(self) -> str:
        return s3.base64_of(self.digest)


@dataclass(frozen=True, slots=True)
class _Multipart:
    """An upload in parts that has begun."""

    key: str
    id: str
    known: Mapping[int, tuple[str, str]]
    """Tag and checksum of each part, by number, that an interrupted push sent."""


def stored(bucket: Bucket, prefix: str) -> dict[str, Stored]:
    """The objects below a prefix, by key. Raises botocore's errors."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=f"{prefix}/")
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    return {entry["Key"]: Stored(entry["Size"], entry["ETag"]) for entry in entries}


class Uploader:
    """Sends the files of one revision. `upload` may be called once."""

    def __init__(self, bucket: Bucket, prefix: str, advance: s3.Advance):
        self._bucket = bucket
        self._prefix = prefix
        self._advance = advance
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._objects: Mapping[str, Stored] = {}
        self._uploads: Mapping[str, str] = {}
        self.sent = 0
        """Bytes that had to be sent."""
        self.tags: dict[str, str] = {}
        """The tag of each file's object, by path, as S3 gave it."""
        self._lock = threading.Lock()
        self._buffers: queue.SimpleQueue[bytearray] = queue.SimpleQueue()

    def upload(self, files: Sequence[LocalFile]) -> list[File]:
        """Make the bucket have these files; return what the manifest says of them, in their order.

        Raises MovedError where another push changes the same objects, RegistryError where a file changes while it is
        sent, OSError where it can't be read, botocore's errors where S3 refuses.
        """
        self._objects = stored(self._bucket, self._prefix)
        self._uploads = self._begun()
        largest = max(file.size for file in files)
        slots, length = s3.parts_in_memory(largest), s3.part_bytes(largest)
        for _ in range(slots if largest > length else 0):
            self._buffers.put(bytearray(length))
        readers = ThreadPoolExecutor(s3.FILES_AT_ONCE, "reader")
        self._senders = ThreadPoolExecutor(slots, "sender")
        # The largest first: at the end there is then something small left for every thread.
        order = sorted(files, key=lambda file: -file.size)
        events = self._bucket.client.meta.events
        events.register("before-send.s3", self._check_stop, unique_id=id(self))
        try:
            tasks = {file.path: readers.submit(self._file, file) for file in order}
            return [tasks[file.path].result() for file in files]
        except StoppedError:
            raise (self._error or MovedError("the push was stopped")) from None
        finally:
            self._stop.set()
            readers.shutdown(cancel_futures=True)
            self._senders.shutdown(cancel_futures=True)
            events.unregister("before-send.s3", unique_id=id(self))

    def _check_stop(self, **_: Any) -> None:
        """Before each request, those that boto3 makes again included: none is made once the push has failed."""
        if self._stop.is_set():
            raise StoppedError

    def _begun(self) -> dict[str, str]:
        """The uploads that an interrupted push left behind, by key: the last one of each."""
        pages = self._bucket.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket.name, Prefix=f"{self._prefix}/"
        )
        uploads = [upload for page in pages for upload in page.get("Uploads", [])]
        return {upload["Key"]: upload["UploadId"] for upload in sorted(uploads, key=lambda each: each["Initiated"])}

    def _file(self, file: LocalFile) -> File:
        try:
            key = f"{self._prefix}/{file.path}"
            before = self._objects.get(key)
            if before and before.size == file.size and (known := self._already(file, key)):
                return known
            # Only what was found at the beginning may be replaced, and only as long as it is the same.
            condition = {"IfMatch": before.etag} if before else {"IfNoneMatch": "*"}
            if file.size <= s3.part_bytes(file.size):
                return self._whole(file, key, condition)
            return self._in_parts(file, key, condition)
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None and not isinstance(error, StoppedError):
                self._error = error
        self._stop.set()

    def _already(self, file: LocalFile, key: str) -> File | None:
        """What the manifest says of a file that the bucket has already; None where it has another of that name."""
        head = self._bucket.client.head_object(Bucket=self._bucket.name, Key=key, ChecksumMode="ENABLED")
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            if self._stop.is_set():
                raise StoppedError
            done += count
            self._advance(count)

        found = s3.digests(file.location, file.size, advance)
        _check_unchanged(file)
        if head.get("ChecksumSHA256") == found.checksum:
            self.tags[file.path] = head["ETag"]
            return File(file.path, file.size, found.sha256, found.checksum)
        self._advance(-done)
        return None

    def _whole(self, file: LocalFile, key: str, condition: Mapping[str, str]) -> File:
        data = file.location.read_bytes()
        _check_unchanged(file)
        digest = hashlib.sha256(data)
        checksum = s3.base64_of(digest.digest())
        try:
            put = self._bucket.client.put_object(
                Bucket=self._bucket.name, Key=key, Body=data, ChecksumSHA256=checksum, **condition
            )
            self.tags[file.path] = put["ETag"]
        except ClientError as error:
            self.tags[file.path] = self._settle(key, checksum, error)
        self._count(len(data))
        return File(file.path, file.size, digest.hexdigest(), checksum)

    def _in_parts(self, file: LocalFile, key: str, condition: Mapping[str, str]) -> File:
        upload = self._resume(key)
        whole = hashlib.sha256()
        parts: list[Future[_Part]] = []
        length = s3.part_bytes(file.size)
        with file.location.open("rb") as stream:
            for number in range(1, -(-file.size // length) + 1):
                buffer = self._buffer()
                data = _read(stream, buffer, length)
                whole.update(data)
                parts.append(self._senders.submit(self._part, upload, number, data, buffer))
                del data  # a copy, where the part is the last: not to be kept while this thread waits
        done = [part.result() for part in parts]
        _check_unchanged(file)
        checksum = s3.composite([part.digest for part in done])
        try:
            completed = self._bucket.client.complete_multipart_upload(
                Bucket=self._bucket.name,
                Key=key,
                UploadId=upload.id,
                MpuObjectSize=file.size,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": part.checksum} for part in done
                    ]
                },
                **condition,
            )
            self.tags[file.path] = completed["ETag"]
        except ClientError as error:
            self.tags[file.path] = self._settle(key, checksum, error)
        return File(file.path, file.size, whole.hexdigest(), checksum)

    def _part(self, upload: _Multipart, number: int, data: bytearray, buffer: bytearray) -> _Part:
        """Send one part, unless an interrupted push did, and give its buffer back."""
        try:
            if self._stop.is_set():
                raise StoppedError  # noqa: TRY301  the same way out for every failure
            digest = hashlib.sha256(data).digest()
            checksum = s3.base64_of(digest)
            tag, known = upload.known.get(number, ("", ""))
            if known == checksum:
                self._advance(len(data))
                return _Part(number, tag, digest)
            sent = self._bucket.client.upload_part(
                Bucket=self._bucket.name,
                Key=upload.key,
                UploadId=upload.id,
                PartNumber=number,
                Body=data,
                ChecksumSHA256=checksum,
            )
            self._count(len(data))
            return _Part(number, sent["ETag"], digest)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._buffers.put(buffer)

    def _resume(self, key: str) -> _Multipart:
        """The upload of an object that an interrupted push began, or else a new one."""
        bucket, client = self._bucket.name, self._bucket.client
        begun = self._uploads.get(key)
        if begun is not None:
            pages = client.get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=begun)
            parts = [part for page in pages for part in page.get("Parts", [])]
            if parts and all("ChecksumSHA256" in part for part in parts):
                known = {part["PartNumber"]: (part["ETag"], part["ChecksumSHA256"]) for part in parts}
                return _Multipart(key, begun, known)
            # Another program's, without the checksums that this one relies on.
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=begun)
        made = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256")
        return _Multipart(key, made["UploadId"], {})

    def _settle(self, key: str, checksum: str, error: ClientError) -> str:
        """Accept a refused request whose object is there all the same: it had been made before, and its answer lost.

        Returns the object's tag.
        """
        if code(error) not in _CONFLICTS:
            raise error
        head: Any = {}
        try:
            head = self._bucket.client.head_object(Bucket=self._bucket.name, Key=key, ChecksumMode="ENABLED")
        except ClientError as missing:
            if code(missing) not in ABSENT:
                raise
        if head.get("ChecksumSHA256") != checksum:
            raise MovedError(
                f"{self._bucket.url}/{key} was changed while it was pushed, so somebody else pushes the same revision:"
                " let one of the two end, then push again"
            ) from error
        return head["ETag"]

    def _buffer(self) -> bytearray:
        """Room for one part, once there is some. Raises StoppedError where nothing is to be sent any more."""
        while True:
            if self._stop.is_set():
                raise StoppedError
            with contextlib.suppress(queue.Empty):
                return self._buffers.get(timeout=0.2)

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size
        self._advance(size)


def _read(stream: BufferedReader, buffer: bytearray, length: int) -> bytearray:
    """The next `length` bytes, fewer at the end: in the buffer, or a copy where they don't fill it.

    boto3 sends a bytearray as it is; of bytes it makes one with the headers in front, which would double the memory.
    """
    with memoryview(buffer) as view:
        count = 0
        while count < length and (more := stream.readinto(view[count:length])):
            count += more
    return buffer if count == len(buffer) else buffer[:count]


def _check_unchanged(file: LocalFile) -> None:
    status = Path(file.location).stat()
    if (status.st_size, status.st_mtime_ns) != (file.size, file.modified):
        raise RegistryError(f"{file.location} changed while it was pushed: push again when nothing writes to it")
