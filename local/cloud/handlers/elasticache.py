"""ElastiCache: the local Redis takes the AUTH tokens of the replication groups, whose settings are answered whole."""

import re
from typing import Any

from local.cloud import cache, emulator
from local.cloud.emulator import Call, Response

CHANGES = ("CreateReplicationGroup", "ModifyReplicationGroup", "DeleteReplicationGroup")


def after(call: Call, response: Response) -> Response:
    """Has the local Redis follow what a call changed, and keeps what MiniStack takes and doesn't answer."""
    if call.operation in CHANGES:
        cache.tokens_changed.set()
    if call.operation in {"CreateReplicationGroup", "ModifyReplicationGroup"}:
        group = _groups()[call.value("ReplicationGroupId")]
        default = "true" if call.operation == "CreateReplicationGroup" else ""  # AWS's
        if upgrade := call.value("AutoMinorVersionUpgrade", default):
            clusters = emulator.service("elasticache")._clusters
            for record in (group, *(clusters[member] for member in group["MemberClusters"])):
                record["AutoMinorVersionUpgrade"] = upgrade == "true"
        if key := call.value("KmsKeyId"):
            group["KmsKeyId"] = key
    if call.operation == "DescribeCacheParameters" and (source := call.value("Source")):
        return _from_source(response, source)
    if call.operation.endswith(("CacheCluster", "CacheClusters")):
        return emulator.extended(response, "CacheClusterId", _upgrades)
    if "ReplicationGroup" in call.operation:
        return emulator.extended(response, "ReplicationGroupId", _key)
    return response


def _from_source(response: Response, source: str) -> Response:
    """Those parameters of an answer that were set by `source`: `user` or `system`."""
    status, headers, body = response
    text = body if isinstance(body, str) else body.decode()
    wanted = f"<Source>{source}</Source>"
    kept = re.sub(r"<Parameter>.*?</Parameter>", lambda found: found[0] if wanted in found[0] else "", text)
    return status, headers, kept.encode()


def _groups() -> Any:
    return emulator.service("elasticache")._replication_groups


def _key(identifier: str) -> dict[str, str]:
    group: dict[str, Any] = _groups().get(identifier) or {}
    return {"KmsKeyId": group["KmsKeyId"]} if "KmsKeyId" in group else {}


def _upgrades(identifier: str) -> dict[str, str]:
    cluster: dict[str, Any] = emulator.service("elasticache")._clusters.get(identifier) or {}
    return {"AutoMinorVersionUpgrade": str(cluster.get("AutoMinorVersionUpgrade", True)).lower()}
