from typing import Any

import pytest

from local.cluster.controller import groups, instance_types, simulated
from local.cluster.controller.node_groups import gpu_changes, metadata_changes

DESCRIBED: dict[str, Any] = {
    "clusterName": "llm",
    "nodegroupName": "l4-7f3",
    "instanceTypes": ["g6.12xlarge"],
    "scalingConfig": {"minSize": 1, "maxSize": 3, "desiredSize": 2},
    "labels": {"llm-serving/pool": "l4"},
    "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
    "capacityType": "SPOT",
    "status": "ACTIVE",
}


@pytest.mark.parametrize(
    ("name", "vcpus", "memory", "gpus"),
    [
        ("m7i.large", 2, 8, 0),
        ("c7g.4xlarge", 16, 32, 0),
        ("r6i.2xlarge", 8, 64, 0),
        ("t3.medium", 2, 4, 0),
        ("g4dn.xlarge", 4, 16, 1),
        ("g4dn.12xlarge", 48, 192, 4),
        ("g5.48xlarge", 192, 768, 8),
        ("g6.xlarge", 4, 16, 1),
        ("g6.16xlarge", 64, 256, 1),
        ("g6e.12xlarge", 48, 384, 4),
        ("p4d.24xlarge", 96, 1152, 8),
        ("p5.48xlarge", 192, 2048, 8),
    ],
)
def test_instance_types(name: str, vcpus: int, memory: float, gpus: int) -> None:
    found = instance_types.find(name)
    assert found is not None
    assert (found.vcpus, found.memory, found.gpus) == (vcpus, memory, gpus)
    assert (found.gpu is not None) == (gpus > 0)


@pytest.mark.parametrize("name", ["g4dn.48xlarge", "g6.large", "mac2.metal", "", "nonsense"])
def test_unknown_instance_types(name: str) -> None:
    assert instance_types.find(name) is None
    assert instance_types.get(name) == instance_types.InstanceType(2, 8)


def test_node_group_becomes_labels_taints_and_capacity() -> None:
    group = groups.from_description(DESCRIBED, ("us-east-1a", "us-east-1b"))
    assert (group.desired, group.minimum, group.maximum) == (2, 1, 3)
    assert group.taints == ({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},)
    assert group.capacity == {
        "cpu": "48", "memory": "196608Mi", "pods": "110", "nvidia.com/gpu": "4", "ephemeral-storage": "20G",
    }  # fmt: skip
    assert group.node_labels(group.zone(3)) == {
        "llm-serving/pool": "l4",
        "eks.amazonaws.com/nodegroup": "l4-7f3",
        "eks.amazonaws.com/capacityType": "SPOT",
        "node.kubernetes.io/instance-type": "g6.12xlarge",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.product": "NVIDIA-L4",
        "nvidia.com/gpu.memory": "23034",
        "topology.kubernetes.io/region": "us-east-1",
        "topology.kubernetes.io/zone": "us-east-1b",
    }


def test_a_new_node_has_the_disk_of_its_launch_template() -> None:
    """Pods ask for ephemeral storage: without it no new node would seem to have room for one."""
    template = {"id": "lt-1", "name": "l4", "version": "2"}
    asked: list[dict[str, Any]] = []

    class Emulator:
        def list_clusters(self) -> dict[str, Any]:
            return {"clusters": ["llm"]}

        def list_nodegroups(self, **_: str) -> dict[str, Any]:
            return {"nodegroups": ["l4-7f3", "own-disk"]}

        def describe_nodegroup(self, *, clusterName: str, nodegroupName: str) -> dict[str, Any]:  # noqa: N803 - boto3's
            own = {"launchTemplate": template} if nodegroupName == "l4-7f3" else {"diskSize": 35}
            return {"nodegroup": {**DESCRIBED, "nodegroupName": nodegroupName, **own}}

        def describe_launch_template_versions(self, **given: Any) -> dict[str, Any]:
            asked.append(given)
            disks = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 300}}]
            return {"LaunchTemplateVersions": [{"LaunchTemplateData": {"BlockDeviceMappings": disks}}]}

    found = [groups.read(Emulator(), Emulator()) for _ in range(2)][1]
    assert [group.capacity["ephemeral-storage"] for group in found] == ["300G", "35G"]
    assert asked == [{"LaunchTemplateId": "lt-1", "Versions": ["2"]}]


def test_deleting_group_wants_no_nodes() -> None:
    group = groups.from_description({**DESCRIBED, "status": "DELETING"}, ())
    assert (group.desired, group.minimum, group.maximum) == (0, 0, 0)
    assert group.zones == ("us-east-1a",)


def test_group_without_gpu_has_no_gpu_labels() -> None:
    described = {key: DESCRIBED[key] for key in ("clusterName", "nodegroupName")}
    group = groups.from_description({**described, "taints": None, "labels": None}, ())
    assert set(group.labels) == {
        "eks.amazonaws.com/nodegroup", "eks.amazonaws.com/capacityType", "node.kubernetes.io/instance-type",
    }  # fmt: skip
    assert group.labels["eks.amazonaws.com/capacityType"] == "ON_DEMAND"
    assert group.taints == ()


def test_taints_without_value_and_of_every_effect() -> None:
    assert groups.taint({"key": "a", "effect": "NO_EXECUTE"}) == {"key": "a", "effect": "NoExecute"}
    described = {"key": "a", "value": "b", "effect": "PREFER_NO_SCHEDULE"}
    assert groups.taint(described) == {"key": "a", "value": "b", "effect": "PreferNoSchedule"}


def test_metadata_changes_are_what_lacks() -> None:
    group = groups.from_description(DESCRIBED, ())
    lifecycle = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    found = {"metadata": {"name": "n", "labels": {"own": "1"}}, "spec": {"taints": [lifecycle]}}
    changes = metadata_changes(found, group)
    assert changes["metadata"]["labels"] == group.labels
    assert changes["spec"]["taints"] == [lifecycle, group.taints[0]]
    done = {"metadata": {"labels": {**group.labels, "own": "1"}}, "spec": {"taints": list(group.taints)}}
    assert metadata_changes(done, group) == {}


def test_gpu_changes() -> None:
    wanted = {"status": {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "4"}}}
    assert gpu_changes({"status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}}}, 4) == wanted
    reset = {"status": {"capacity": {"nvidia.com/gpu": "0"}, "allocatable": {"nvidia.com/gpu": "0"}}}
    assert gpu_changes(reset, 4) == wanted
    assert gpu_changes(wanted, 4) == {}
    assert gpu_changes({"status": {}}, 4) == {}
    assert gpu_changes({"status": {"capacity": {"cpu": "2"}}}, 0) == {}


def test_simulated_node() -> None:
    group = groups.from_description(DESCRIBED, ())
    item = simulated.manifest(group, 251, "us-east-1a", "v1.36.3")
    assert item["metadata"]["name"] == "ip-10-90-1-2.ec2.internal"
    assert simulated.is_simulated(item)
    assert item["status"]["capacity"] == group.capacity
    assert item["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert item["spec"]["providerID"].startswith("aws:///us-east-1a/i-")
    assert simulated.free_number({"ip-10-90-0-1.ec2.internal", "ip-10-90-0-3.ec2.internal"}) == 1
