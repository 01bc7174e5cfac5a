"""What the components accept, and the refusal of what they don't, before anything is made."""

from collections.abc import Collection, Mapping
from typing import Any

from pulumi import InputPropertiesError, Output
from pulumi.errors import InputPropertyErrorDetails

Inputs = Mapping[str, Any]
"""A component's inputs, by their names in Pulumi's schema (`skipDefaultNodeGroup`)."""

CLUSTER = frozenset(
    {
        "accessEntries", "authenticationMode", "bootstrapSelfManagedAddons", "clusterSecurityGroup",
        "clusterSecurityGroupTags", "clusterTags", "corednsAddonOptions", "deletionProtection",
        "enableConfigMapMutable", "enabledClusterLogTypes", "encryptionConfigKeyArn", "endpointPrivateAccess",
        "endpointPublicAccess", "ipFamily", "kubeProxyAddonOptions", "kubernetesServiceIpAddressRange", "name",
        "nodeSecurityGroupTags", "privateSubnetIds", "providerCredentialOpts", "publicAccessCidrs", "publicSubnetIds",
        "serviceRole", "skipDefaultNodeGroup", "skipDefaultSecurityGroups", "subnetIds", "tags", "upgradePolicy",
        "useDefaultVpcCni", "version", "vpcCniOptions", "vpcId",
    }
)  # fmt: skip

MANAGED_NODE_GROUP = frozenset(
    {
        "amiType", "capacityType", "cluster", "clusterName", "diskSize", "enableIMDSv2", "forceUpdateVersion",
        "ignoreScalingChanges", "instanceTypes", "labels", "launchTemplate", "nodeGroupName", "nodeGroupNamePrefix",
        "nodeRole", "nodeRoleArn", "releaseVersion", "remoteAccess", "scalingConfig", "subnetIds", "tags", "taints",
        "version",
    }
)  # fmt: skip


def check_cluster(inputs: Inputs) -> None:
    """Raises InputPropertiesError, naming each input that this provider can't honour."""
    problems = _unsupported(inputs, CLUSTER)
    if inputs.get("authenticationMode") != "API":
        problems["authenticationMode"] = "must be API: the local eks provider makes no aws-auth ConfigMap"
    if inputs.get("skipDefaultNodeGroup") is not True:
        problems["skipDefaultNodeGroup"] = "must be true: the local eks provider makes managed node groups only"
    if inputs.get("vpcId") is None:
        problems["vpcId"] = "is required: the local eks provider looks for no default VPC"
    if all(inputs.get(each) is None for each in ("subnetIds", "publicSubnetIds", "privateSubnetIds")):
        problems["subnetIds"] = "is required, or publicSubnetIds or privateSubnetIds"
    if inputs.get("publicAccessCidrs") is not None and inputs.get("endpointPublicAccess") is False:
        problems["publicAccessCidrs"] = "can only be set when endpointPublicAccess is true"
    _refuse("The input properties for the cluster are invalid.", problems)


def check_node_group(inputs: Inputs) -> None:
    """Raises InputPropertiesError, naming each input that this provider can't honour."""
    problems = _unsupported(inputs, MANAGED_NODE_GROUP)
    if inputs.get("cluster") is None:
        problems["cluster"] = "is required"
    roles = [each for each in ("nodeRole", "nodeRoleArn") if inputs.get(each) is not None]
    if not roles:
        problems["nodeRole"] = "An IAM role, or role ARN must be provided to create a managed node group"
    if len(roles) == 2:
        problems["nodeRole"] = "You cannot specify both nodeRole and nodeRoleArn when creating a managed node group."
    if inputs.get("launchTemplate") is not None and inputs.get("enableIMDSv2") is not None:
        problems["launchTemplate"] = (
            "If you provide a custom launch template, you cannot provide enableIMDSv2. "
            "Please include it in the launch template that you are providing."
        )
    _refuse("The input properties for the managed node group are invalid.", problems)


def _unsupported(inputs: Inputs, known: Collection[str]) -> dict[str, str]:
    reason = "is not supported by the local eks provider: leave it out, or install Pulumi's official eks plugin"
    return {name: reason for name, value in sorted(inputs.items()) if name not in known and _is_set(value)}


def _is_set(value: Any) -> bool:
    return isinstance(value, Output) or bool(value)


def _refuse(message: str, problems: Mapping[str, str]) -> None:
    if problems:
        errors: list[InputPropertyErrorDetails] = [
            {"property_path": name, "reason": reason} for name, reason in problems.items()
        ]
        raise InputPropertiesError(message, errors)
