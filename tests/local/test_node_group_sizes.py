"""Who owns a node group's size, on the real engine and the local cloud: what an autoscaler has grown stays grown."""

from typing import Any

import pytest

from tests.cloud_harness import Cloud
from tests.program_harness import ProgramStack, variables

pytestmark = pytest.mark.local

PROGRAM = """
import pulumi
import pulumi_aws as aws
from llm_serving import GpuCluster

provider = aws.Provider("aws", region="us-east-1", skip_credentials_validation=True)
own = pulumi.ResourceOptions(provider=provider)
config = pulumi.Config()
vpc = aws.ec2.Vpc("net", cidr_block="10.0.0.0/16", opts=own)
subnets = [
    aws.ec2.Subnet(f"net-{zone}", vpc_id=vpc.id, cidr_block=f"10.0.{at}.0/24",
                   availability_zone=f"us-east-1{zone}", opts=own)
    for at, zone in enumerate("ab")
]
GpuCluster(
    "cluster",
    {
        "cluster_name": "sizes", "version": "1.36", "vpc_id": vpc.id, "subnet_ids": [each.id for each in subnets],
        "deletion_protection": False, "node_autoscaler": config.require_bool("autoscaler"),
        "system_pool": {"instance_types": ["m7i.large"], "min_size": 1, "desired_size": 1, "max_size": 1},
        "gpu_pools": {"l4": {"instance_types": ["g6.xlarge"], "min_size": 1, "desired_size": 1,
                             "max_size": config.require_int("most")}},
    },
    pulumi.ResourceOptions(providers=[provider]),
)
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cloud: Cloud) -> ProgramStack:
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "Pulumi.yaml").write_text("name: sizes\nruntime: python\n")
    (folder / "__main__.py").write_text(PROGRAM)
    stack = ProgramStack(folder, variables(folder / "state", cloud.variables()))
    stack.run("stack", "init", "test")
    stack.run("config", "set", "autoscaler", "true")
    stack.run("config", "set", "most", "4")
    stack.up()
    return stack


def group(cloud: Cloud) -> dict[str, Any]:
    """The GPU node group as EKS has it."""
    eks = cloud.client("eks")
    (name,) = (each for each in eks.list_nodegroups(clusterName="sizes")["nodegroups"] if "l4" in each)
    return eks.describe_nodegroup(clusterName="sizes", nodegroupName=name)["nodegroup"]


def grow(cloud: Cloud, size: int) -> None:
    """Resize the group as an autoscaler does."""
    cloud.client("eks").update_nodegroup_config(
        clusterName="sizes", nodegroupName=group(cloud)["nodegroupName"], scalingConfig={"desiredSize": size}
    )


def sized(stack: ProgramStack) -> set[str]:
    """The properties of node groups that a preview would change."""
    return {path for kind, path in stack.differences() if kind == "aws:eks/nodeGroup:NodeGroup"}


def test_a_grown_group_is_not_shown_as_changed_nor_set_back(stack: ProgramStack, cloud: Cloud) -> None:
    grow(cloud, 3)
    assert sized(stack) == set()
    stack.up()
    assert group(cloud)["scalingConfig"] == {"minSize": 1, "maxSize": 4, "desiredSize": 3}


def test_a_refreshed_update_changes_bounds_and_keeps_the_size(stack: ProgramStack, cloud: Cloud) -> None:
    stack.run("refresh", "--yes", "--skip-preview")
    assert sized(stack) == set()
    stack.run("config", "set", "most", "5")
    assert sized(stack) == {"scalingConfig"}
    stack.up()
    assert group(cloud)["scalingConfig"] == {"minSize": 1, "maxSize": 5, "desiredSize": 3}


def test_without_an_autoscaler_an_update_sets_the_size(stack: ProgramStack, cloud: Cloud) -> None:
    stack.run("config", "set", "autoscaler", "false")
    assert sized(stack) == {"scalingConfig"}
    stack.up()
    assert group(cloud)["scalingConfig"]["desiredSize"] == 1
    stack.destroy()
