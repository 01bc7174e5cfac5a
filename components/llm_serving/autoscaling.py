"""KEDA, which scales models by what Prometheus says of their queues."""

from typing import NotRequired, TypedDict

import pulumi

from llm_serving import _checks, _keda
from llm_serving._chart_release import ChartSource, own_namespace, released


class AutoscalingArgs(TypedDict):
    """Arguments of `Autoscaling`."""

    namespace: NotRequired[str]
    """Kubernetes namespace to make for KEDA. Default: keda."""
    monitoring_namespace: NotRequired[str]
    """Namespace of the Prometheus that KEDA asks, and that scrapes KEDA. Default: monitoring."""
    replicas: NotRequired[int]
    """Operators and adapters, 1 or 2; the second takes over where the first fails. Default: 2."""


class Autoscaling(pulumi.ComponentResource):
    """KEDA from its Helm chart, in a namespace of its own that only lets through what it needs.

    For a cluster that has no KEDA: it serves the external metrics API, and a cluster has that once. Nodes for the pods
    that it adds come from elsewhere, as from the cluster autoscaler or Karpenter. Raises ValueError at construction for
    a number out of range.
    """

    namespace: pulumi.Output[str]
    """Its namespace. Known once ScaledObjects can be made."""

    def __init__(self, name: str, args: AutoscalingArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:Autoscaling", name, {}, opts)
        replicas = _checks.whole("replicas", args.get("replicas", 2), low=1, high=2)
        child = pulumi.ResourceOptions(parent=self)
        policy = _keda.network_policy(args.get("monitoring_namespace", "monitoring"))
        namespace = own_namespace(name, args.get("namespace", "keda"), "keda", policy, child)
        source = ChartSource(_keda.CHART, _keda.CHART_VERSION, _keda.CHART_REPOSITORY)
        self.namespace = released(f"{name}-keda", source, namespace, _keda.chart_values(replicas), child)
        self.register_outputs({"namespace": self.namespace})
