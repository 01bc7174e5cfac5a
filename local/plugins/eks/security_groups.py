"""The security groups that come with a cluster: the control plane's, and the one for self-managed nodes."""

from dataclasses import dataclass
from typing import Any

import pulumi_aws as aws
from pulumi import Output, Resource, ResourceOptions

from local.plugins.eks import properties
from local.plugins.eks.inputs import Inputs

ANYWHERE = {"cidr_blocks": ["0.0.0.0/0"]}
ALL_TRAFFIC = ("-1", 0, 0)
HTTPS = ("tcp", 443, 443)
UNPRIVILEGED = ("tcp", 1025, 65535)


@dataclass(frozen=True)
class Rule:
    """A rule by the suffix of its Pulumi name. `traffic` is protocol, first port and last port."""

    suffix: str
    description: str
    direction: str
    traffic: tuple[str, int, int]

    def create(
        self, name: str, group: Output[str], parent: Resource, peer: dict[str, Any]
    ) -> aws.ec2.SecurityGroupRule:
        """Makes the rule in `group`; `peer` is the argument that says where the traffic comes from or goes to."""
        protocol, first, last = self.traffic
        return aws.ec2.SecurityGroupRule(
            f"{name}-{self.suffix}",
            security_group_id=group,
            description=self.description,
            type=self.direction,
            protocol=protocol,
            from_port=first,
            to_port=last,
            opts=ResourceOptions(parent=parent),
            **peer,
        )


CLUSTER_EGRESS = Rule("eksClusterInternetEgressRule", "Allow internet access.", "egress", ALL_TRAFFIC)
NODE_EGRESS = Rule("eksNodeInternetEgressRule", "Allow internet access.", "egress", ALL_TRAFFIC)
NODE_TO_NODE = Rule("eksNodeIngressRule", "Allow nodes to communicate with each other", "ingress", ALL_TRAFFIC)
CLUSTER_TO_NODE = (
    Rule(
        "eksNodeClusterIngressRule",
        "Allow worker Kubelets and pods to receive communication from the cluster control plane",
        "ingress",
        UNPRIVILEGED,
    ),
    Rule(
        "eksExtApiServerClusterIngressRule",
        "Allow pods running extension API servers on port 443 to receive communication from cluster control plane",
        "ingress",
        HTTPS,
    ),
)
NODE_TO_CLUSTER = Rule(
    "eksClusterIngressRule", "Allow pods to communicate with the cluster API Server", "ingress", HTTPS
)


@dataclass(frozen=True)
class SecurityGroups:
    """The security groups of a cluster; what the inputs leave out is None."""

    cluster: Output[aws.ec2.SecurityGroup] | None
    nodes: aws.ec2.SecurityGroup | None = None
    cluster_ingress: aws.ec2.SecurityGroupRule | None = None


def cluster_security_group(name: str, inputs: Inputs, parent: Resource) -> Output[aws.ec2.SecurityGroup] | None:
    """The control plane's group: the given one, a new one, or none where `skipDefaultSecurityGroups` says so."""
    given = inputs.get("clusterSecurityGroup")
    if given is not None:
        return Output.from_input(given)
    if inputs.get("skipDefaultSecurityGroups"):
        return None
    own_name = f"{name}-eksClusterSecurityGroup"
    tags = Output.all(inputs.get("clusterSecurityGroupTags"), inputs.get("tags"))
    group = aws.ec2.SecurityGroup(
        own_name,
        vpc_id=inputs["vpcId"],
        revoke_rules_on_delete=True,
        tags=tags.apply(lambda given: properties.tags(own_name, *given)),
        opts=ResourceOptions(parent=parent),
    )
    CLUSTER_EGRESS.create(name, group.id, parent, ANYWHERE)
    return Output.from_input(group)


def security_groups(
    name: str, inputs: Inputs, parent: Resource, cluster: aws.eks.Cluster, group: Output[aws.ec2.SecurityGroup] | None
) -> SecurityGroups:
    """Adds the nodes' group and its rules to the control plane's group, unless the inputs leave them out."""
    if group is None or inputs.get("skipDefaultSecurityGroups"):
        return SecurityGroups(group)
    own_name = f"{name}-nodeSecurityGroup"
    given = Output.all(cluster.name, inputs.get("nodeSecurityGroupTags"), inputs.get("tags"))
    nodes = aws.ec2.SecurityGroup(
        own_name,
        vpc_id=inputs["vpcId"],
        revoke_rules_on_delete=True,
        tags=given.apply(lambda values: properties.node_security_group_tags(own_name, *values)),
        opts=ResourceOptions(parent=parent),
    )
    cluster_id = group.apply(lambda known: known.id)
    NODE_TO_NODE.create(name, nodes.id, parent, {"self": True})
    for rule in CLUSTER_TO_NODE:
        rule.create(name, nodes.id, parent, {"source_security_group_id": cluster_id})
    NODE_EGRESS.create(name, nodes.id, parent, ANYWHERE)
    ingress = NODE_TO_CLUSTER.create(name, cluster_id, parent, {"source_security_group_id": nodes.id})
    return SecurityGroups(group, nodes, ingress)
