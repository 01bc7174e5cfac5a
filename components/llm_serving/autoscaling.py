"""KEDA, which scales models by what Prometheus says of their queues."""

from typing import Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_kubernetes as kubernetes

from llm_serving import _checks, _keda


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
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": args.get("namespace", "keda"),
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
            opts=child,
        )
        kubernetes.networking.v1.NetworkPolicy(
            f"{name}-traffic",
            metadata={"name": "keda", "namespace": namespace.metadata.name},
            spec=cast(Any, _keda.network_policy(args.get("monitoring_namespace", "monitoring"))),
            opts=child,
        )
        release = kubernetes.helm.v3.Release(
            f"{name}-keda",
            name=_keda.CHART,
            chart=_keda.CHART,
            version=_keda.CHART_VERSION,
            repository_opts={"repo": _keda.CHART_REPOSITORY},
            namespace=namespace.metadata.name.apply(str),
            values=_keda.chart_values(replicas),
            # A release that fails half-way is taken back whole, rather than left to be found pending.
            atomic=True,
            timeout=600,
            opts=child,
        )
        self.namespace = pulumi.Output.all(namespace.metadata.name, release.urn).apply(lambda known: str(known[0]))
        self.register_outputs({"namespace": self.namespace})
