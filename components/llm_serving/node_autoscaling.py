"""The cluster autoscaler, which adds nodes for pods that fit none and takes empty ones away."""

from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _checks, _cluster_autoscaler, _iam
from llm_serving._chart_release import ChartSource, own_namespace, released


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
        namespace = own_namespace(
            name,
            args.get("namespace", "node-autoscaling"),
            "cluster-autoscaler",
            _cluster_autoscaler.network_policy(monitoring_namespace),
            pulumi.ResourceOptions(parent=self),
        )
        identity = self._identity(name, args["cluster_name"], namespace.metadata.name.apply(str))
        lookup = pulumi.InvokeOptions(parent=self)
        self.namespace = released(
            f"{name}-cluster-autoscaler",
            ChartSource(
                _cluster_autoscaler.CHART, _cluster_autoscaler.CHART_VERSION, _cluster_autoscaler.CHART_REPOSITORY
            ),
            namespace,
            pulumi.Output.all(args["cluster_name"], aws.get_region_output(opts=lookup).region).apply(
                lambda known: _cluster_autoscaler.chart_values(
                    str(known[0]), str(known[1]), replicas=replicas, monitoring_namespace=monitoring_namespace
                )
            ),
            # A pod that starts before its association has no credentials until it is started again.
            pulumi.ResourceOptions(parent=self, depends_on=[identity]),
        )
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
