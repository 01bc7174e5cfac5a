"""ElastiCache: the local Redis takes the AUTH tokens of the replication groups, whose settings are answered whole."""

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
    if call.operation.endswith(("CacheCluster", "CacheClusters")):
        return emulator.extended(response, "CacheClusterId", _upgrades)
    if "ReplicationGroup" in call.operation:
        return emulator.extended(response, "ReplicationGroupId", _key)
    return response


def _groups() -> Any:
    return emulator.service("elasticache")._replication_groups


def _key(identifier: str) -> dict[str, str]:
    group: dict[str, Any] = _groups().get(identifier) or {}
    return {"KmsKeyId": group["KmsKeyId"]} if "KmsKeyId" in group else {}


def _upgrades(identifier: str) -> dict[str, str]:
    cluster: dict[str, Any] = emulator.service("elasticache")._clusters.get(identifier) or {}
    return {"AutoMinorVersionUpgrade": str(cluster.get("AutoMinorVersionUpgrade", True)).lower()}
