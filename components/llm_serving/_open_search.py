"""The way from the cluster to an OpenSearch domain: a Firehose stream, and a bucket for what the domain refuses.

Fluent Bit puts each log line into the stream as a record of its own. A subscription of the log group would be shorter,
but CloudWatch Logs packs many events into one Firehose record, and OpenSearch takes one document a record: Firehose
doesn't support that pair (Firehose guide, "Send CloudWatch Logs to Firehose").
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _iam, _log_shipping

RETRY_SECONDS = 3600
"""How long Firehose tries a domain that doesn't answer before the documents go to the bucket; it takes 0 to 7200."""
PARTS = ("open-search", "bucket")


class OpenSearchArgs(TypedDict):
    """An OpenSearch domain that exists already."""

    domain_arn: pulumi.Input[str]
    """ARN of the domain, of OpenSearch or Elasticsearch 7. Its access policy must let `open_search_role_arn` write."""
    index: NotRequired[str]
    """Index to write; the day is added to its name. Default: llm-serving."""
    subnet_ids: NotRequired[pulumi.Input[Sequence[str]]]
    """Subnets by which a domain in a VPC is reached, private ones of that VPC. Default: by its public address."""
    security_group_ids: NotRequired[pulumi.Input[Sequence[str]]]
    """Security groups to reach it with: they let HTTPS out, the domain's lets it in. Needed with `subnet_ids`."""


def check(field: str, args: OpenSearchArgs) -> None:
    """Check what is known of the arguments; raises ValueError otherwise."""
    arn = args["domain_arn"]
    if isinstance(arn, str):
        _log_shipping.check_domain(f"{field}.domain_arn", arn)
    for given, missing in (("subnet_ids", "security_group_ids"), ("security_group_ids", "subnet_ids")):
        if given in args and missing not in args:
            raise ValueError(
                f"{field}.{missing}: is missing, and {given} means nothing without it; nearest valid value: both or"
                " neither"
            )


