"""The controller of LeaderWorkerSets, which makes the pods of replicas that span several nodes."""

from typing import Any, NotRequired, TypedDict

import pulumi

from llm_serving import _checks, taints
from llm_serving._chart_release import ChartSource, own_namespace, released
from llm_serving._traffic import tcp, to_dns

VERSION = "0.8.0"
CHART = ChartSource("oci://registry.k8s.io/lws/charts/lws", VERSION, None, "lws")
WEBHOOK_PORT = 9443


class LeaderWorkerSetsArgs(TypedDict):
    """Arguments of `LeaderWorkerSets`."""

    namespace: NotRequired[str]
    """Kubernetes namespace to make for the controller. Default: lws-system."""
    replicas: NotRequired[int]
    """Controllers, 1 or 2; the second takes over where the first fails. Default: 2."""


class LeaderWorkerSets(pulumi.ComponentResource):
    """The controller of LeaderWorkerSets from its Helm chart, in a namespace that only lets through what it needs.

    For a cluster that has none: its custom resources and webhooks are the cluster's, not a namespace's. Raises
    ValueError at construction for a number out of range.
    """

    namespace: pulumi.Output[str]
    """Its namespace. Known once LeaderWorkerSets can be made."""

    def __init__(self, name: str, args: LeaderWorkerSetsArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:LeaderWorkerSets", name, {}, opts)
        replicas = _checks.whole("replicas", args.get("replicas", 2), low=1, high=2)
        child = pulumi.ResourceOptions(parent=self)
        namespace = own_namespace(name, args.get("namespace", "lws-system"), "lws", network_policy(), child)
        self.namespace = released(f"{name}-lws", CHART, namespace, chart_values(replicas), child)
        self.register_outputs({"namespace": self.namespace})


def chart_values(replicas: int) -> dict[str, Any]:
    """Return the values of the chart: on the system pool, restricted, its image by the chart's own version."""
    return {
        "replicaCount": replicas,
        "image": {
            "manager": {
                "repository": "registry.k8s.io/lws/lws",
                "tag": f"v{VERSION}",
                "pullPolicy": "IfNotPresent",
            }
        },
        # The namespace asks for it, and the chart leaves it out.
        "podSecurityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "nodeSelector": {taints.POOL_LABEL: taints.SYSTEM_POOL},
    }


def network_policy() -> dict[str, Any]:
    """Return who reaches the controller's pods and whom they reach.

    The API server's addresses are AWS's own and change: it calls the webhooks from anywhere, and is called on 443.
    """
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": tcp(WEBHOOK_PORT)}],
        "egress": [to_dns(), {"ports": tcp(443)}],
    }
