"""GpuCluster: the cluster's safe settings, each node group's exact inputs, and pools that are refused."""

from typing import Any

import pulumi
import pytest

from llm_serving import GpuCluster
from llm_serving.cluster import GpuClusterArgs, NodePoolArgs, protect_cluster
from tests.recording import KUBECONFIG, Recording, record

SYSTEM: NodePoolArgs = {"instance_types": ["m7i.large"], "min_size": 1, "desired_size": 2, "max_size": 3}
GPU: NodePoolArgs = {"instance_types": ["g6.xlarge"], "min_size": 0, "desired_size": 1, "max_size": 4}


def cluster(**args: Any) -> Recording:
    given: dict[str, Any] = {
        "cluster_name": "llm",
        "version": "1.36",
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1", "subnet-2"],
        "system_pool": SYSTEM,
        "gpu_pools": {"l4": GPU},
        **args,
    }
    return record(lambda: GpuCluster("k", GpuClusterArgs(**given)))


def test_every_resource() -> None:
    assert cluster().types() == {
        "llm-serving:index:GpuCluster": 1,
        "eks:index:Cluster": 1,
        "eks:index:ManagedNodeGroup": 2,
        "aws:ec2/launchTemplate:LaunchTemplate": 2,
        "aws:eks/addon:Addon": 3,
        "aws:eks/podIdentityAssociation:PodIdentityAssociation": 1,
        "aws:iam/role:Role": 2,
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment": 4,
        "aws:kms/key:Key": 1,
        "aws:cloudwatch/logGroup:LogGroup": 1,
    }


def test_cluster() -> None:
    made = cluster()
    key = "arn:aws:test:us-east-1:123456789012:key/k-key"
    assert made.inputs("eks:index:Cluster", "k") == {
        "name": "llm",
        "version": "1.36",
        "vpcId": "vpc-1",
        "privateSubnetIds": ["subnet-1", "subnet-2"],
        "kubernetesServiceIpAddressRange": "172.20.0.0/16",
        "authenticationMode": "API",
        "accessEntries": {},
        "createOidcProvider": False,
        "skipDefaultNodeGroup": True,
        "skipDefaultSecurityGroups": True,
        "bootstrapSelfManagedAddons": False,
        "encryptionConfigKeyArn": key,
        "enabledClusterLogTypes": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "endpointPrivateAccess": True,
        "endpointPublicAccess": False,
        "deletionProtection": True,
        "vpcCniOptions": {"enableNetworkPolicy": True},
    }
    assert made.inputs("aws:cloudwatch/logGroup:LogGroup", "k-control-plane") == {
        "name": "/aws/eks/llm/cluster",
        "retentionInDays": 90,
        "kmsKeyId": key,
    }


@pytest.mark.parametrize("protect", [True, False])
def test_protection_of_the_cluster_and_its_key_but_not_of_its_access_entries(protect: bool) -> None:
    made = cluster(deletion_protection=protect)
    assert made.one("aws:kms/key:Key", "k-key").protect is protect
    assert made.inputs("eks:index:Cluster", "k")["deletionProtection"] is protect
    assert made.transforms["k"] == ([protect_cluster] if protect else [])


@pytest.mark.parametrize(
    ("type_", "protect"), [("aws:eks/cluster:Cluster", True), ("aws:eks/accessEntry:AccessEntry", None)]
)
def test_what_is_protected_below_the_cluster(type_: str, protect: bool | None) -> None:
    opts = pulumi.ResourceOptions(ignore_changes=["version"])
    args = pulumi.ResourceTransformArgs(custom=True, type_=type_, name="k", props={"name": "llm"}, opts=opts)
    result = protect_cluster(args)
    if protect is None:
        assert result is None
    else:
        assert result is not None
        assert result.props == {"name": "llm"}
        assert (result.opts.protect, result.opts.ignore_changes) == (True, ["version"])


