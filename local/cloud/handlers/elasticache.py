"""ElastiCache: the local Redis takes the AUTH tokens of the replication groups."""

from local.cloud import cache
from local.cloud.emulator import Call, Response

CHANGES = ("CreateReplicationGroup", "ModifyReplicationGroup", "DeleteReplicationGroup")


def after(call: Call, response: Response) -> Response:
    """Has the local Redis follow what a call changed."""
    if call.operation in CHANGES:
        cache.tokens_changed.set()
    return response
