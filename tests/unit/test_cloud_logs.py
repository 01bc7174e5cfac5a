"""Saved queries, and alarms and streams to OpenSearch as they are described: what the running emulator answers."""

import json
import urllib.parse
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.parsers import QueryParser

from local.addresses import REGION
from local.cloud import emulator
from tests.cloud_harness import Cloud, role


@pytest.fixture(scope="module")
def logs(cloud: Cloud) -> Any:
    return cloud.client("logs")


def put(logs: Any, name: str, **more: Any) -> str:
    given = {"name": name, "queryString": "fields @timestamp", **more}
    return logs.put_query_definition(**given)["queryDefinitionId"]


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    failure: Any = error.value
    return failure.response["Error"]["Code"]


def test_a_query_is_kept_changed_and_deleted(logs: Any) -> None:
    identifier = put(logs, "c/slow", logGroupNames=["/a", "/b"])
    (kept,) = logs.describe_query_definitions()["queryDefinitions"]
    assert kept.pop("lastModified") > 1_700_000_000_000
    assert kept == {
        "queryDefinitionId": identifier,
        "queryLanguage": "CWLI",
        "name": "c/slow",
        "queryString": "fields @timestamp",
        "logGroupNames": ["/a", "/b"],
    }
    assert put(logs, "c/slower", queryDefinitionId=identifier) == identifier
    (changed,) = logs.describe_query_definitions()["queryDefinitions"]
    assert (changed["name"], changed["logGroupNames"]) == ("c/slower", [])
    assert logs.delete_query_definition(queryDefinitionId=identifier)["success"] is True
    assert logs.describe_query_definitions()["queryDefinitions"] == []


def test_queries_are_found_by_prefix_and_page(logs: Any) -> None:
    identifiers = [put(logs, name) for name in ("b/two", "a/one", "b/three")]
    found = logs.describe_query_definitions(queryDefinitionNamePrefix="b/")["queryDefinitions"]
    assert [each["name"] for each in found] == ["b/three", "b/two"]
    first = logs.describe_query_definitions(maxResults=2)
    rest = logs.describe_query_definitions(maxResults=2, nextToken=first["nextToken"])
    assert [each["name"] for page in (first, rest) for each in page["queryDefinitions"]] == [
        "a/one",
        "b/three",
        "b/two",
    ]
    assert "nextToken" not in rest
    for identifier in identifiers:
        logs.delete_query_definition(queryDefinitionId=identifier)


def test_what_is_not_there_is_not_found(logs: Any) -> None:
    with pytest.raises(ClientError) as deleted:
        logs.delete_query_definition(queryDefinitionId="no-such-query")
    with pytest.raises(ClientError) as changed:
        put(logs, "a", queryDefinitionId="no-such-query")
    assert code(deleted) == code(changed) == "ResourceNotFoundException"


def test_a_wrong_page_is_refused(logs: Any) -> None:
    with pytest.raises(ClientError) as error:
        logs.describe_query_definitions(nextToken="here")
    assert code(error) == "InvalidParameterException"


def test_queries_outlive_a_kill(cloud: Cloud, logs: Any) -> None:
    identifier = put(logs, "c/kept")
    cloud.saved()
    cloud.kill("cloud")
    cloud.start()
    (kept,) = logs.describe_query_definitions()["queryDefinitions"]
    assert (kept["queryDefinitionId"], kept["name"]) == (identifier, "c/kept")
    logs.delete_query_definition(queryDefinitionId=identifier)


def test_iam_decides_who_may_keep_one(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    allow = {"Effect": "Allow", "Action": "logs:DescribeQueryDefinitions", "Resource": "*"}
    iam.put_user_policy(
        UserName="reader",
        PolicyName="reads",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}),
    )
    reader = cloud.client("logs", key["AccessKeyId"], key["SecretAccessKey"])
    assert reader.describe_query_definitions()["queryDefinitions"] == []
    with pytest.raises(ClientError) as error:
        put(reader, "mine")
    assert code(error) == "AccessDeniedException"


def test_a_stream_to_open_search_is_described_as_on_aws(cloud: Cloud) -> None:
    firehose = cloud.client("firehose")
    arn = role(cloud, "delivery", "firehose.amazonaws.com")
    domain = "arn:aws:es:us-east-1:000000000000:domain/logs"
    bucket = {"RoleARN": arn, "BucketARN": "arn:aws:s3:::refused", "CompressionFormat": "GZIP"}
    network = {"RoleARN": arn, "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    firehose.create_delivery_stream(
        DeliveryStreamName="logs",
        AmazonopensearchserviceDestinationConfiguration={
            "RoleARN": arn,
            "DomainARN": domain,
            "IndexName": "app",
            "S3Configuration": bucket,
            "VpcConfiguration": network,
        },
    )
    stream = firehose.describe_delivery_stream(DeliveryStreamName="logs")["DeliveryStreamDescription"]
    described = stream["Destinations"][0]["AmazonopensearchserviceDestinationDescription"]
    assert (described["DomainARN"], described["IndexName"]) == (domain, "app")
    assert described["S3DestinationDescription"] == bucket
    assert described["VpcConfigurationDescription"] == network
    firehose.delete_delivery_stream(DeliveryStreamName="logs")


