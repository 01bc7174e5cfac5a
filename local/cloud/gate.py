"""Which requests reach MiniStack at all: signed ones, and those that AWS answers without a signature.

MiniStack lets unsigned S3 requests pass as if root had made them, and has administration calls without any check. Pods
reach this port, and least privilege is to be seen here as on AWS.
"""

import urllib.parse
from typing import Any

from local.cloud import dataplane

OPEN_PATHS = ("/_ministack/health", "/_ministack/ready")
ADMINISTRATION = ("/_ministack/", "/_localstack/", "/_aws/")

REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)


def admits(scope: dict[str, Any]) -> bool:
    """Whether MiniStack may answer a request; it still checks the signature and the caller's policies."""
    path: str = scope["path"]
    if path in OPEN_PATHS or dataplane.serves(path):
        return True
    if path.startswith(ADMINISTRATION):
        return False
    headers: dict[bytes, bytes] = {name.lower(): value for name, value in scope["headers"]}
    if headers.get(b"authorization", b"").startswith(b"AWS4-"):
        return True
    # Query and JSON protocols: MiniStack knows which of their calls are made unsigned.
    if b"x-amz-target" in headers or (path == "/" and scope["method"] == "POST"):
        return True
    query = urllib.parse.parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return "X-Amz-Signature" in query or {"AWSAccessKeyId", "Signature"} <= query.keys()
