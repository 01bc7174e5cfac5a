"""What a Pulumi state's AWS resources are in Terraform's words."""

from pathlib import Path
from typing import Any

import pytest

from local.terraform_program import Writer, referring, revealed
from tests import aws_bridge_samples as samples

STACK = "urn:pulumi:dev::p::"
CLUSTER_URN = f"{STACK}eks:index:Cluster$aws:eks/cluster:Cluster::main"
SECOND_URN = f"{STACK}aws:eks/cluster:Cluster::second one"
BALANCER_URN = f"{STACK}aws:lb/loadBalancer:LoadBalancer::balancer"
COMPONENT_URN = f"{STACK}eks:index:Cluster::main"
VPC = "vpc-0123456789abcdef0"
ISSUER = "planned-0123456789ab"


def secret(text: str) -> dict[str, str]:
    return {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": text}


PROVIDER: dict[str, Any] = {
    "type": "pulumi:providers:aws",
    "urn": f"{STACK}pulumi:providers:aws::aws",
    "id": "1",
    "inputs": {
        "__internal": {},
        "region": "us-east-1",
        "allowedAccountIds": '["333333333333"]',
        "defaultTags": '{"tags": {"environment": "dev"}}',
        "s3UsePathStyle": "false",
        "version": "7.0.0",
    },
}
CLUSTER: dict[str, Any] = {
    "type": "aws:eks/cluster:Cluster",
    "urn": CLUSTER_URN,
    "id": "planned-cccccccccccc",
    "inputs": {
        "__defaults": ["name"],
        "name": "main-1234567",
        "roleArn": "arn:aws:iam::333333333333:role/one",
        "vpcConfig": {"subnetIds": ["subnet-1"]},
        "atRestEncryption": True,
        "delay": 5,
        "policy": '{"Resource": "${aws:username}/%{x}"}',
        "endpointTypes": "REGIONAL",
        "rules": [{"filter": {"prefix": "a"}}],
        "targets": [{"port": 80}],
        "deletionProtection": True,
        "logGroup": None,
        "tags": {"Name": "main"},
    },
    "outputs": {
        "name": "main-1234567",
        "vpcConfig": {"subnetIds": ["subnet-1"], "vpcId": VPC},
        "identities": [{"issuer": ISSUER}],
        "tagsAll": {"Name": "main"},
    },
}
SECOND: dict[str, Any] = {
    "type": "aws:eks/cluster:Cluster",
    "urn": SECOND_URN,
    "id": "planned-dddddddddddd",
    "dependencies": [CLUSTER_URN, BALANCER_URN, COMPONENT_URN],
    "propertyDependencies": {"roleArn": [CLUSTER_URN, COMPONENT_URN], "policy": [CLUSTER_URN], "name": [BALANCER_URN]},
    "inputs": {
        "name": "balancer-1",
        "roleArn": VPC,
        "policy": secret('"{\\"a\\": \\"${x}://planned-0123456789ab/main-1234567\\"}"'),
        "logGroup": VPC,
    },
    "outputs": {},
}
BALANCER: dict[str, Any] = {
    "type": "aws:lb/loadBalancer:LoadBalancer",
    "urn": BALANCER_URN,
    "id": "planned-eeeeeeeeeeee",
    "inputs": {"name": "balancer-1"},
    "outputs": {"name": "balancer-1"},
}
COMPONENT = {"type": "eks:index:Cluster", "urn": COMPONENT_URN, "outputs": {"vpc": VPC}}


@pytest.fixture
def program(tmp_path: Path) -> dict[str, Any]:
    states = [PROVIDER, COMPONENT, CLUSTER, BALANCER, SECOND]
    return Writer(samples.sdk(tmp_path), samples.terraform(tmp_path)).program(states)


def test_inputs_are_what_the_provider_takes(program: dict[str, Any]) -> None:
    assert program["resource"]["aws_eks_cluster"]["main"] == {
        "name": "main-1234567",
        "role_arn": "arn:aws:iam::333333333333:role/one",
        "vpc_config": [{"subnet_ids": ["subnet-1"]}],
        "at_rest_encryption": "true",
        "delay": "5",
        "policy": '{"Resource": "$${aws:username}/%%{x}"}',
        "endpoint_types": ["REGIONAL"],
        "rule": [{"filter": [{"prefix": "a"}]}],
        "target": [{"port": 80}],
        "tags": {"Name": "main"},
    }


def test_what_another_resource_gives_is_a_reference(program: dict[str, Any]) -> None:
    """Only what that resource didn't get itself, and only where the program takes it from there."""
    assert program["resource"]["aws_eks_cluster"]["second_one"] == {
        "name": "balancer-1",
        "role_arn": "${aws_eks_cluster.main.vpc_config[0].vpc_id}",
        "policy": '{"a": "$${x}://${aws_eks_cluster.main.identity[0].issuer}/main-1234567"}',
        "log_group_name": VPC,
        "depends_on": ["aws_lb.balancer"],
    }
    assert program["resource"]["aws_lb"] == {"balancer": {"name": "balancer-1"}}


def test_the_provider_is_configured_alike(program: dict[str, Any]) -> None:
    assert program["provider"] == {
        "aws": {
            "region": "us-east-1",
            "allowed_account_ids": ["333333333333"],
            "default_tags": [{"tags": {"environment": "dev"}}],
            "s3_use_path_style": False,
        }
    }
    assert program["terraform"] == {
        "required_providers": {"aws": {"source": "hashicorp/aws", "version": "5.100.0"}},
    }


def test_secrets_of_a_state_are_revealed_at_every_depth() -> None:
    assert revealed({"a": [secret('{"b": 1}'), "c"]}) == {"a": [{"b": 1}, "c"]}


def test_numbers_and_the_longest_text_are_found() -> None:
    expressions = {"7": "${a.b.version}", "planned-0123456789ab": "${a.b.id}", "x/planned-0123456789ab": "${a.b.arn}"}
    assert referring({"n": 7, "m": 7.0, "o": 8, "t": True}, expressions) == {
        "n": "${a.b.version}", "m": "${a.b.version}", "o": 8, "t": True,
    }  # fmt: skip
    assert referring("x/planned-0123456789ab:7", expressions) == "${a.b.arn}:7"
