"""ModelBucket: every guard on the bucket, what each setting changes, and a policy for one model's prefix."""

import json
from typing import Any

import pytest

from llm_serving import ModelBucket
from llm_serving.model_bucket import ModelBucketArgs
from tests.recording import Recording, record

BUCKET_ARN = "arn:aws:test:us-east-1:123456789012:bucket/m-bucket"
KEY_ARN = "arn:aws:test:us-east-1:123456789012:key/m-key"


def bucket(**args: Any) -> Recording:
    return record(lambda: ModelBucket("m", ModelBucketArgs(**args)))


def test_every_resource() -> None:
    assert bucket().types() == {
        "llm-serving:index:ModelBucket": 1,
        "aws:kms/key:Key": 1,
        "aws:s3/bucket:Bucket": 2,
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": 2,
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls": 2,
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": 2,
        "aws:s3/bucketPolicy:BucketPolicy": 2,
        "aws:s3/bucketVersioning:BucketVersioning": 2,
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": 2,
        "aws:s3/bucketLogging:BucketLogging": 1,
    }


def test_guards() -> None:
    made = bucket()
    assert made.inputs("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "m-public-access") == {
        "bucket": "m-bucket",
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    }
    encryption = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    assert made.inputs(encryption, "m-encryption")["rules"] == [
        {
            "applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": KEY_ARN},
            "bucketKeyEnabled": True,
        }
    ]
    ownership = made.inputs("aws:s3/bucketOwnershipControls:BucketOwnershipControls", "m-ownership")
    assert ownership["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    key = made.inputs("aws:kms/key:Key", "m-key")
    assert key["enableKeyRotation"] is True
    assert len(json.loads(key["policy"])["Statement"]) == 1


def test_requests_without_tls_are_refused_unless_told_otherwise() -> None:
    made = bucket().one("aws:s3/bucketPolicy:BucketPolicy", "m-policy")
    conditions = [statement["Condition"] for statement in json.loads(made.inputs["policy"])["Statement"]]
    assert conditions == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"NumericLessThan": {"s3:TlsVersion": "1.2"}},
    ]
    assert "m-public-access" in made.depends_on
    assert bucket(require_tls=False).names("aws:s3/bucketPolicy:BucketPolicy") == ["m-access-logs"]


def test_every_request_is_recorded_where_only_s3_writes() -> None:
    made = bucket(access_log_days=30)
    logging = made.one("aws:s3/bucketLogging:BucketLogging", "m-logging")
    assert logging.inputs == {"bucket": "m-bucket", "targetBucket": "m-access-logs", "targetPrefix": "s3/"}
    assert "m-access-logs" in logging.depends_on
    policy = json.loads(made.inputs("aws:s3/bucketPolicy:BucketPolicy", "m-access-logs")["policy"])
    arn = "arn:aws:test:us-east-1:123456789012:bucket/m-access-logs"
    assert policy["Statement"][0] == {
        "Sid": "AccessLogOfOneBucket",
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"{arn}/*",
        "Condition": {
            "ArnEquals": {"aws:SourceArn": BUCKET_ARN},
            "StringEquals": {"aws:SourceAccount": "123456789012"},
        },
    }
    assert [statement["Sid"] for statement in policy["Statement"][1:]] == ["DenyPlainHttp", "DenyOldTls"]
    encryption = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    assert made.inputs(encryption, "m-access-logs")["rules"] == [
        {"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}
    ]
    lifecycle = made.inputs("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration", "m-access-logs")
    assert lifecycle["rules"][0]["expiration"] == {"days": 30}


def test_lifecycle() -> None:
    made = bucket(noncurrent_version_days=90)
    lifecycle = made.one("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration", "m-lifecycle")
    assert lifecycle.inputs["rules"] == [
        {
            "id": "expire-noncurrent-versions",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "noncurrentVersionExpiration": {"noncurrentDays": 90},
        },
        {
            "id": "abort-incomplete-uploads",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "abortIncompleteMultipartUpload": {"daysAfterInitiation": 7},
        },
    ]
    assert "m-versioning" in lifecycle.depends_on


def test_protection() -> None:
    guarded = bucket().one("aws:s3/bucket:Bucket", "m-bucket")
    assert (guarded.protect, guarded.inputs) == (True, {"forceDestroy": False})
    for protect in (True, False):
        made = bucket(protect=protect)
        assert made.one("aws:kms/key:Key", "m-key").protect is protect
        assert made.one("aws:s3/bucket:Bucket", "m-access-logs").protect is protect
    open_ = bucket(protect=False, force_destroy=True, bucket_name="weights").one("aws:s3/bucket:Bucket", "m-bucket")
    assert (open_.protect, open_.inputs) == (False, {"forceDestroy": True, "bucket": "weights"})


def test_given_key() -> None:
    made = bucket(kms_key_arn="arn:given")
    assert "aws:kms/key:Key" not in made.types()
    assert made.outputs["m"] == {"bucketName": "m-bucket", "bucketArn": BUCKET_ARN, "kmsKeyArn": "arn:given"}


def test_refused_lifetime() -> None:
    with pytest.raises(ValueError, match=r"noncurrent_version_days: 0 days is outside 1 to 3650; nearest .*: 1"):
        bucket(noncurrent_version_days=0)
