"""Logging: groups of our own before the add-on writes, a role that makes none, metrics, queries, and OpenSearch."""

import json
from typing import Any

import pytest

from llm_serving.logging import Logging, LoggingArgs
from llm_serving.observability.log_queries import METRICS, QUERIES, Log
from tests.recording import ACCOUNT, REGION, Recording, record

GROUP = "aws:cloudwatch/logGroup:LogGroup"
FILTER = "aws:cloudwatch/logMetricFilter:LogMetricFilter"
QUERY = "aws:cloudwatch/queryDefinition:QueryDefinition"
ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
ADDON = "aws:eks/addon:Addon"
POLICY = "aws:iam/rolePolicy:RolePolicy"
STREAM = "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream"
DOMAIN = f"arn:aws:es:{REGION}:{ACCOUNT}:domain/logs"
KEY = f"arn:aws:test:{REGION}:{ACCOUNT}:key/l-key"
BUCKET = f"arn:aws:test:{REGION}:{ACCOUNT}:bucket/l-open-search-refused"
ROLE = f"arn:aws:test:{REGION}:{ACCOUNT}:role/l-open-search"


def logs(**args: Any) -> Recording:
    given: dict[str, Any] = {"cluster_name": "c", "api_access_log_group": "api", "firewall_log_group": "waf", **args}
    return record(lambda: Logging("l", LoggingArgs(**given)))


def group(log: str) -> str:
    return f"arn:aws:test:{REGION}:{ACCOUNT}:loggroup/l-{log}"


def statements(made: Recording, name: str) -> dict[str, Any]:
    document = json.loads(made.inputs(POLICY, name)["policy"])
    return {each.pop("Sid"): each for each in document["Statement"]}


def test_every_resource() -> None:
    assert logs().types() == {
        "llm-serving:index:Logging": 1,
        GROUP: 3,
        FILTER: len(METRICS),
        QUERY: len(QUERIES),
        ADDON: 1,
        POLICY: 1,
        "aws:iam/role:Role": 1,
        "aws:kms/key:Key": 1,
        "aws:eks/podIdentityAssociation:PodIdentityAssociation": 1,
    }


def test_everything_is_a_child_with_the_callers_provider() -> None:
    made = logs(open_search={"domain_arn": DOMAIN}, alarm_topic_arns=["arn:topic"])
    assert {each.parent for each in made.resources if each.type != "llm-serving:index:Logging"} == {"l"}
    assert all(each.name == "l" or each.name.startswith("l-") for each in made.resources)


def test_groups_are_encrypted_end_and_are_there_first() -> None:
    made = logs(log_retention_days=30)
    for log in ("application", "host", "dataplane"):
        assert made.inputs(GROUP, f"l-{log}") == {
            "name": f"/aws/containerinsights/c/{log}",
            "retentionInDays": 30,
            "kmsKeyId": KEY,
        }
    assert {"l-application", "l-host", "l-dataplane", "l-pods"} <= set(made.one(ADDON, "l-addon").depends_on)
    assert made.one("aws:kms/key:Key", "l-key").protect


def test_the_addon_ships_logs_and_measures_nothing() -> None:
    made = logs()
    addon = made.inputs(ADDON, "l-addon")
    assert json.loads(addon.pop("configurationValues")) == {
        "tolerations": [{"operator": "Exists"}],
        "containerLogs": {"enabled": True},
        "containerInsights": {"enabled": False},
        "otelContainerInsights": {"enabled": False},
        "applicationSignals": {"enabled": False},
        "dcgmExporter": {"enabled": False},
        "neuronMonitor": {"enabled": False},
    }
    assert addon == {
        "clusterName": "c",
        "addonName": "amazon-cloudwatch-observability",
        "resolveConflictsOnCreate": "OVERWRITE",
        "resolveConflictsOnUpdate": "OVERWRITE",
    }
    assert made.inputs("aws:eks/podIdentityAssociation:PodIdentityAssociation", "l-pods") == {
        "clusterName": "c",
        "namespace": "amazon-cloudwatch",
        "serviceAccount": "cloudwatch-agent",
        "roleArn": f"arn:aws:test:{REGION}:{ACCOUNT}:role/l-pods",
    }


def test_its_pods_write_into_these_groups_and_do_nothing_else() -> None:
    assert statements(logs(), "l-pods") == {
        "WriteLogs": {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            "Resource": [
                arn for log in ("application", "host", "dataplane") for arn in (group(log), f"{group(log)}:*")
            ],
        }
    }


def test_container_insights_have_a_group_too() -> None:
    made = logs(container_insights=True, addon_version="v6.4.0-eksbuild.1")
    assert made.inputs(GROUP, "l-performance")["name"] == "/aws/containerinsights/c/performance"
    assert group("performance") in statements(made, "l-pods")["WriteLogs"]["Resource"]
    addon = made.inputs(ADDON, "l-addon")
    assert json.loads(addon["configurationValues"])["containerInsights"] == {"enabled": True}
    assert addon["addonVersion"] == "v6.4.0-eksbuild.1"


