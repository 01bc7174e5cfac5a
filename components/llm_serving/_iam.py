"""IAM policies as data: who may do what, each statement as narrow as the service allows. No Pulumi import."""

import json
from collections.abc import Sequence
from typing import Any

Statement = dict[str, Any]


def document(*statements: Statement) -> str:
    """Return the policy document of these statements as JSON, in one stable spelling."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, sort_keys=True)


def service_trust(service: str, account: str = "") -> str:
    """Return the trust policy that lets an AWS service (`ec2.amazonaws.com`) take a role.

    With `account` only on behalf of that account's resources. Not every service says on whose behalf it acts.
    """
    statement: Statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if account:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
    return document(statement)


def pod_identity_trust() -> str:
    """Return the trust policy that lets EKS Pod Identity hand a role to pods. TagSession is required by EKS."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }
    )


def model_read(bucket_arn: str, prefixes: Sequence[str], key_arn: str) -> str:
    """Return the policy that reads the objects below these prefixes of a bucket and nothing else.

    A prefix has no slash at either end. Listing is limited to them; the key may only be used through S3.
    """
    objects = [f"{bucket_arn}/{prefix}/*" for prefix in prefixes]
    return document(
        {
            "Sid": "ReadObjects",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            # A single one as text, as IAM itself would give it back.
            "Resource": objects if len(objects) > 1 else objects[0],
        },
        {
            "Sid": "ListPrefix",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket_arn,
            "Condition": {
                "StringLike": {"s3:prefix": [part for prefix in prefixes for part in (prefix, f"{prefix}/*")]}
            },
        },
        {
            "Sid": "Decrypt",
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": key_arn,
            "Condition": {"StringLike": {"kms:ViaService": "s3.*.amazonaws.com"}},
        },
    )


def image_pull(accounts: Sequence[str]) -> str:
    """Return the policy of an ECR repository that lets other accounts pull its images."""
    return document(
        {
            "Sid": "PullFromOtherAccounts",
            "Effect": "Allow",
            "Principal": {"AWS": list(accounts)},
            "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        }
    )


def tls_only(bucket_arn: str) -> str:
    """Return the bucket policy that refuses every request not made over TLS 1.2 or newer."""
    return document(*_tls_statements(bucket_arn))


def _tls_statements(bucket_arn: str) -> list[Statement]:
    everything = [bucket_arn, f"{bucket_arn}/*"]
    return [
        {
            "Sid": "DenyPlainHttp",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": everything,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        {
            "Sid": "DenyOldTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": everything,
            "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}},
        },
    ]


def access_log_delivery(log_bucket_arn: str, source_bucket_arn: str, account: str, *, require_tls: bool) -> str:
    """Return the bucket policy by which S3 itself, and nobody else, writes one bucket's access log into another."""
    statements = [
        {
            "Sid": "AccessLogOfOneBucket",
            "Effect": "Allow",
            "Principal": {"Service": "logging.s3.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"{log_bucket_arn}/*",
            "Condition": {
                "ArnEquals": {"aws:SourceArn": source_bucket_arn},
                "StringEquals": {"aws:SourceAccount": account},
            },
        }
    ]
    return document(*statements, *(_tls_statements(log_bucket_arn) if require_tls else []))


def key_policy(partition: str, account: str, region: str, *, log_groups: bool) -> str:
    """Return a KMS key's policy: the account's IAM policies decide, and CloudWatch Logs may use it if asked.

    Without the first statement nobody, the account's administrators included, could manage the key. A key policy's
    resource "*" means the key itself.
    """
    statements: list[Statement] = [
        {
            "Sid": "AccountDecidesByIam",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{partition}:iam::{account}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]
    if log_groups:
        statements.append(
            {
                "Sid": "LogGroupsOfThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": f"logs.{region}.amazonaws.com"},
                "Action": [
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncrypt*",
                    "kms:GenerateDataKey*",
                    "kms:DescribeKey",
                ],
                "Resource": "*",
                "Condition": {
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": f"arn:{partition}:logs:{region}:{account}:log-group:*"
                    }
                },
            }
        )
    return document(*statements)


def write_logs(log_group_arn: str) -> str:
    """Return the policy that writes streams and events into one log group."""
    return document(
        {
            "Effect": "Allow",
            "Action": [
                "logs:CreateLogStream",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ],
            "Resource": [log_group_arn, f"{log_group_arn}:*"],
        }
    )


def publish(topic_arn: str, key_arn: str) -> str:
    """Return the policy that publishes to one SNS topic, which is encrypted with a key of the account's own."""
    return document(
        {"Sid": "Publish", "Effect": "Allow", "Action": "sns:Publish", "Resource": topic_arn},
        {
            "Sid": "Encrypt",
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
            "Resource": key_arn,
            "Condition": {"StringLike": {"kms:ViaService": "sns.*.amazonaws.com"}},
        },
    )


def log_delivery(log_group_arn: str, partition: str, region: str, account: str) -> str:
    """Return the resource policy by which AWS's log delivery writes into one log group, for this account only."""
    return document(
        {
            "Sid": "DeliverToOneGroup",
            "Effect": "Allow",
            "Principal": {"Service": "delivery.logs.amazonaws.com"},
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": f"{log_group_arn}:log-stream:*",
            "Condition": {
                "ArnLike": {"aws:SourceArn": f"arn:{partition}:logs:{region}:{account}:*"},
                "StringEquals": {"aws:SourceAccount": account},
            },
        }
    )
