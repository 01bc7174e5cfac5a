"""The revision's folder in the model bucket: found, waited for, read."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from model_loader.errors import LoadError

MANIFEST = "manifest.json"
POLL_SECONDS = 2
REPORT_SECONDS = 10
DENIED_SECONDS = 60
"""How long a refusal is taken for a policy that AWS hasn't spread yet."""
CONNECTIONS = 32
"""Ranges fetched at once, over all files: one connection to S3 gives about 90 MB/s."""
_TRANSFER = TransferConfig(multipart_threshold=32 << 20, multipart_chunksize=32 << 20, max_concurrency=8)
_DENIED = {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_log = logging.getLogger(__name__)
_boto3: Any = boto3  # makes its clients, and so their types, at run time


@dataclass(frozen=True)
class Source:
    """A folder `s3://BUCKET/PREFIX` of the model bucket, and the client that reads it."""

    bucket: str
    prefix: str
    s3: Any

    @property
    def url(self) -> str:
        """The folder as a person writes it."""
        return f"s3://{self.bucket}/{self.prefix}"

    def wait_for_manifest(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> bytes:
        """The manifest's content, waiting up to `seconds` for somebody to upload the revision.

        Raises LoadError where it isn't there in time, or where reading is refused for longer than it takes AWS to
        spread a new policy.
        """
        begun = clock()
        next_report = begun
        while True:
            reason = f"{self.url}/{MANIFEST} is not there yet"
            limit = seconds
            try:
                if self._has_manifest():
                    return self.s3.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{MANIFEST}")["Body"].read()
            except ClientError as error:
                reason, limit = self._explain(error), min(seconds, DENIED_SECONDS)
            except BotoCoreError as error:
                reason = f"{self.url} can't be reached: {error}"
            now = clock()
            waited = now - begun
            if waited + POLL_SECONDS > limit:
                raise LoadError(f"{reason}; waited {waited:.0f} s")
            if now >= next_report:
                next_report = now + REPORT_SECONDS
                _log.info("waiting: %s (%.0f of at most %.0f s)", reason, waited, limit)
            sleep(POLL_SECONDS)

    def _has_manifest(self) -> bool:
        # Listed, not asked for: a role that may list only this prefix gets "denied" for an object that isn't there.
        key = f"{self.prefix}/{MANIFEST}"
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1)
        return any(entry["Key"] == key for entry in listed.get("Contents", []))

    def download(self, path: str, target: Path) -> None:
        """Writes one file of the folder to `target`, in parallel ranges. Raises LoadError where it can't."""
        try:
            self.s3.download_file(self.bucket, f"{self.prefix}/{path}", str(target), Config=_TRANSFER)
        except ClientError as error:
            raise LoadError(self._explain(error, path)) from error
        except BotoCoreError as error:
            raise LoadError(f"{self.url}/{path} can't be downloaded: {error}") from error

    def _explain(self, error: ClientError, path: str = "") -> str:
        response: dict[str, Any] = error.response
        code: str = response["Error"]["Code"]
        where = f"{self.url}/{path}"
        if code in _DENIED:
            return (
                f"{self._caller()} may not read {where} ({code}): allow s3:GetObject on it and s3:ListBucket with that"
                " prefix, and kms:Decrypt on the bucket's key"
            )
        if code == "NoSuchBucket":
            return f"the bucket {self.bucket} does not exist"
        if code in ("404", "NoSuchKey"):
            return f"{where} is named by the manifest but is not there: upload the revision again"
        return f"{where} can't be read: {error}"

    def _caller(self) -> str:
        try:
            return _boto3.client("sts", config=_config()).get_caller_identity()["Arn"]
        except (BotoCoreError, ClientError):
            return "the pod's role (unknown: STS did not answer)"


def _config() -> Config:
    return Config(
        retries={"mode": "adaptive", "total_max_attempts": 6},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=CONNECTIONS,
    )


def source(url: str) -> Source:
    """The source at `s3://BUCKET/PREFIX`, read with the credentials that the pod has. Raises LoadError for another."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not parts.netloc or not prefix:
        raise LoadError(f"{url!r} is not an address like s3://BUCKET/models/NAME/REVISION")
    return Source(parts.netloc, prefix, _boto3.client("s3", config=_config()))