def test_lines_are_counted() -> None:
    made = logs()
    assert made.inputs(FILTER, "l-gateway-server-errors") == {
        "logGroupName": "/aws/containerinsights/c/application",
        "pattern": '{ ($.log_processed.logger = "llm_gateway.access") && ($.log_processed.status >= 500)'
        " && ($.log_processed.model = *) }",
        "metricTransformation": {
            "name": "GatewayServerErrors",
            "namespace": "LlmServing/c",
            "value": "1",
            "unit": "Count",
            "dimensions": {"Model": "$.log_processed.model"},
        },
    }
    secrets = made.inputs(FILTER, "l-secrets-read")
    assert secrets["logGroupName"] == "/aws/eks/c/cluster"
    assert secrets["metricTransformation"]["defaultValue"] == "0"
    assert made.inputs(FILTER, "l-api-throttled")["logGroupName"] == "api"


def test_queries_are_saved_with_their_groups() -> None:
    assert logs().inputs(QUERY, "l-killed-for-memory") == {
        "name": "c/cluster/processes killed for memory",
        "logGroupNames": ["/aws/containerinsights/c/host", "/aws/containerinsights/c/dataplane"],
        "queryString": next(query.text for query in QUERIES if query.name == "killed-for-memory"),
    }


def test_a_log_that_is_not_there_is_neither_counted_nor_asked() -> None:
    made = record(lambda: Logging("l", {"cluster_name": "c", "control_plane_logs": False}))
    assert len(made.names(FILTER)) == len([each for each in METRICS if each.log is Log.APPLICATION])
    absent = {Log.CONTROL_PLANE, Log.API_ACCESS, Log.FIREWALL}
    assert len(made.names(QUERY)) == len([each for each in QUERIES if not absent & set(each.logs)])


def test_alarms_are_for_those_who_have_a_topic() -> None:
    assert logs().names(ALARM) == []
    made = logs(alarm_topic_arns=["arn:topic"])
    assert sorted(made.names(ALARM)) == ["l-anonymous-denied", "l-pods-entered"]
    assert made.inputs(ALARM, "l-anonymous-denied") == {
        "alarmDescription": "In the logs of l: a request to the Kubernetes API by nobody in particular, refused",
        "namespace": "LlmServing/c",
        "metricName": "AnonymousDenied",
        "statistic": "Sum",
        "period": 300,
        "evaluationPeriods": 1,
        "threshold": 1,
        "comparisonOperator": "GreaterThanOrEqualToThreshold",
        "treatMissingData": "notBreaching",
        "alarmActions": ["arn:topic"],
    }


def test_outputs() -> None:
    assert logs().outputs["l"] == {
        "applicationLogGroup": "/aws/containerinsights/c/application",
        "metricNamespace": "LlmServing/c",
        "openSearchRoleArn": "",
    }
    assert logs(open_search={"domain_arn": DOMAIN}).outputs["l"]["openSearchRoleArn"] == ROLE


def test_the_same_resources_are_previewed() -> None:
    def program() -> None:
        Logging("l", {"cluster_name": "c", "open_search": {"domain_arn": DOMAIN}, "alarm_topic_arns": ["arn:topic"]})

    assert record(program, preview=True).types() == record(program).types()


def test_open_search_gets_each_line_as_a_record() -> None:
    made = logs(open_search={"domain_arn": DOMAIN})
    configuration = json.loads(made.inputs(ADDON, "l-addon")["configurationValues"])
    files = configuration["containerLogs"]["fluentBit"]["config"]["extraFiles"]
    assert files == {
        "open-search.conf": "[OUTPUT]\n"
        "  Name            kinesis_firehose\n"
        "  Match           application.*\n"
        "  region          ${AWS_REGION}\n"
        "  delivery_stream l-open-search\n"
        "  time_key        @timestamp\n"
    }
    assert statements(made, "l-pods")["SendToOpenSearch"] == {
        "Effect": "Allow",
        "Action": "firehose:PutRecordBatch",
        "Resource": f"arn:aws:test:{REGION}:{ACCOUNT}:firehosedeliverystream/l-open-search",
    }


def test_the_stream_is_encrypted_and_keeps_what_the_domain_refuses() -> None:
    made = logs(open_search={"domain_arn": DOMAIN})
    logging = {"enabled": True, "logGroupName": "l-open-search"}
    assert made.inputs(STREAM, "l-open-search") == {
        "destination": "opensearch",
        "serverSideEncryption": {"enabled": True, "keyType": "CUSTOMER_MANAGED_CMK", "keyArn": KEY},
        "opensearchConfiguration": {
            "domainArn": DOMAIN,
            "roleArn": ROLE,
            "indexName": "llm-serving",
            "indexRotationPeriod": "OneDay",
            "bufferingInterval": 60,
            "bufferingSize": 5,
            "retryDuration": 3600,
            "s3BackupMode": "FailedDocumentsOnly",
            "cloudwatchLoggingOptions": {**logging, "logStreamName": "open-search"},
            "s3Configuration": {
                "roleArn": ROLE,
                "bucketArn": BUCKET,
                "kmsKeyArn": KEY,
                "compressionFormat": "GZIP",
                "bufferingInterval": 300,
                "bufferingSize": 5,
                "cloudwatchLoggingOptions": {**logging, "logStreamName": "bucket"},
            },
        },
    }
    assert "l-open-search" in made.one(STREAM, "l-open-search").depends_on
    errors = made.inputs(GROUP, "l-open-search")
    assert errors == {"retentionInDays": 90, "kmsKeyId": KEY}


