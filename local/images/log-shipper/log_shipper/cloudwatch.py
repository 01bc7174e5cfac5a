"""CloudWatch Logs, with the credentials that EKS Pod Identity gives: as much of the SDK as a shipper needs."""

import hashlib
import hmac
import http.client
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from log_shipper.events import Event

SERVICE = "logs"
TIMEOUT = 10.0
"""Seconds that a call may take."""
RENEW_SECONDS = 300
"""How long before their end credentials are renewed."""


class Refused(Exception):  # noqa: N818  an answer, not a fault
    """The service did not do what it was asked. `code` is its error's; the message may quote a log, and isn't kept."""

    def __init__(self, operation: str, code: str) -> None:
        super().__init__(f"{operation}: {code}")
        self.code = code


@dataclass(frozen=True)
class Credentials:
    """A role's credentials, and until when they are good, in seconds since 1970."""

    access_key: str
    secret_key: str
    token: str
    expiry: float


def container_credentials(variables: Mapping[str, str]) -> Credentials:
    """Fetch the pod's credentials from the Pod Identity agent. Raises Refused or OSError where it gives none."""
    address = urlsplit(variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    token = Path(variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read_text().strip()
    status, body = _exchange(address, "GET", {"Authorization": token})
    if status != 200:
        raise Refused("credentials", f"HTTP {status}")
    given = json.loads(body)
    expiry = datetime.fromisoformat(given["Expiration"]).timestamp()
    return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["Token"], expiry)


def sign(headers: Mapping[str, str], body: bytes, credentials: Credentials, region: str, when: str) -> dict[str, str]:
    """Return the headers of a POST to `/` with AWS's signature, version 4. `when` is like 20261127T020304Z."""
    signed = {**headers, "X-Amz-Date": when, "X-Amz-Security-Token": credentials.token}
    canonical = sorted((name.lower(), value) for name, value in signed.items())
    names = ";".join(name for name, _ in canonical)
    lines = "".join(f"{name}:{value}\n" for name, value in canonical)
    request = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{when[:8]}/{region}/{SERVICE}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    authorization = f"Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**signed, "Authorization": f"AWS4-HMAC-SHA256 {authorization}"}


class CloudWatch:
    """One log group. It isn't made here: made by a shipper it would be unencrypted and kept for ever."""

    def __init__(self, group: str, variables: Mapping[str, str] = os.environ) -> None:
        self._group = group
        self._variables = variables
        self._region = variables["AWS_REGION"]
        self._endpoint = urlsplit(variables["AWS_ENDPOINT_URL"].rstrip("/"))
        self._credentials: Credentials | None = None

    def put(self, stream: str, events: Sequence[Event]) -> None:
        """Put a batch into a stream, which is made where it isn't there. Raises Refused or OSError."""
        batch = [{"timestamp": each.timestamp, "message": each.message} for each in events]
        asked = {"logStreamName": stream, "logEvents": batch}
        try:
            self._call("PutLogEvents", asked)
        except Refused as refused:
            if refused.code != "ResourceNotFoundException":
                raise
            self._create(stream)
            self._call("PutLogEvents", asked)

    def _create(self, stream: str) -> None:
        try:
            self._call("CreateLogStream", {"logStreamName": stream})
        except Refused as refused:
            if refused.code != "ResourceAlreadyExistsException":
                raise

    def _call(self, operation: str, asked: Mapping[str, Any]) -> None:
        if self._credentials is None or self._credentials.expiry - time.time() < RENEW_SECONDS:
            self._credentials = container_credentials(self._variables)
        body = json.dumps({"logGroupName": self._group, **asked}).encode()
        headers = {
            "Host": self._endpoint.netloc,
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"Logs_20140328.{operation}",
        }
        when = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = sign(headers, body, self._credentials, self._region, when)
        status, answer = _exchange(self._endpoint, "POST", headers, body)
        if status >= 300:
            self._credentials = None  # they may be why
            raise Refused(operation, _code(status, answer))


def _code(status: int, answer: bytes) -> str:
    try:
        return str(json.loads(answer)["__type"]).rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"


def _exchange(url: SplitResult, method: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=TIMEOUT)
    try:
        connection.request(method, url.path or "/", body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{url.netloc}: {type(error).__name__}") from error
    finally:
        connection.close()