def test_public_access_and_access_entries() -> None:
    entry = {"principal_arn": "arn:aws:iam::123456789012:role/team", "policy": "AmazonEKSViewPolicy"}
    made = cluster(
        public_access_cidrs=["203.0.113.0/24"],
        access_entries={"team": entry, "dev": {**entry, "namespaces": ["llm-serving"]}},
        addon_versions={"vpc-cni": "v1.20.4-eksbuild.1", "kube-proxy": "v1.36.0-eksbuild.2"},
    ).inputs("eks:index:Cluster", "k")
    assert made["endpointPublicAccess"] is True
    assert made["publicAccessCidrs"] == ["203.0.113.0/24"]
    assert made["vpcCniOptions"] == {"enableNetworkPolicy": True, "addonVersion": "v1.20.4-eksbuild.1"}
    assert made["kubeProxyAddonOptions"] == {"version": "v1.36.0-eksbuild.2"}
    policy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    assert made["accessEntries"] == {
        "team": {
            "principalArn": "arn:aws:iam::123456789012:role/team",
            "accessPolicies": {"policy": {"policyArn": policy, "accessScope": {"type": "cluster"}}},
        },
        "dev": {
            "principalArn": "arn:aws:iam::123456789012:role/team",
            "accessPolicies": {
                "policy": {
                    "policyArn": policy,
                    "accessScope": {"type": "namespace", "namespaces": ["llm-serving"]},
                }
            },
        },
    }


@pytest.mark.parametrize(("autoscaler", "least", "ignored"), [(True, 0, True), (True, 4, None), (False, 0, None)])
def test_who_owns_a_groups_size(autoscaler: bool, least: int, ignored: bool | None) -> None:
    """A size that an autoscaler has set outlives an update; one that can't change stays the program's."""
    pool: NodePoolArgs = {**GPU, "min_size": least, "desired_size": 4}
    made = cluster(gpu_pools={"l4": pool}, node_autoscaler=autoscaler)
    assert made.inputs("eks:index:ManagedNodeGroup", "k-l4").get("ignoreScalingChanges") is ignored


def test_gpu_node_group() -> None:
    made = cluster()
    inputs = made.inputs("eks:index:ManagedNodeGroup", "k-l4")
    del inputs["cluster"]
    assert inputs == {
        "nodeRoleArn": "arn:aws:test:us-east-1:123456789012:role/k-node",
        "amiType": "AL2023_x86_64_NVIDIA",
        "version": "1.36",
        "capacityType": "ON_DEMAND",
        "instanceTypes": ["g6.xlarge"],
        "subnetIds": ["subnet-1", "subnet-2"],
        "scalingConfig": {"minSize": 0, "desiredSize": 1, "maxSize": 4},
        "launchTemplate": {"id": "k-l4-id", "version": "3"},
        "labels": {"llm-serving/pool": "l4", "nvidia.com/gpu.present": "true"},
        "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
    }
    assert made.inputs("aws:ec2/launchTemplate:LaunchTemplate", "k-l4") == {
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvda",
                "ebs": {
                    "volumeSize": 100,
                    "volumeType": "gp3",
                    "encrypted": "true",
                    "deleteOnTermination": "true",
                },
            }
        ],
        "metadataOptions": {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1},
        "tagSpecifications": [
            {"resourceType": "instance", "tags": {"Name": "llm-l4"}},
            {"resourceType": "volume", "tags": {"Name": "llm-l4"}},
        ],
        "updateDefaultVersion": True,
    }


def test_system_node_group_takes_everything() -> None:
    made = cluster().inputs("eks:index:ManagedNodeGroup", "k-system")
    assert made["amiType"] == "AL2023_x86_64_STANDARD"
    assert made["labels"] == {"llm-serving/pool": "system"}
    assert "taints" not in made


def test_pool_options() -> None:
    pool = {
        **GPU,
        "ami_type": "BOTTLEROCKET_x86_64_NVIDIA",
        "disk_gb": 200,
        "capacity_type": "SPOT",
        "release_version": "1.36.0-20261103",
    }
    made = cluster(gpu_pools={"spot": pool})
    group = made.inputs("eks:index:ManagedNodeGroup", "k-spot")
    assert (group["capacityType"], group["releaseVersion"]) == ("SPOT", "1.36.0-20261103")
    (device,) = made.inputs("aws:ec2/launchTemplate:LaunchTemplate", "k-spot")["blockDeviceMappings"]
    assert (device["deviceName"], device["ebs"]["volumeSize"]) == ("/dev/xvdb", 200)


def test_node_role_outlives_its_nodes_and_cannot_do_more() -> None:
    made = cluster()
    policies = [
        resource.inputs["policyArn"].rpartition("/")[2]
        for resource in made.resources
        if resource.name.startswith("k-node-")
    ]
    assert sorted(policies) == [
        "AmazonEC2ContainerRegistryPullOnly",
        "AmazonEKSWorkerNodePolicy",
        "AmazonEKS_CNI_Policy",
    ]
    depends_on = made.one("eks:index:ManagedNodeGroup", "k-l4").depends_on
    assert {f"k-node-{policy}" for policy in policies} <= set(depends_on)


