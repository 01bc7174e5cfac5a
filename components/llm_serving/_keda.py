"""How KEDA's chart is set up, worked out from plain values. Pure, no Pulumi import."""

from typing import Any

from llm_serving import taints
from llm_serving._traffic import pods_of, tcp, to_dns

CHART = "keda"
CHART_VERSION = "2.20.2"
CHART_REPOSITORY = "https://kedacore.github.io/charts"
_ADAPTER_PORT = 6443
_WEBHOOK_PORT = 9443
_METRICS_PORT = 8080
_OPERATOR_PORT = 9666
"""Where the operator answers the adapter."""
_PROMETHEUS_PORT = 9090


def chart_values(replicas: int) -> dict[str, Any]:
    """Return the values of the chart: on the system pool, with the rights that scaling Deployments takes."""
    budget = {"maxUnavailable": 1}
    parts = ("operator", "metricServer", "webhooks")
    return {
        "operator": {"replicaCount": replicas},
        "metricsServer": {"replicaCount": replicas},
        "webhooks": {"replicaCount": replicas},
        "nodeSelector": {taints.POOL_LABEL: taints.SYSTEM_POOL},
        "priorityClassName": "system-cluster-critical",
        # Deployments it may scale anyway; by default it may also read everything else there is.
        "rbac": {"enabledCustomScaledRefKinds": False},
        "permissions": {part: {"restrict": {"secret": True}} for part in ("operator", "metricServer")},
        "podDisruptionBudget": dict.fromkeys(parts, budget) if replicas > 1 else {},
        "resources": {
            part: {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}} for part in parts
        },
        "prometheus": {
            part: {"enabled": True, "serviceMonitor": {"enabled": True}} for part in ("operator", "metricServer")
        },
    }


def network_policy(monitoring_namespace: str) -> dict[str, Any]:
    """Return who reaches KEDA's pods and whom they reach.

    The API server's addresses are AWS's own and change: it calls the adapter and the webhook from anywhere, and is
    called on port 443.
    """
    monitoring = pods_of(monitoring_namespace)
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": tcp(_ADAPTER_PORT, _WEBHOOK_PORT)},
            {"from": [{"podSelector": {}}], "ports": tcp(_OPERATOR_PORT)},
            {"from": [monitoring], "ports": tcp(_METRICS_PORT)},
        ],
        "egress": [
            to_dns(),
            {"to": [{"podSelector": {}}], "ports": tcp(_OPERATOR_PORT)},
            {"to": [monitoring], "ports": tcp(_PROMETHEUS_PORT)},
            {"ports": tcp(443)},
        ],
    }
