"""How the cluster autoscaler's chart is set up and what it may do, from plain values. Pure, no Pulumi import."""

from typing import Any

from llm_serving import _iam, taints
from llm_serving._traffic import pods_of, tcp, to_dns

CHART = "cluster-autoscaler"
CHART_VERSION = "9.59.0"
"""The newest tag of the chart in kubernetes/autoscaler. Its own default image is 1.35.0."""
IMAGE_TAG = "v1.36.1"
"""Tag cluster-autoscaler-1.36.1: its minor version is Kubernetes', whose scheduler it simulates."""
CHART_REPOSITORY = "https://kubernetes.github.io/autoscaler"
SERVICE_ACCOUNT = "cluster-autoscaler"
_METRICS_PORT = 8085
_POD_IDENTITY_AGENT = "169.254.170.23/32"
_USER = 65532


def chart_values(cluster: str, region: str, *, replicas: int, monitoring_namespace: str) -> dict[str, Any]:
    """Return the values of the chart: one cluster's node groups by the tags of EKS, pods on the system pool."""
    return {
        "fullnameOverride": SERVICE_ACCOUNT,
        "cloudProvider": "aws",
        "awsRegion": region,
        # The chart asks for the groups that carry k8s.io/cluster-autoscaler/enabled and .../<cluster>: EKS tags both.
        "autoDiscovery": {"clusterName": cluster},
        "image": {"tag": IMAGE_TAG},
        "replicaCount": replicas,
        "nodeSelector": {taints.POOL_LABEL: taints.SYSTEM_POOL},
        "priorityClassName": "system-cluster-critical",
        "rbac": {"serviceAccount": {"name": SERVICE_ACCOUNT}},
        "extraArgs": {
            "expander": "least-waste",
            "scale-down-unneeded-time": "10m",
            # Pods keep caches in emptyDirs, and with true none of their nodes would ever go.
            "skip-nodes-with-local-storage": "false",
            # The only pod of a model is not moved for a node's sake: it would be gone while its weights load again.
            "min-replica-count": 2,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containerSecurityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "serviceMonitor": {"enabled": True, "namespace": monitoring_namespace, "interval": "30s"},
    }


def network_policy(monitoring_namespace: str) -> dict[str, Any]:
    """Return who reaches its pods and whom they reach: the API server's and AWS's addresses change."""
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [pods_of(monitoring_namespace)], "ports": tcp(_METRICS_PORT)}],
        "egress": [
            to_dns(),
            {"to": [{"ipBlock": {"cidr": _POD_IDENTITY_AGENT}}], "ports": tcp(80)},
            {"ports": tcp(443)},
        ],
    }


def resize_policy(partition: str, region: str, account: str, cluster: str) -> str:
    """Return the policy that resizes the groups that EKS has tagged as one cluster's, and reads what they are made of.

    After cluster-autoscaler/cloudprovider/aws/README.md of release 1.36, less what only launch configurations and
    instance requirements call, and what its code never calls. AWS knows no resource for the calls on `*`; what a group
    at zero would be is read from EKS.
    """
    here = f"{region}:{account}"
    return _iam.document(
        {
            "Sid": "FindGroups",
            "Effect": "Allow",
            "Action": [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeScalingActivities",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplateVersions",
            ],
            "Resource": "*",
        },
        {
            "Sid": "ResizeGroups",
            "Effect": "Allow",
            "Action": ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"],
            "Resource": f"arn:{partition}:autoscaling:{here}:autoScalingGroup:*:autoScalingGroupName/eks-*",
            "Condition": {"StringEquals": {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster}": "owned"}},
        },
        {
            "Sid": "ReadTemplates",
            "Effect": "Allow",
            "Action": "eks:DescribeNodegroup",
            "Resource": f"arn:{partition}:eks:{here}:nodegroup/{cluster}/*/*",
        },
    )
