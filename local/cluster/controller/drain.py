"""Empties a node as EKS does before it ends an instance: cordon, then evict, which asks the disruption budgets."""

import time
from collections.abc import Callable

from local.cluster.api import Api, ApiError
from local.cluster.objects import Json, section, sequence


def is_evictable(pod: Json) -> bool:
    """Whether a pod would be moved by a drain: not one of a DaemonSet, not a static one, not one that has ended."""
    owners = sequence(pod, "metadata", "ownerReferences")
    return (
        not any(owner["kind"] in ("DaemonSet", "Node") for owner in owners)
        and "kubernetes.io/config.mirror" not in section(pod, "metadata", "annotations")
        and section(pod, "status").get("phase") not in ("Succeeded", "Failed")
    )


def pods_of(api: Api, node: str) -> list[Json]:
    """Every pod that is bound to a node."""
    return api.list("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")


def path_of(pod: Json) -> str:
    """A pod's path in the API."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def drain(api: Api, node: str, *, seconds: float, stopped: Callable[[], bool]) -> None:
    """Cordons a node and evicts its pods, with the grace that each asks for.

    What a disruption budget still holds back after `seconds` is deleted all the same, as an instance that ends takes
    its pods with it. Returns early where `stopped` says so.
    """
    if api.find(f"/api/v1/nodes/{node}") is None:
        return
    api.merge(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
    deadline = time.monotonic() + seconds
    while not stopped():
        left = [pod for pod in pods_of(api, node) if is_evictable(pod)]
        if not left:
            return
        late = time.monotonic() > deadline
        if late and time.monotonic() > deadline + 30:
            return
        for pod in left:
            if not pod["metadata"].get("deletionTimestamp"):
                _evict(api, pod, force=late)
        time.sleep(0.5)


def _evict(api: Api, pod: Json, *, force: bool) -> None:
    if force:
        api.delete(path_of(pod), grace_seconds=1)
        return
    metadata = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    try:
        api.create(f"{path_of(pod)}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
    except ApiError as error:
        if error.status not in (404, 429):  # gone already; or held back by a disruption budget: later
            raise


def forget(api: Api, node: str) -> None:
    """Deletes a node of which nothing runs any more, and its pods, so that others take their place at once.

    Only for a node whose processes are known to be gone: nothing waits for a kubelet's word.
    """
    for pod in pods_of(api, node):
        api.delete(path_of(pod), grace_seconds=0)
    api.delete(f"/api/v1/nodes/{node}")
