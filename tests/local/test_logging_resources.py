"""The `Logging` component on the real engine and the local cloud: made, read back without a difference, deleted."""

import json
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cloud_harness import Cloud, network, role
from tests.program_harness import ProgramStack, variables

pytestmark = pytest.mark.local

CLUSTER = "logged"
DOMAIN = "arn:aws:es:us-east-1:000000000000:domain/logs"
PROGRAM = Path(__file__).with_name("logging_program.py")


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
def stack(tmp_path_factory: pytest.TempPathFactory, cloud: Cloud) -> ProgramStack:
    folder = tmp_path_factory.mktemp("program")
    (folder / "Pulumi.yaml").write_text("name: logged\nruntime: python\n")
    shutil.copy(PROGRAM, folder / "__main__.py")
    stack = ProgramStack(folder, variables(folder / "state", cloud.variables()))
    stack.run("stack", "init", "test")
    stack.up()
    return stack


def test_the_cloud_has_it(stack: ProgramStack, cloud: Cloud) -> None:
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


def test_the_stream_leads_to_the_domain(stack: ProgramStack, cloud: Cloud) -> None:
    firehose = cloud.client("firehose")
    (name,) = firehose.list_delivery_streams()["DeliveryStreamNames"]
    described = firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
    assert described["DeliveryStreamEncryptionConfiguration"]["KeyType"] == "CUSTOMER_MANAGED_CMK"
    target = described["Destinations"][0]["AmazonopensearchserviceDestinationDescription"]
    assert (target["DomainARN"], target["S3BackupMode"]) == (DOMAIN, "FailedDocumentsOnly")


def test_its_pods_may_write_and_nothing_else(stack: ProgramStack, cloud: Cloud) -> None:
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


def test_nothing_differs_afterwards(stack: ProgramStack) -> None:
    assert stack.differences() == set()


def test_nothing_differs_after_a_refresh(stack: ProgramStack) -> None:
    stack.run("refresh", "--yes", "--skip-preview")
    assert stack.differences() == set()


def test_everything_is_deleted(stack: ProgramStack, cloud: Cloud) -> None:
    stack.destroy()
    logs = cloud.client("logs")
    assert logs.describe_query_definitions()["queryDefinitions"] == []
    left = {group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]}
    assert left == {f"/aws/eks/{CLUSTER}/cluster", "api-access"}
    assert cloud.client("firehose").list_delivery_streams()["DeliveryStreamNames"] == []
    assert cloud.client("s3").list_buckets()["Buckets"] == []
