"""The cluster autoscaler, which adds nodes for pods that fit none and takes empty ones away."""

from typing import Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from llm_serving import _checks, _cluster_autoscaler, _iam


class NodeAutoscalingArgs(TypedDict):
    """Arguments of `NodeAutoscaling`."""

    cluster_name: pulumi.Input[str]
    """EKS cluster whose managed node groups are scaled between their smallest and largest size."""
    namespace: NotRequired[str]
    """Kubernetes namespace to make for it. Default: node-autoscaling."""
    monitoring_namespace: NotRequired[str]
    """Namespace of the Prometheus that scrapes it. Default: monitoring."""
    replicas: NotRequired[int]
    """Pods, 1 or 2; the second takes over where the first fails. Default: 2."""


class NodeAutoscaling(pulumi.ComponentResource):
    """The cluster autoscaler from its Helm chart, in a namespace of its own, with a role that resizes one cluster only.

    The node groups are found by the tags that EKS gives them. Make them with `node_autoscaler` of `GpuCluster`, or an
    update sets their sizes back. Raises ValueError at construction for a number out of range.
    """

    namespace: pulumi.Output[str]
    """Its namespace. Known once it runs."""

    def __init__(self, name: str, args: NodeAutoscalingArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:NodeAutoscaling", name, {}, opts)
        replicas = _checks.whole("replicas", args.get("replicas", 2), low=1, high=2)
        monitoring_namespace = args.get("monitoring_namespace", "monitoring")
        child = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": args.get("namespace", "node-autoscaling"),
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
            opts=child,
        )
        kubernetes.networking.v1.NetworkPolicy(
            f"{name}-traffic",
            metadata={"name": "cluster-autoscaler", "namespace": namespace.metadata.name},
            spec=cast(Any, _cluster_autoscaler.network_policy(monitoring_namespace)),
            opts=child,
        )
        identity = self._identity(name, args["cluster_name"], namespace.metadata.name.apply(str))
        lookup = pulumi.InvokeOptions(parent=self)
        release = kubernetes.helm.v3.Release(
            f"{name}-cluster-autoscaler",
            name=_cluster_autoscaler.CHART,
            chart=_cluster_autoscaler.CHART,
            version=_cluster_autoscaler.CHART_VERSION,
            repository_opts={"repo": _cluster_autoscaler.CHART_REPOSITORY},
            namespace=namespace.metadata.name.apply(str),
            values=pulumi.Output.all(args["cluster_name"], aws.get_region_output(opts=lookup).region).apply(
                lambda known: _cluster_autoscaler.chart_values(
                    str(known[0]), str(known[1]), replicas=replicas, monitoring_namespace=monitoring_namespace
                )
            ),
            # A release that fails half-way is taken back whole, rather than left to be found pending.
            atomic=True,
            timeout=600,
            # A pod that starts before its association has no credentials until it is started again.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[identity]),
        )
        self.namespace = pulumi.Output.all(namespace.metadata.name, release.urn).apply(lambda known: str(known[0]))
        self.register_outputs({"namespace": self.namespace})

    def _identity(
        self, name: str, cluster_name: pulumi.Input[str], namespace: pulumi.Output[str]
    ) -> aws.eks.PodIdentityAssociation:
        child = pulumi.ResourceOptions(parent=self)
        lookup = pulumi.InvokeOptions(parent=self)
        role = aws.iam.Role(
            f"{name}-pods",
            description="Cluster autoscaler, to resize the node groups of one cluster",
            assume_role_policy=_iam.pod_identity_trust(),
            opts=child,
        )
        policy = aws.iam.RolePolicy(
            f"{name}-resize",
            role=role.name,
            policy=pulumi.Output.all(
                aws.get_partition_output(opts=lookup).partition,
                aws.get_region_output(opts=lookup).region,
                aws.get_caller_identity_output(opts=lookup).account_id,
                cluster_name,
            ).apply(lambda known: _cluster_autoscaler.resize_policy(*(str(each) for each in known))),
            opts=child,
        )
        return aws.eks.PodIdentityAssociation(
            f"{name}-identity",
            cluster_name=cluster_name,
            namespace=namespace,
            service_account=_cluster_autoscaler.SERVICE_ACCOUNT,
            role_arn=role.arn,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
