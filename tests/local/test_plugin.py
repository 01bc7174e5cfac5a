"""The components as a Pulumi plugin: what it says of itself, and a program in YAML that uses it, on the local cloud."""

import json
from typing import Any

import pytest

import llm_serving
from local.paths import ROOT
from tests.cloud_harness import Cloud
from tests.local.examples_harness import checkout, example
from tests.program_harness import ProgramStack, variables

pytestmark = pytest.mark.local

ANOTHER_PORT = {
    ("aws:elasticache/replicationGroup:ReplicationGroup", "port"),
    ("aws:secretsmanager/secretVersion:SecretVersion", "secretString"),
}
"""This cloud's Redis listens on a port of its own and not on ElastiCache's, and the cache's address has the port."""
COMPONENTS = sorted(name for name in llm_serving.__all__ if not name.endswith("Args"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cloud: Cloud) -> ProgramStack:
    folder = checkout(tmp_path_factory.mktemp("checkout"))
    environment = variables(folder / "state", cloud.variables(), yaml=True)
    config = {"protect": False, "requireTls": False, "aws:region": "us-east-1", "aws:s3UsePathStyle": True}
    return example(folder, "yaml", environment, config)


@pytest.fixture(scope="module")
def schema(stack: ProgramStack) -> dict[str, Any]:
    return json.loads(stack.run("package", "get-schema", str(ROOT / "components")))


def test_every_component_is_in_the_plugin(schema: dict[str, Any]) -> None:
    assert sorted(schema["resources"]) == [f"llm-serving:index:{name}" for name in COMPONENTS]


def test_a_program_in_yaml_makes_everything(stack: ProgramStack, cloud: Cloud) -> None:
    stack.up()
    outputs = stack.outputs()
    (vpc,) = cloud.client("ec2").describe_vpcs(VpcIds=[outputs["vpcId"]])["Vpcs"]
    assert vpc["CidrBlock"] == "10.20.0.0/16"
    rules = cloud.client("s3").get_bucket_encryption(Bucket=outputs["modelBucket"])
    (rule,) = rules["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=outputs["cacheSecretArn"])["SecretString"]
    url = json.loads(secret)["url"]
    assert url.startswith("rediss://:")
    state = stack.run("stack", "export")
    assert url.split("@")[0].removeprefix("rediss://:") not in state


def test_nothing_differs_afterwards(stack: ProgramStack) -> None:
    assert stack.differences() == ANOTHER_PORT


def test_what_a_component_refuses_is_one_line(stack: ProgramStack) -> None:
    program = stack.folder / "Pulumi.yaml"
    written = program.read_text()
    program.write_text(written.replace("nodeType: cache.r7g.large", "nodeType: r7g.large"))
    try:
        done = stack.finished("preview")
    finally:
        program.write_text(written)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "node_type: 'r7g.large' is no ElastiCache node type; nearest valid value: cache.r7g.large" in said


def test_everything_is_deleted(stack: ProgramStack, cloud: Cloud) -> None:
    stack.destroy()
    assert cloud.client("s3").list_buckets()["Buckets"] == []
    assert cloud.client("elasticache").describe_replication_groups()["ReplicationGroups"] == []
