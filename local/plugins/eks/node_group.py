"""`eks:index:ManagedNodeGroup`: an EKS managed node group, with a launch template of its own where it needs one."""

from typing import Any, cast

import pulumi_aws as aws
import pulumi_eks as eks
from pulumi import ComponentResource, Output, ResourceOptions

from local.plugins.eks import properties
from local.plugins.eks.inputs import Inputs, check_node_group


class ManagedNodeGroup(ComponentResource):
    """Makes what the official plugin makes for these inputs. `state` holds the outputs by their schema names."""

    def __init__(self, name: str, inputs: Inputs, opts: ResourceOptions) -> None:
        check_node_group(inputs)
        super().__init__("eks:index:ManagedNodeGroup", name, dict(inputs), opts)
        core = Output.from_input(inputs["cluster"]).apply(_core)
        cluster = core.apply(lambda known: cast(aws.eks.Cluster, _get(known, "cluster")))
        launch_template = inputs.get("launchTemplate")
        disk_size = inputs.get("diskSize")
        if inputs.get("enableIMDSv2") is not None:
            launch_template = self._launch_template(name, inputs)
            disk_size = None  # it is in the launch template
        version = inputs.get("version")
        if version is None and inputs.get("launchTemplate") is None:
            version = cluster.apply(lambda known: known.version)
        role_arn = inputs.get("nodeRoleArn")
        if role_arn is None:
            role_arn = Output.from_input(inputs["nodeRole"]).apply(lambda role: role.arn)
        arguments: dict[str, Any] = {
            "cluster_name": inputs.get("clusterName") or cluster.apply(lambda known: known.name),
            "node_role_arn": role_arn,
            "subnet_ids": inputs.get("subnetIds") or core.apply(_subnet_ids),
            "scaling_config": Output.from_input(inputs.get("scalingConfig")).apply(properties.scaling),
            "launch_template": launch_template,
            "disk_size": disk_size,
            "version": version,
            "ami_type": inputs.get("amiType"),
            "capacity_type": inputs.get("capacityType"),
            "force_update_version": inputs.get("forceUpdateVersion"),
            "instance_types": inputs.get("instanceTypes"),
            "labels": inputs.get("labels"),
            "node_group_name": inputs.get("nodeGroupName"),
            "node_group_name_prefix": inputs.get("nodeGroupNamePrefix"),
            "release_version": inputs.get("releaseVersion"),
            "remote_access": inputs.get("remoteAccess"),
            "tags": inputs.get("tags"),
            "taints": inputs.get("taints"),
        }
        ignored = ["scalingConfig.desiredSize"] if inputs.get("ignoreScalingChanges") else []
        group = aws.eks.NodeGroup(name, opts=ResourceOptions(parent=self, ignore_changes=ignored), **arguments)
        self.state = {"nodeGroup": group, "placementGroupName": ""}
        self.register_outputs(self.state)

    def _launch_template(self, name: str, inputs: Inputs) -> dict[str, Any]:
        devices = None
        if inputs.get("diskSize") is not None:
            device = Output.from_input(inputs.get("amiType")).apply(properties.data_device)
            devices = [{"deviceName": device, "ebs": {"volumeSize": inputs["diskSize"]}}]
        arguments: dict[str, Any] = {
            "block_device_mappings": devices,
            "metadata_options": properties.metadata_options(require_tokens=bool(inputs["enableIMDSv2"])),
        }
        template = aws.ec2.LaunchTemplate(f"{name}-launchTemplate", opts=ResourceOptions(parent=self), **arguments)
        return {"id": template.id, "version": template.latest_version.apply(lambda version: str(int(version)))}


def _core(cluster: Any) -> Any:
    """The core data of a node group's `cluster`: an `eks.Cluster`, or such core data itself."""
    return cluster.core if isinstance(cluster, eks.Cluster) else cluster


def _get(core: Any, name: str) -> Any:
    """A field of core data by its schema name: it comes as an object of the SDK, or as the plain mapping sent here."""
    if name in core:
        return core[name]
    return getattr(core, "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name), None)


def _subnet_ids(core: Any) -> Any:
    for name in ("subnetIds", "privateSubnetIds", "publicSubnetIds"):
        found = _get(core, name)
        if found is not None:
            return found
    return []
