"""The bucket that holds model weights: `models/<name>/<revision>/...` and a manifest written last."""

from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _checks, _iam
from llm_serving._keys import encryption_key


class ModelBucketArgs(TypedDict):
    """Arguments of `ModelBucket`."""

    bucket_name: NotRequired[str]
    """Name of the bucket. Default: chosen by Pulumi."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """Key that encrypts the objects. Default: a key of the bucket's own, rotated every year."""
    require_tls: NotRequired[bool]
    """Whether requests without TLS 1.2 are refused. Default: true; turn off only for an endpoint without TLS."""
    noncurrent_version_days: NotRequired[int]
    """Days that a replaced or deleted object can be brought back. Default: 30."""
    access_log_days: NotRequired[int]
    """Days that the record of who asked for what is kept. Default: 365."""
    force_destroy: NotRequired[bool]
    """Whether destroying the bucket deletes the models in it. Default: false."""
    protect: NotRequired[bool]
    """Whether Pulumi refuses to delete or replace the bucket, its key and its access log. Default: true."""


class ModelBucket(pulumi.ComponentResource):
    """A private, versioned, encrypted bucket for model weights, and one beside it that holds its access log.

    Raises ValueError for a lifetime out of range.
    """

    bucket_name: pulumi.Output[str]
    """Name of the bucket, known when every setting of it is in place."""
    bucket_arn: pulumi.Output[str]
    """ARN of the bucket."""
    kms_key_arn: pulumi.Output[str]
    """ARN of the key that encrypts the objects."""

    def __init__(self, name: str, args: ModelBucketArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:ModelBucket", name, {}, opts)
        self._name = name
        days = _checks.whole(
            "noncurrent_version_days", args.get("noncurrent_version_days", 30), low=1, high=3650, unit="days"
        )
        log_days = _checks.whole("access_log_days", args.get("access_log_days", 365), low=1, high=3650, unit="days")
        protect = args.get("protect", True)
        given_key = args.get("kms_key_arn")
        if given_key is None:
            given_key = encryption_key(f"{name}-key", f"Model weights in {name}", parent=self, protect=protect).arn
        self.kms_key_arn = pulumi.Output.from_input(given_key)
        bucket = aws.s3.Bucket(
            f"{name}-bucket",
            bucket=args.get("bucket_name"),
            force_destroy=args.get("force_destroy", False),
            opts=pulumi.ResourceOptions(parent=self, protect=protect),
        )
        self.bucket_arn = bucket.arn
        settings = self._guard(bucket, require_tls=args.get("require_tls", True))
        settings.extend(self._keep(bucket, days))
        self._log_access(bucket, args, log_days, protect=protect)
        self.bucket_name = pulumi.Output.all(bucket.bucket, *[setting.id for setting in settings]).apply(
            lambda values: str(values[0])
        )
        self.register_outputs(
            {
                "bucketName": self.bucket_name,
                "bucketArn": self.bucket_arn,
                "kmsKeyArn": self.kms_key_arn,
            }
        )

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on))

    def _close(self, bucket: aws.s3.Bucket, block: str, ownership: str) -> list[pulumi.CustomResource]:
        """Keep the public out of a bucket, and give every object of it one owner."""
        return [
            aws.s3.BucketPublicAccessBlock(
                block,
                bucket=bucket.bucket,
                block_public_acls=True,
                block_public_policy=True,
                ignore_public_acls=True,
                restrict_public_buckets=True,
                opts=self._child(),
            ),
            aws.s3.BucketOwnershipControls(
                ownership,
                bucket=bucket.bucket,
                rule={"object_ownership": "BucketOwnerEnforced"},
                opts=self._child(),
            ),
        ]

    def _guard(self, bucket: aws.s3.Bucket, *, require_tls: bool) -> list[pulumi.CustomResource]:
        """Keep the public out, give every object one owner, and encrypt all of them."""
        closed = self._close(bucket, f"{self._name}-public-access", f"{self._name}-ownership")
        settings: list[pulumi.CustomResource] = [
            *closed,
            aws.s3.BucketServerSideEncryptionConfiguration(
                f"{self._name}-encryption",
                bucket=bucket.bucket,
                rules=[
                    {
                        "apply_server_side_encryption_by_default": {
                            "sse_algorithm": "aws:kms",
                            "kms_master_key_id": self.kms_key_arn,
                        },
                        # One data key for many objects: a model of hundreds of files costs a handful of KMS calls.
                        "bucket_key_enabled": True,
                    }
                ],
                opts=self._child(),
            ),
        ]
        if require_tls:
            # S3 refuses two changes of one bucket's access at once, hence after the block.
            settings.append(
                aws.s3.BucketPolicy(
                    f"{self._name}-policy",
                    bucket=bucket.bucket,
                    policy=bucket.arn.apply(_iam.tls_only),
                    opts=self._child(closed[0]),
                )
            )
        return settings

    def _keep(self, bucket: aws.s3.Bucket, noncurrent_days: int) -> list[pulumi.CustomResource]:
        """Keep replaced objects for a while, and nothing for ever by accident."""
        versioning = aws.s3.BucketVersioning(
            f"{self._name}-versioning",
            bucket=bucket.bucket,
            versioning_configuration={"status": "Enabled"},
            opts=self._child(),
        )
        lifecycle = aws.s3.BucketLifecycleConfiguration(
            f"{self._name}-lifecycle",
            bucket=bucket.bucket,
            rules=[
                {
                    "id": "expire-noncurrent-versions",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": noncurrent_days},
                },
                {
                    "id": "abort-incomplete-uploads",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
                },
            ],
            # A rule about noncurrent versions means nothing before there are versions.
            opts=self._child(versioning),
        )
        return [versioning, lifecycle]

    def _log_access(self, bucket: aws.s3.Bucket, args: ModelBucketArgs, days: int, *, protect: bool) -> None:
        """Have S3 record every request to the bucket in a second one.

        S3 delivers access logs to no bucket that is encrypted with a KMS key, hence SSE-S3 there.
        """
        name = f"{self._name}-access-logs"
        logs = aws.s3.Bucket(
            name,
            force_destroy=args.get("force_destroy", False),
            opts=pulumi.ResourceOptions(parent=self, protect=protect),
        )
        block, ownership = self._close(logs, name, name)
        aws.s3.BucketServerSideEncryptionConfiguration(
            name,
            bucket=logs.bucket,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=self._child(),
        )
        versioning = aws.s3.BucketVersioning(
            name, bucket=logs.bucket, versioning_configuration={"status": "Enabled"}, opts=self._child()
        )
        aws.s3.BucketLifecycleConfiguration(
            name,
            bucket=logs.bucket,
            rules=[
                {
                    "id": "expire",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "expiration": {"days": days},
                    "noncurrent_version_expiration": {"noncurrent_days": 1},
                }
            ],
            opts=self._child(versioning),
        )
        require_tls = args.get("require_tls", True)
        account = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(parent=self)).account_id
        policy = aws.s3.BucketPolicy(
            name,
            bucket=logs.bucket,
            policy=pulumi.Output.all(logs.arn, bucket.arn, account).apply(
                lambda known: _iam.access_log_delivery(known[0], known[1], known[2], require_tls=require_tls)
            ),
            opts=self._child(block),
        )
        aws.s3.BucketLogging(
            f"{self._name}-logging",
            bucket=bucket.bucket,
            target_bucket=logs.bucket,
            target_prefix="s3/",
            opts=self._child(policy, ownership),
        )
