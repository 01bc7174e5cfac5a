"""What the gateway's chart is told of traces: where they go, and how many requests have one."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_serving.llm_gateway import LlmGatewayArgs

_SERVICE = ".svc.cluster.local"
_ADDRESS = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(:[0-9]{1,5})?/?", re.IGNORECASE)
_EXAMPLE = f"http://collector.tracing{_SERVICE}:4318"


def check_endpoint(name: str, endpoint: str) -> None:
    """Check a collector's address: scheme, host and port alone, and http only to a Service of the cluster.

    Raises ValueError. A path is the exporter's to add; a user or a key in an address would be a secret in values.
    """
    found = _ADDRESS.fullmatch(endpoint)
    if found is None or not 0 < int((found[3] or ":443")[1:]) <= 65_535:
        raise ValueError(f"{name}: is no http or https address of a host and a port; nearest valid value: {_EXAMPLE}")
    scheme, host, port = found.groups()
    if scheme.lower() == "http" and not re.fullmatch(rf"[a-z0-9-]+\.[a-z0-9-]+{re.escape(_SERVICE)}", host):
        raise ValueError(
            f"{name}: {endpoint} is http to a host that is not SERVICE.NAMESPACE{_SERVICE};"
            f" nearest valid value: https://{host}{port or ''}"
        )


def values(args: "LlmGatewayArgs") -> dict[str, Any]:
    """Return the chart's `traces`, empty where no request is traced; raises ValueError for what cannot be."""
    found = args.get("traces")
    if found is None:
        return {}
    check_endpoint("traces.endpoint", found["endpoint"])
    percent = float(found.get("sample_percent", 0))
    if not 0 <= percent <= 100:
        nearest = 0 if percent < 0 else 100
        raise ValueError(f"traces.sample_percent: {percent:g} is outside 0 to 100; nearest valid value: {nearest}")
    return {"endpoint": found["endpoint"].rstrip("/"), "sample_percent": percent}
