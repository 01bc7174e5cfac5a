"""The S3 client, and how files are cut into parts: what keeps a push fast and its memory small.

Part sizes follow from a file's size alone, so that a push finds the parts of an interrupted one again.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import HTTPClientError, IncompleteReadError

MEBIBYTE = 1 << 20
PART_BYTES = 8 * MEBIBYTE
"""Size of a part, except of files too large for that: small, as the AWS command line's, so that memory stays so."""
MOST_PARTS = 10_000
"""Of one object, by S3's limits."""
BUFFER_BYTES = 128 * MEBIBYTE
"""Parts in memory at once, all together: sixteen of the usual size."""
FILES_AT_ONCE = 4
CONNECTIONS = 32
READ_ATTEMPTS = 6
"""Of one range: boto3 tries a request again, but not the reading of an answer that broke off."""
Advance = Callable[[int], None]
"""Is told from any thread how many more bytes are done; fewer than 0 where they have to be done again."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A model bucket."""

    name: str
    client: Any
    """A boto3 S3 client, as `client` makes it."""

    @property
    def url(self) -> str:
        """As a person writes it."""
        return f"s3://{self.name}"


class Progress:
    """What is told how far a transfer is; this one tells nobody."""

    def begin(self, total: int) -> None:
        """There are `total` bytes to do."""

    def advance(self, count: int) -> None:
        """As `Advance`."""


def ignore(_: int) -> None:
    """The progress that nobody looks at."""


def client() -> Any:
    """A boto3 client with the credentials, region and endpoint of the environment. Raises botocore's errors.

    A body isn't signed by a hash of its own: every body is sent with its SHA-256 as a checksum header, which is signed.
    """
    import boto3  # noqa: PLC0415  takes longer to load than most commands run
    from botocore.config import Config  # noqa: PLC0415

    # Not boto3's own session, which keeps the credentials that it found first.
    session: Any = boto3.Session()
    return session.client(
        "s3",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 6},
            connect_timeout=5,
            tcp_keepalive=True,
            max_pool_connections=CONNECTIONS,
            s3={"payload_signing_enabled": False},
        ),
    )


def part_bytes(size: int) -> int:
    """The size of the parts, in bytes, of a file of `size` bytes."""
    least = -(-size // MOST_PARTS)
    return max(PART_BYTES, -(-least // MEBIBYTE) * MEBIBYTE)


def parts_in_memory(largest: int) -> int:
    """How many parts may be in memory at once where the largest file has `largest` bytes."""
    return max(2, BUFFER_BYTES // part_bytes(largest))


def base64_of(digest: bytes) -> str:
    """A checksum as S3's headers have it."""
    return base64.b64encode(digest).decode()


def composite(digests: list[bytes]) -> str:
    """What S3 calls ChecksumSHA256 of an object made of parts with these SHA-256 digests."""
    return f"{base64_of(hashlib.sha256(b''.join(digests)).digest())}-{len(digests)}"


def pieces(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The parts of a file's content, the last one shorter."""
    length = part_bytes(size)
    while data := stream.read(length):
        yield data


def read_range(bucket: Bucket, key: str, begin: int, end: int) -> bytes:
    """The bytes of an object from `begin` to before `end`, read again where the connection breaks off within them.

    Raises botocore's errors.
    """
    for attempt in range(READ_ATTEMPTS):
        try:
            return bucket.client.get_object(Bucket=bucket.name, Key=key, Range=f"bytes={begin}-{end - 1}")[
                "Body"
            ].read()
        except (HTTPClientError, IncompleteReadError):
            if attempt == READ_ATTEMPTS - 1:
                raise
            time.sleep(min(2**attempt, 10) / 4)
    raise AssertionError


@dataclass(frozen=True, slots=True)
class Digests:
    """What a file's content is known by."""

    sha256: str
    """In lower-case hex."""
    checksum: str
    """As in `manifest.File`."""


def digests(path: Path, size: int, advance: Advance = ignore) -> Digests:
    """Read a file of `size` bytes and return what it is known by, whether or not it is pushed in parts."""
    whole = hashlib.sha256()
    parts: list[bytes] = []
    in_parts = size > part_bytes(size)
    with path.open("rb") as stream:
        for data in pieces(stream, size):
            whole.update(data)
            if in_parts:
                parts.append(hashlib.sha256(data).digest())
            advance(len(data))
    return Digests(whole.hexdigest(), composite(parts) if in_parts else base64_of(whole.digest()))
