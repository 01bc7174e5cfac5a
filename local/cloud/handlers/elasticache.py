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
        if upgrade := call.value("AutoMinorVersionUpgrade"):
            group["AutoMinorVersionUpgrade"] = upgrade == "true"
        elif call.operation == "CreateReplicationGroup":
            group["AutoMinorVersionUpgrade"] = True  # AWS's default
        if key := call.value("KmsKeyId"):
            group["KmsKeyId"] = key
    if "ReplicationGroup" in call.operation:
        return emulator.extended(response, "ReplicationGroupId", _key)
    return response


def _groups() -> Any:
    return emulator.service("elasticache")._replication_groups


def _key(identifier: str) -> dict[str, str]:
    group: dict[str, Any] = _groups().get(identifier) or {}
    return {"KmsKeyId": group["KmsKeyId"]} if "KmsKeyId" in group else {}
