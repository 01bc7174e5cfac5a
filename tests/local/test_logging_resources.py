"""The `Logging` component on the real engine and the local cloud: made, read back without a difference, deleted."""

import json
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from local import paths, plugins
from local.plugins import installation
from tests.cloud_harness import Cloud, network, role

pytestmark = pytest.mark.local

CLUSTER = "logged"
DOMAIN = "arn:aws:es:us-east-1:000000000000:domain/logs"
PROGRAM = Path(__file__).with_name("logging_program.py")


class Stack:
    """The program's stack, on a cloud and with plugins of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment

    def run(self, *arguments: str) -> str:
        process = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def differences(self) -> set[tuple[str, str]]:
        """The type of everything that a preview would change, and what about it."""
        return {
            (step["urn"].split("::")[2].rpartition("$")[2], reason)
            for step in json.loads(self.run("preview", "--json"))["steps"]
            if step["op"] != "same"
            for reason in step.get("diffReasons") or [step["op"]]
        }

    def resources(self) -> list[dict[str, Any]]:
        """What the state holds."""
        return json.loads(self.run("stack", "export"))["deployment"].get("resources", [])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    cloud.start()
    eks = cloud.client("eks")
    eks.create_cluster(
        name=CLUSTER,
        version="1.36",
        roleArn=role(cloud, "cluster", "eks.amazonaws.com"),
        resourcesVpcConfig={"subnetIds": network(cloud)},
    )
    for group in (f"/aws/eks/{CLUSTER}/cluster", "api-access"):
        cloud.client("logs").create_log_group(logGroupName=group)
    yield cloud
    cloud.stop()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cloud: Cloud) -> Stack:
    folder = tmp_path_factory.mktemp("program")
    with pytest.MonkeyPatch.context() as patch:
        for module in (paths, installation):
            patch.setattr(module, "STATE", folder / "state")
        variables = plugins.install()
    addresses: dict[str, str] = json.loads(cloud.call("__import__('json').dumps(cloud.environment())"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "AWS_"))}
    (folder / "Pulumi.yaml").write_text("name: logged\nruntime: python\n")
    shutil.copy(PROGRAM, folder / "__main__.py")
    stack = Stack(folder, {**kept, **addresses, **variables})
    stack.run("stack", "init", "test")
    stack.run("up", "--yes", "--skip-preview")
    return stack


def test_the_cloud_has_it(stack: Stack, cloud: Cloud) -> None:
    logs = cloud.client("logs")
    groups = logs.describe_log_groups(logGroupNamePrefix="/aws/containerinsights/")["logGroups"]
    assert [group["logGroupName"].rpartition("/")[2] for group in groups] == [
        "application",
        "dataplane",
        "host",
        "performance",
    ]
    assert {group["retentionInDays"] for group in groups} == {30}
    assert all(group["kmsKeyId"] for group in groups)
    (counted,) = logs.describe_metric_filters(
        metricName="GatewayServerErrors", metricNamespace=f"LlmServing/{CLUSTER}"
    )["metricFilters"]
    assert counted["metricTransformations"][0]["dimensions"] == {"Model": "$.log_processed.model"}
    saved = logs.describe_query_definitions(queryDefinitionNamePrefix=f"{CLUSTER}/gateway/")["queryDefinitions"]
    assert f"{CLUSTER}/gateway/slowest requests" in {query["name"] for query in saved}
    addon = cloud.client("eks").describe_addon(clusterName=CLUSTER, addonName="amazon-cloudwatch-observability")
    configuration = json.loads(addon["addon"]["configurationValues"])
    assert configuration["containerInsights"] == {"enabled": True}
    assert "kinesis_firehose" in configuration["containerLogs"]["fluentBit"]["config"]["extraFiles"]["open-search.conf"]


def test_the_stream_leads_to_the_domain(stack: Stack, cloud: Cloud) -> None:
    firehose = cloud.client("firehose")
    (name,) = firehose.list_delivery_streams()["DeliveryStreamNames"]
    described = firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
    assert described["DeliveryStreamEncryptionConfiguration"]["KeyType"] == "CUSTOMER_MANAGED_CMK"
    target = described["Destinations"][0]["AmazonopensearchserviceDestinationDescription"]
    assert (target["DomainARN"], target["S3BackupMode"]) == (DOMAIN, "FailedDocumentsOnly")


def test_its_pods_may_write_and_nothing_else(stack: Stack, cloud: Cloud) -> None:
    """As IAM evaluates the policies that the engine made, not as we wrote them down."""
    iam = cloud.client("iam")
    (agent,) = (each for each in iam.list_roles()["Roles"] if each["RoleName"].startswith("logging-pods"))
    group = f"arn:aws:logs:us-east-1:000000000000:log-group:/aws/containerinsights/{CLUSTER}/application"
    other = "arn:aws:logs:us-east-1:000000000000:log-group:api-access"

    def decision(action: str, resource: str) -> str:
        found = iam.simulate_principal_policy(
            PolicySourceArn=agent["Arn"], ActionNames=[action], ResourceArns=[resource]
        )
        return found["EvaluationResults"][0]["EvalDecision"]

    assert decision("logs:PutLogEvents", f"{group}:log-stream:node-1") == "allowed"
    assert decision("logs:CreateLogStream", f"{group}:*") == "allowed"
    for action, resource in (
        ("logs:PutLogEvents", f"{other}:log-stream:node-1"),
        ("logs:CreateLogGroup", group),
        ("logs:GetLogEvents", f"{group}:log-stream:node-1"),
        ("logs:DeleteLogGroup", group),
        ("firehose:DeleteDeliveryStream", "arn:aws:firehose:us-east-1:000000000000:deliverystream/logging"),
    ):
        assert decision(action, resource) == "implicitDeny", action


def test_nothing_differs_afterwards(stack: Stack) -> None:
    assert stack.differences() == set()


def test_nothing_differs_after_a_refresh(stack: Stack) -> None:
    stack.run("refresh", "--yes", "--skip-preview")
    assert stack.differences() == set()


def test_everything_is_deleted(stack: Stack, cloud: Cloud) -> None:
    stack.run("destroy", "--yes", "--skip-preview")
    assert stack.resources() == []
    logs = cloud.client("logs")
    assert logs.describe_query_definitions()["queryDefinitions"] == []
    left = {group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]}
    assert left == {f"/aws/eks/{CLUSTER}/cluster", "api-access"}
    assert cloud.client("firehose").list_delivery_streams()["DeliveryStreamNames"] == []
    assert cloud.client("s3").list_buckets()["Buckets"] == []
