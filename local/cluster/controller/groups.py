"""EKS node groups as the emulator describes them, and what Kubernetes sees of them: labels, taints, capacity."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from local.addresses import REGION
from local.cluster.controller import instance_types
from local.cluster.controller.instance_types import InstanceType
from local.cluster.objects import Json, section, sequence

GROUP_LABEL = "eks.amazonaws.com/nodegroup"
GPU = "nvidia.com/gpu"
GPU_LABEL = "nvidia.com/gpu.present"
_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule", "PREFER_NO_SCHEDULE": "PreferNoSchedule", "NO_EXECUTE": "NoExecute",
}  # fmt: skip
MAX_PODS = 110
DISK_GB = 20
"""Root disk of a node group that names no size, by EKS' default."""


@dataclass(frozen=True)
class NodeGroup:
    """One managed node group. `labels` are all labels that its nodes get but those of their zone."""

    cluster: str
    name: str
    instance_type: str
    desired: int
    minimum: int
    maximum: int
    labels: dict[str, str]
    taints: tuple[dict[str, str], ...]
    zones: tuple[str, ...]
    disk_gb: int

    @property
    def instance(self) -> InstanceType:
        """What each instance has."""
        return instance_types.get(self.instance_type)

    @property
    def capacity(self) -> dict[str, str]:
        """A node's capacity, in Kubernetes' words."""
        return capacity(self.instance, self.disk_gb)

    def zone(self, number: int) -> str:
        """The zone of the group's instance of that number: an Auto Scaling group spreads over all of them."""
        return self.zones[number % len(self.zones)]

    def node_labels(self, zone: str) -> dict[str, str]:
        """The labels of a node in a zone."""
        return {**self.labels, "topology.kubernetes.io/region": REGION, "topology.kubernetes.io/zone": zone}


def capacity(instance: InstanceType, disk_gb: int) -> dict[str, str]:
    """An instance's capacity, with a root disk of so many GB, as a node's status says it."""
    return {
        "cpu": str(instance.vcpus),
        "ephemeral-storage": f"{disk_gb}G",
        "memory": f"{int(instance.memory * 1024)}Mi",
        "pods": str(MAX_PODS),
        **({GPU: str(instance.gpus)} if instance.gpus else {}),
    }


def taint(described: Json) -> dict[str, str]:
    """A node group's taint, in Kubernetes' words."""
    value = {"value": described["value"]} if described.get("value") else {}
    return {"key": described["key"], **value, "effect": _EFFECTS[described["effect"]]}


def from_description(described: Json, zones: tuple[str, ...], disk_gb: int = DISK_GB) -> NodeGroup:
    """A node group from what EKS' DescribeNodegroup answers, its subnets' zones and the size of its root disks."""
    instance_type: str = (described.get("instanceTypes") or ["t3.medium"])[0]  # EKS' default
    sizes: dict[str, int] = section(described, "scalingConfig")
    deleting = described.get("status") == "DELETING"
    return NodeGroup(
        cluster=described["clusterName"],
        name=described["nodegroupName"],
        instance_type=instance_type,
        desired=0 if deleting else sizes.get("desiredSize", 0),
        minimum=0 if deleting else sizes.get("minSize", 0),
        maximum=0 if deleting else sizes.get("maxSize", 0),
        labels=_labels(described, instance_type),
        taints=tuple(taint(item) for item in sequence(described, "taints")),
        zones=zones or (f"{REGION}a",),
        disk_gb=disk_gb,
    )


def _labels(described: Json, instance_type: str) -> dict[str, str]:
    instance = instance_types.get(instance_type)
    gpu = instance.gpu
    discovered = {
        GPU_LABEL: "true",
        "nvidia.com/gpu.count": str(instance.gpus),
        "nvidia.com/gpu.product": gpu.product,
        "nvidia.com/gpu.memory": str(gpu.memory),
    } if gpu else {}  # fmt: skip
    return {
        **discovered,
        **section(described, "labels"),
        GROUP_LABEL: described["nodegroupName"],
        "eks.amazonaws.com/capacityType": described.get("capacityType") or "ON_DEMAND",
        "node.kubernetes.io/instance-type": instance_type,
    }


def read(eks: Any, ec2: Any) -> list[NodeGroup]:
    """All node groups of all clusters in the emulator. Raises botocore's errors where it does not answer."""
    found: list[NodeGroup] = []
    for cluster in eks.list_clusters()["clusters"]:
        try:
            for name in eks.list_nodegroups(clusterName=cluster)["nodegroups"]:
                described: Json = eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
                zones = _zones(ec2, described.get("subnets") or [])
                found.append(from_description(described, zones, _disk_gb(ec2, described)))
        except ClientError as error:
            if "ResourceNotFound" not in str(error):  # deleted since it was listed
                raise
    return found


_zones_by_subnets: dict[tuple[str, ...], tuple[str, ...]] = {}


def _zones(ec2: Any, subnets: list[str]) -> tuple[str, ...]:
    key = tuple(sorted(subnets))
    if key and key not in _zones_by_subnets:
        answer: list[Json] = ec2.describe_subnets(SubnetIds=list(key))["Subnets"]
        _zones_by_subnets[key] = tuple(sorted({subnet["AvailabilityZone"] for subnet in answer}))
    return _zones_by_subnets.get(key, ())


_disks_by_template: dict[tuple[str, str], int] = {}
"""A version of a launch template never changes."""


def _disk_gb(ec2: Any, described: Json) -> int:
    """The size of the root disks: of the launch template where the group has one, else of the group itself."""
    template: dict[str, str] = section(described, "launchTemplate")
    if not template:
        return described.get("diskSize") or DISK_GB
    key = template["id"], template["version"]
    if key not in _disks_by_template:
        versions = ec2.describe_launch_template_versions(LaunchTemplateId=key[0], Versions=[key[1]])
        data: Json = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        sizes = [section(disk, "Ebs").get("VolumeSize") for disk in sequence(data, "BlockDeviceMappings")]
        _disks_by_template[key] = next((int(size) for size in sizes if size), DISK_GB)
    return _disks_by_template[key]