def test_addons_come_after_the_system_nodes() -> None:
    made = cluster(addon_versions={"coredns": "v1.14.0-eksbuild.1"})
    coredns = made.one("aws:eks/addon:Addon", "k-coredns")
    assert coredns.inputs == {
        "clusterName": "llm",
        "addonName": "coredns",
        "addonVersion": "v1.14.0-eksbuild.1",
        "resolveConflictsOnCreate": "OVERWRITE",
        "resolveConflictsOnUpdate": "OVERWRITE",
    }
    assert "k-system" in coredns.depends_on
    assert "addonVersion" not in made.inputs("aws:eks/addon:Addon", "k-eks-pod-identity-agent")


def test_claims_get_disks() -> None:
    made = cluster()
    assert made.inputs("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "k-disks") == {
        "role": "k-disks",
        "policyArn": "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy",
    }
    assert made.inputs("aws:eks/podIdentityAssociation:PodIdentityAssociation", "k-disks") == {
        "clusterName": "llm",
        "namespace": "kube-system",
        "serviceAccount": "ebs-csi-controller-sa",
        "roleArn": "arn:aws:test:us-east-1:123456789012:role/k-disks",
    }
    # A driver that starts before it has its role keeps the credentials that it found first: none.
    assert "k-disks" in made.one("aws:eks/addon:Addon", "k-aws-ebs-csi-driver").depends_on


def test_outputs() -> None:
    assert cluster().outputs["k"] == {
        "clusterName": "llm",
        "endpoint": "https://cluster.example",
        "kubeconfig": {"secret": KUBECONFIG},
        "clusterSecurityGroupId": "sg-cluster",
        "nodeRoleArn": "arn:aws:test:us-east-1:123456789012:role/k-node",
        "ready": True,
    }


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ({"desired_size": 5}, ("gpu_pools.l4.desired_size: 5 is outside gpu_pools.l4.min_size 0 to"
         " gpu_pools.l4.max_size 4; nearest valid value: 4")),
        ({"min_size": 6}, "gpu_pools.l4.min_size: 6 is above gpu_pools.l4.max_size 4; nearest valid value: 4"),
        ({"max_size": 451}, "gpu_pools.l4.max_size: 451 is outside 1 to 450; nearest valid value: 450"),
        ({"desired_size": 1.5}, "gpu_pools.l4.desired_size: 1.5 is not a whole number; nearest valid value: 1"),
        ({"disk_gb": 30}, "gpu_pools.l4.disk_gb: 30 GB is outside 60 to 16384; nearest valid value: 60"),
        (
            {"ami_type": "AL2023_x86_64_STANDARD"},
            ("gpu_pools.l4.ami_type: 'AL2023_x86_64_STANDARD' is not one of AL2023_x86_64_NVIDIA, AL2023_ARM_64_NVIDIA,"
            " BOTTLEROCKET_x86_64_NVIDIA; nearest valid value: AL2023_x86_64_NVIDIA"),
        ),
        (
            {"instance_types": ["m7i.xlarge"]},
            ("gpu_pools.l4.instance_types: 'm7i.xlarge' is no instance type with an NVIDIA GPU;"
            " nearest valid value: g6.xlarge"),
        ),
        (
            {"capacity_type": "spot"},
            "gpu_pools.l4.capacity_type: 'spot' is not one of ON_DEMAND, SPOT; nearest valid value: SPOT",
        ),
    ],
)  # fmt: skip
def test_refused_gpu_pools(pool: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        cluster(gpu_pools={"l4": {**GPU, **pool}})
    assert str(caught.value) == message


def test_refused_names_and_empty_system_pool() -> None:
    with pytest.raises(ValueError, match=r"gpu_pools: the name 'system' is taken by the system pool"):
        cluster(gpu_pools={"system": GPU})
    with pytest.raises(ValueError, match=r"system_pool.min_size: 0 leaves cluster DNS without a node"):
        cluster(system_pool={**SYSTEM, "min_size": 0})
    with pytest.raises(ValueError, match=r"addon_versions: 'corends' is not one of .*nearest valid value: coredns"):
        cluster(addon_versions={"corends": "v1"})


def test_numbers_may_come_as_floats() -> None:
    made = cluster(gpu_pools={"l4": {**GPU, "desired_size": 2.0, "disk_gb": 120.0}})
    assert made.inputs("eks:index:ManagedNodeGroup", "k-l4")["scalingConfig"]["desiredSize"] == 2