class OpenSearchDelivery:
    """The stream, and what it needs. Its resources are children of the component that makes it."""

    def __init__(
        self,
        name: str,
        args: OpenSearchArgs,
        *,
        parent: pulumi.Resource,
        key: aws.kms.Key,
        retention_days: int,
        protect: bool,
        require_tls: bool,
    ):
        self._name = f"{name}-open-search"
        self._args = args
        self._parent = parent
        self._key = key
        self._index = args.get("index", "llm-serving")
        bucket, closed = self._refused(retention_days, protect=protect, require_tls=require_tls)
        errors, streams = self._errors(retention_days)
        account = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(parent=parent)).account_id
        role = aws.iam.Role(
            self._name,
            description=f"Lets Firehose fill {self._index} in OpenSearch",
            assume_role_policy=account.apply(lambda own: _iam.service_trust("firehose.amazonaws.com", own)),
            opts=self._child(),
        )
        self.role_arn = role.arn
        policies = self._policies(role, bucket, streams, account)
        self.stream = self._stream(role, bucket, errors, streams, [*policies, *closed])

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._parent, depends_on=list(depends_on))

    def _refused(
        self, retention_days: int, *, protect: bool, require_tls: bool
    ) -> tuple[aws.s3.Bucket, list[pulumi.CustomResource]]:
        """Make the bucket of documents that the domain didn't take, as closed as the model bucket."""
        name = f"{self._name}-refused"
        bucket = aws.s3.Bucket(
            name,
            force_destroy=not protect,
            opts=pulumi.ResourceOptions(parent=self._parent, protect=protect),
        )
        block = aws.s3.BucketPublicAccessBlock(
            name,
            bucket=bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child(),
        )
        ownership = aws.s3.BucketOwnershipControls(
            name, bucket=bucket.bucket, rule={"object_ownership": "BucketOwnerEnforced"}, opts=self._child()
        )
        encryption = aws.s3.BucketServerSideEncryptionConfiguration(
            name,
            bucket=bucket.bucket,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": self._key.arn,
                    },
                    "bucket_key_enabled": True,
                }
            ],
            opts=self._child(),
        )
        versioning = aws.s3.BucketVersioning(
            name, bucket=bucket.bucket, versioning_configuration={"status": "Enabled"}, opts=self._child()
        )
        aws.s3.BucketLifecycleConfiguration(
            name,
            bucket=bucket.bucket,
            rules=[
                {
                    "id": "expire",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "expiration": {"days": retention_days},
                    "noncurrent_version_expiration": {"noncurrent_days": 1},
                },
                {
                    "id": "abort-incomplete-uploads",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
                },
            ],
            opts=self._child(versioning),
        )
        if require_tls:
            aws.s3.BucketPolicy(
                name, bucket=bucket.bucket, policy=bucket.arn.apply(_iam.tls_only), opts=self._child(block)
            )
        return bucket, [block, ownership, encryption]

    def _errors(self, retention_days: int) -> tuple[aws.cloudwatch.LogGroup, list[aws.cloudwatch.LogStream]]:
        """Make the log in which Firehose says what it couldn't deliver and why; it makes none itself."""
        group = aws.cloudwatch.LogGroup(
            self._name, retention_in_days=retention_days, kms_key_id=self._key.arn, opts=self._child()
        )
        return group, [
            aws.cloudwatch.LogStream(f"{self._name}-{part}", name=part, log_group_name=group.name, opts=self._child())
            for part in PARTS
        ]

    def _policies(
        self,
        role: aws.iam.Role,
        bucket: aws.s3.Bucket,
        streams: Sequence[aws.cloudwatch.LogStream],
        account: pulumi.Output[str],
    ) -> list[pulumi.Resource]:
        policy = pulumi.Output.all(
            self._args["domain_arn"], bucket.arn, self._key.arn, *[stream.arn for stream in streams]
        ).apply(
            lambda known: _log_shipping.delivery_policy(
                domain_arn=known[0],
                bucket_arn=known[1],
                key_arn=known[2],
                log_stream_arns=known[3:],
                index=self._index,
            )
        )
        policies: list[pulumi.Resource] = [
            aws.iam.RolePolicy(self._name, role=role.id, policy=policy, opts=self._child())
        ]
        if "subnet_ids" in self._args:
            lookup = pulumi.InvokeOptions(parent=self._parent)
            where = pulumi.Output.all(
                partition=aws.get_partition_output(opts=lookup).partition,
                region=aws.get_region_output(opts=lookup).region,
                account=account,
            )
            reach = pulumi.Output.all(where, self._args["subnet_ids"], self._args.get("security_group_ids", [])).apply(
                lambda known: _log_shipping.interface_policy(known[0], known[1], known[2])
            )
            policies.append(aws.iam.RolePolicy(f"{self._name}-vpc", role=role.id, policy=reach, opts=self._child()))
        return policies

    def _stream(
        self,
        role: aws.iam.Role,
        bucket: aws.s3.Bucket,
        errors: aws.cloudwatch.LogGroup,
        streams: Sequence[aws.cloudwatch.LogStream],
        after: Sequence[pulumi.Resource],
    ) -> aws.kinesis.FirehoseDeliveryStream:
        subnets = self._args.get("subnet_ids")
        vpc: aws.kinesis.FirehoseDeliveryStreamOpensearchConfigurationVpcConfigArgsDict | None = None
        if subnets is not None:
            vpc = {
                "role_arn": role.arn,
                "subnet_ids": subnets,
                "security_group_ids": self._args.get("security_group_ids", []),
            }
        return aws.kinesis.FirehoseDeliveryStream(
            self._name,
            destination="opensearch",
            server_side_encryption={"enabled": True, "key_type": "CUSTOMER_MANAGED_CMK", "key_arn": self._key.arn},
            opensearch_configuration={
                "domain_arn": self._args["domain_arn"],
                "role_arn": role.arn,
                "index_name": self._index,
                "index_rotation_period": "OneDay",
                "buffering_interval": 60,
                "buffering_size": 5,
                "retry_duration": RETRY_SECONDS,
                "s3_backup_mode": "FailedDocumentsOnly",
                "cloudwatch_logging_options": {
                    "enabled": True,
                    "log_group_name": errors.name,
                    "log_stream_name": streams[0].name,
                },
                "s3_configuration": {
                    "role_arn": role.arn,
                    "bucket_arn": bucket.arn,
                    "kms_key_arn": self._key.arn,
                    "compression_format": "GZIP",
                    "buffering_interval": 300,
                    "buffering_size": 5,
                    "cloudwatch_logging_options": {
                        "enabled": True,
                        "log_group_name": errors.name,
                        "log_stream_name": streams[1].name,
                    },
                },
                "vpc_config": vpc,
            },
            # The role can do everything before Firehose tries it.
            opts=self._child(*after),
        )