def test_the_bucket_of_refused_documents_is_closed() -> None:
    made = logs(open_search={"domain_arn": DOMAIN}, log_retention_days=30)
    name = "l-open-search-refused"
    s3 = "aws:s3/bucket"
    bucket = made.one(f"{s3}:Bucket", name)
    assert (bucket.protect, bucket.inputs) == (True, {"forceDestroy": False})
    block = made.inputs(f"{s3}PublicAccessBlock:BucketPublicAccessBlock", name)
    assert {value for key, value in block.items() if key != "bucket"} == {True}
    rules = made.inputs(f"{s3}ServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration", name)["rules"]
    assert rules[0]["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": KEY}
    lifecycle = made.inputs(f"{s3}LifecycleConfiguration:BucketLifecycleConfiguration", name)["rules"]
    assert lifecycle[0]["expiration"] == {"days": 30}
    policy = json.loads(made.inputs(f"{s3}Policy:BucketPolicy", name)["policy"])
    assert {each["Sid"] for each in policy["Statement"]} == {"DenyPlainHttp", "DenyOldTls"}
    local = logs(open_search={"domain_arn": DOMAIN}, require_tls=False, protect=False)
    assert local.names(f"{s3}Policy:BucketPolicy") == []
    assert local.inputs(f"{s3}:Bucket", name) == {"forceDestroy": True}


def test_firehose_may_write_to_one_domain_and_one_bucket() -> None:
    made = logs(open_search={"domain_arn": DOMAIN, "index": "app"})
    allowed = statements(made, "l-open-search")
    assert {sid: statement["Resource"] for sid, statement in allowed.items()} == {
        "FindDomain": DOMAIN,
        "WriteDocuments": [DOMAIN, f"{DOMAIN}/*"],
        "SeeHowTheDomainIs": [
            DOMAIN,
            *(
                f"{DOMAIN}/{path}"
                for path in (
                    "_all/_settings", "_cluster/stats", "app*/_mapping/*", "_nodes", "_nodes/stats", "_nodes/*/stats",
                    "_stats", "app*/_stats",
                )
            ),
        ],
        "KeepWhatWasRefused": [BUCKET, f"{BUCKET}/*"],
        "EncryptWhatWasRefused": KEY,
        "SayWhatWentWrong": [
            f"arn:aws:test:{REGION}:{ACCOUNT}:logstream/l-open-search-{part}" for part in ("open-search", "bucket")
        ],
    }  # fmt: skip
    trust = json.loads(made.inputs("aws:iam/role:Role", "l-open-search")["assumeRolePolicy"])["Statement"][0]
    assert trust["Principal"] == {"Service": "firehose.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_a_domain_in_a_vpc_is_reached_through_these_subnets_only() -> None:
    made = logs(open_search={"domain_arn": DOMAIN, "subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]})
    assert made.inputs(STREAM, "l-open-search")["opensearchConfiguration"]["vpcConfig"] == {
        "roleArn": ROLE,
        "subnetIds": ["subnet-1"],
        "securityGroupIds": ["sg-1"],
    }
    allowed = statements(made, "l-open-search-vpc")
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    assert allowed["MakeInterfaces"]["Resource"] == [
        f"{ec2}:network-interface/*",
        f"{ec2}:subnet/subnet-1",
        f"{ec2}:security-group/sg-1",
    ]
    assert allowed["KeepInterfaces"]["Condition"] == {"ArnLike": {"ec2:Subnet": [f"{ec2}:subnet/subnet-1"]}}
    assert all(action.startswith("ec2:Describe") for action in allowed["FindSubnets"]["Action"])
    assert allowed["FindSubnets"]["Resource"] == "*"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"log_retention_days": 100}, "log_retention_days: 100 days is no period .* nearest valid value: 90"),
        (
            {"addon_version": "v4.7.0-eksbuild.1"},
            "addon_version: in v4.7.0-eksbuild.1 Container Insights can't be turned off, .* value: v6.2.0-eksbuild.1",
        ),
        ({"addon_version": "6.2"}, "addon_version: '6.2' is no version of an EKS add-on, as in v6.2.0-eksbuild.1"),
        (
            {"open_search": {"domain_arn": "logs"}},
            "open_search.domain_arn: 'logs' is no ARN of an OpenSearch domain; nearest valid value: arn:aws:es:",
        ),
        (
            {"open_search": {"domain_arn": DOMAIN, "subnet_ids": ["subnet-1"]}},
            "open_search.security_group_ids: is missing, and subnet_ids means nothing without it",
        ),
        (
            {"open_search": {"domain_arn": DOMAIN, "security_group_ids": ["sg-1"]}},
            "open_search.subnet_ids: is missing, and security_group_ids means nothing without it",
        ),
    ],
)
def test_what_cannot_work_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        logs(**args)