def test_an_alarm_is_described_whole_in_xml_too(cloud: Cloud) -> None:
    """The Terraform provider asks in the query protocol, which boto3 no longer does."""
    made = {
        "AlarmName": "pods-entered",
        "AlarmDescription": "more than <none>",
        "Namespace": "LlmServing/c",
        "MetricName": "PodsEntered",
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
        "AlarmActions": ["arn:aws:sns:us-east-1:000000000000:alarms"],
        "Dimensions": [{"Name": "Model", "Value": "qwen"}],
    }
    cloud.client("cloudwatch").put_metric_alarm(**made)
    (described,) = in_query_protocol(cloud, "DescribeAlarms", **{"AlarmNames.member.1": "pods-entered"})["MetricAlarms"]
    assert {name: described[name] for name in made} == made
    assert described["ActionsEnabled"] is True


def in_query_protocol(cloud: Cloud, operation: str, **parameters: str) -> Any:
    """Make one call of CloudWatch's query protocol; returns what boto3 makes of the answer."""
    form = urllib.parse.urlencode({"Action": operation, "Version": "2010-08-01", **parameters})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    request: Any = AWSRequest("POST", cloud.url + "/", headers=headers, data=form)
    signer: Any = SigV4Auth(Credentials("test", "test"), "monitoring", REGION)
    signer.add_auth(request)
    answer = httpx.post(cloud.url + "/", content=form, headers=dict(request.headers.items()), trust_env=False)
    parser: Any = QueryParser()
    return parser.parse(
        {"status_code": answer.status_code, "headers": dict(answer.headers), "body": answer.content},
        cloud.client("cloudwatch").meta.service_model.operation_model(operation).output_shape,
    )


def put_events(logs: Any, group: str, stream: str, times: range) -> None:
    events = [{"timestamp": at, "message": f"event {at}"} for at in times]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def test_the_newest_events_of_a_group_are_kept(logs: Any) -> None:
    logs.create_log_group(logGroupName="many")
    for stream in ("quiet", "busy"):
        logs.create_log_stream(logGroupName="many", logStreamName=stream)
    put_events(logs, "many", "quiet", range(1, 101))
    put_events(logs, "many", "busy", range(101, 8101))
    assert len(logs.filter_log_events(logGroupName="many")["events"]) == 8100
    put_events(logs, "many", "busy", range(8101, 13101))
    kept = [event["timestamp"] for event in logs.filter_log_events(logGroupName="many")["events"]]
    assert kept == list(range(4101, 13101))
    logs.delete_log_group(logGroupName="many")


def test_events_outlive_a_stop(cloud: Cloud, logs: Any) -> None:
    logs.create_log_group(logGroupName="kept")
    logs.create_log_stream(logGroupName="kept", logStreamName="s")
    put_events(logs, "kept", "s", range(3))
    cloud.stop()
    cloud.start()
    put_events(logs, "kept", "s", range(3, 5))
    kept = [event["message"] for event in logs.filter_log_events(logGroupName="kept")["events"]]
    assert kept == [f"event {at}" for at in range(5)]
    logs.delete_log_group(logGroupName="kept")


@pytest.mark.parametrize(
    ("operation", "changes"), [("PutLogEvents", 0), ("DescribeLogStreams", 0), ("CreateLogStream", 1)]
)
async def test_events_alone_are_no_reason_to_save(
    monkeypatch: pytest.MonkeyPatch, operation: str, changes: int
) -> None:
    async def answer(*_request: Any) -> emulator.Response:
        return 200, {}, b"{}"

    def action(*_request: Any) -> str:
        return f"logs:{operation}"

    def core(_name: str) -> SimpleNamespace:
        return SimpleNamespace(extract_iam_action=action)

    handlers: dict[str, Any] = {"logs": answer}
    monkeypatch.setattr(emulator, "application", lambda: SimpleNamespace(SERVICE_HANDLERS=handlers))
    monkeypatch.setattr(emulator, "core", core)
    seen: list[str] = []
    emulator.watch(lambda: seen.append(operation))
    await handlers["logs"]("POST", "/", {}, b"{}", {})
    assert len(seen) == changes
