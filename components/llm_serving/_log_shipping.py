"""How logs leave the cluster: the configuration of the add-on that ships them, and who may write where, as data.

The keys of the configuration are those of the chart `amazon-cloudwatch-observability` 6.4.0, which the add-on is built
from; that EKS takes `containerInsights` and `otelContainerInsights` since 6.2.0 is in the CloudWatch user guide. The
chart's own names for log groups, `/aws/containerinsights/<cluster>/...`, are kept: it then needs no configuration of
Fluent Bit's inputs and filters, and Container Insights finds what it expects.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_serving import _iam
from llm_serving._iam import Statement

ADDON = "amazon-cloudwatch-observability"
NAMESPACE = "amazon-cloudwatch"
SERVICE_ACCOUNT = "cloudwatch-agent"
"""Of the agent and of Fluent Bit, both; the add-on makes it."""
OLDEST_VERSION = (6, 2, 0)
"""The first one in which Container Insights can be turned off."""

OUTPUT_FILE = "open-search.conf"


def check_addon_version(field: str, version: str) -> None:
    """Check that a version of the add-on knows our configuration; raises ValueError otherwise."""
    oldest = "v" + ".".join(map(str, OLDEST_VERSION)) + "-eksbuild.1"
    found = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)-eksbuild\.\d+", version)
    if found is None:
        raise ValueError(
            f"{field}: {version!r} is no version of an EKS add-on, as in {oldest}; nearest valid value: {oldest}"
        )
    if tuple(map(int, found.groups())) < OLDEST_VERSION:
        raise ValueError(
            f"{field}: in {version} Container Insights can't be turned off, which {oldest} or newer can;"
            f" nearest valid value: {oldest}"
        )


def configuration(*, container_insights: bool, delivery_stream: str = "") -> str:
    """Return the add-on's configuration as JSON.

    With `delivery_stream` Fluent Bit also sends what pods write to that Firehose stream, one record a line.
    """
    values: dict[str, Any] = {
        # A node whose logs are missing is the one that somebody looks for: GPU nodes, and any other that is tainted.
        "tolerations": [{"operator": "Exists"}],
        "containerLogs": {"enabled": True},
        "containerInsights": {"enabled": container_insights},
        "otelContainerInsights": {"enabled": False},
        "applicationSignals": {"enabled": False},
        # GpuAgents brings the DCGM exporter, and two can't share a GPU's profiling counters.
        "dcgmExporter": {"enabled": False},
        "neuronMonitor": {"enabled": False},
    }
    if delivery_stream:
        values["containerLogs"]["fluentBit"] = {"config": {"extraFiles": {OUTPUT_FILE: _output(delivery_stream)}}}
    return json.dumps(values, sort_keys=True)


def _output(delivery_stream: str) -> str:
    settings = {
        "Name": "kinesis_firehose",
        "Match": "application.*",
        "region": "${AWS_REGION}",
        "delivery_stream": delivery_stream,
        "time_key": "@timestamp",
    }
    return "\n".join(["[OUTPUT]", *(f"  {key:<16}{value}" for key, value in settings.items())]) + "\n"


def agent_policy(log_group_arns: Sequence[str], delivery_stream_arn: str = "") -> str:
    """Return the policy of the pods that ship logs: they write into these log groups, and can make none."""
    statements: list[Statement] = [
        {
            "Sid": "WriteLogs",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            "Resource": [resource for arn in log_group_arns for resource in (arn, f"{arn}:*")],
        }
    ]
    if delivery_stream_arn:
        statements.append(
            {
                "Sid": "SendToOpenSearch",
                "Effect": "Allow",
                "Action": "firehose:PutRecordBatch",
                "Resource": delivery_stream_arn,
            }
        )
    return _iam.document(*statements)


def delivery_policy(
    *, domain_arn: str, bucket_arn: str, key_arn: str, log_stream_arns: Sequence[str], index: str
) -> str:
    """Return the policy by which Firehose fills an index, and keeps what was refused in a bucket.

    As in Firehose's guide, "Grant Firehose access to a public OpenSearch Service destination". Which documents the
    role may write is for the domain's own access control; IAM sees paths only, and `_bulk` is one for all indices.
    """
    read = (
        "_all/_settings", "_cluster/stats", f"{index}*/_mapping/*", "_nodes", "_nodes/stats", "_nodes/*/stats",
        "_stats", f"{index}*/_stats",
    )  # fmt: skip
    return _iam.document(
        {
            "Sid": "FindDomain",
            "Effect": "Allow",
            "Action": ["es:DescribeDomain", "es:DescribeDomainConfig", "es:DescribeDomains"],
            "Resource": domain_arn,
        },
        {
            "Sid": "WriteDocuments",
            "Effect": "Allow",
            "Action": ["es:ESHttpPost", "es:ESHttpPut"],
            "Resource": [domain_arn, f"{domain_arn}/*"],
        },
        {
            "Sid": "SeeHowTheDomainIs",
            "Effect": "Allow",
            "Action": "es:ESHttpGet",
            "Resource": [domain_arn, *(f"{domain_arn}/{path}" for path in read)],
        },
        {
            "Sid": "KeepWhatWasRefused",
            "Effect": "Allow",
            "Action": [
                "s3:AbortMultipartUpload",
                "s3:GetBucketLocation",
                "s3:GetObject",
                "s3:ListBucket",
                "s3:ListBucketMultipartUploads",
                "s3:PutObject",
            ],
            "Resource": [bucket_arn, f"{bucket_arn}/*"],
        },
        {
            "Sid": "EncryptWhatWasRefused",
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": key_arn,
            "Condition": {
                "StringLike": {
                    "kms:ViaService": "s3.*.amazonaws.com",
                    "kms:EncryptionContext:aws:s3:arn": [bucket_arn, f"{bucket_arn}/*"],
                }
            },
        },
        {
            "Sid": "SayWhatWentWrong",
            "Effect": "Allow",
            "Action": "logs:PutLogEvents",
            "Resource": list(log_stream_arns),
        },
    )


def interface_policy(where: Mapping[str, str], subnet_ids: Sequence[str], security_group_ids: Sequence[str]) -> str:
    """Return the policy by which Firehose reaches a domain in a VPC, through interfaces in these subnets and groups.

    `where` is the partition, region and account. EC2 describes nothing by resource, hence the one "*".
    """
    prefix = f"arn:{where['partition']}:ec2:{where['region']}:{where['account']}"
    interfaces = f"{prefix}:network-interface/*"
    return _iam.document(
        {
            "Sid": "FindSubnets",
            "Effect": "Allow",
            "Action": [
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcAttribute",
                "ec2:DescribeVpcs",
            ],
            "Resource": "*",
        },
        {
            "Sid": "MakeInterfaces",
            "Effect": "Allow",
            "Action": "ec2:CreateNetworkInterface",
            "Resource": [
                interfaces,
                *(f"{prefix}:subnet/{subnet}" for subnet in subnet_ids),
                *(f"{prefix}:security-group/{group}" for group in security_group_ids),
            ],
        },
        {
            "Sid": "KeepInterfaces",
            "Effect": "Allow",
            "Action": ["ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"],
            "Resource": interfaces,
            "Condition": {"ArnLike": {"ec2:Subnet": [f"{prefix}:subnet/{subnet}" for subnet in subnet_ids]}},
        },
    )


def check_domain(field: str, arn: str) -> None:
    """Check that an ARN is an OpenSearch domain's; raises ValueError otherwise."""
    if not re.fullmatch(r"arn:[a-z-]+:es:[a-z0-9-]+:\d{12}:domain/[a-z][a-z0-9-]{2,27}", arn):
        raise ValueError(
            f"{field}: {arn!r} is no ARN of an OpenSearch domain; nearest valid value:"
            " arn:aws:es:<region>:<account>:domain/<name>"
        )
