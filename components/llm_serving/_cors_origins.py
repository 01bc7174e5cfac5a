"""Origins of web pages whose scripts may call (CORS). Pure, no Pulumi import: settings are checked with it too."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit


def origin_problems(field: str, origins: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with origins of web pages, each as `field: problem`."""
    for origin in origins:
        if origin == "*":
            if len(origins) > 1:
                yield f"{field}: has * beside others, and it is any origin; nearest valid value: * alone"
            continue
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
            host = parts.netloc or origin.partition("/")[0] or "HOST"
            scheme = parts.scheme if parts.scheme in ("http", "https") else "https"
            yield (
                f"{field}: {origin!r} is no origin as browsers send it, https://HOST[:PORT];"
                f" nearest valid value: {scheme}://{host}"
            )
