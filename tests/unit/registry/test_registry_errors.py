"""What S3 refuses is one line that says what to do."""

import pytest
from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError

from llm_serving.registry.errors import BucketError, explained


def said(error: Exception) -> str:
    with pytest.raises(BucketError) as raised, explained("b"):
        raise error
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDenied", "PutObject on s3://b is not allowed (AccessDenied): pushing takes s3:PutObject"),
        ("403", "is not allowed (403)"),
        ("NoSuchBucket", "there is no bucket b: `pulumi stack output modelBucketName` has the stack's"),
        ("PermanentRedirect", "the bucket b is in another region (PermanentRedirect): set AWS_REGION"),
        ("AuthorizationHeaderMalformed", "is in another region"),
        ("ExpiredToken", "the AWS credentials have expired (ExpiredToken): log in again"),
        ("RequestExpired", "have expired"),
        ("InvalidAccessKeyId", "AWS doesn't know these credentials (InvalidAccessKeyId): check AWS_PROFILE"),
        ("SignatureDoesNotMatch", "AWS doesn't know these credentials"),
        ("XMinioAdminBucketQuotaExceeded", "the bucket b is full (XMinioAdminBucketQuotaExceeded): raise its quota"),
        ("SlowDown", "S3 was busy for longer than it was asked again (SlowDown): run the same command again"),
        ("KMS.DisabledException", "the key that encrypts s3://b can't be used (KMS.DisabledException)"),
        ("Other", "PutObject on s3://b failed: An error occurred (Other) when calling the PutObject operation: a b"),
    ],
)
def test_refusals(code: str, advice: str) -> None:
    assert advice in said(ClientError({"Error": {"Code": code, "Message": "a\n b"}}, "PutObject"))


def test_an_answer_without_a_body() -> None:
    response: dict[str, dict[str, str]] = {}
    assert "HeadObject on s3://b failed" in said(ClientError(response, "HeadObject"))


@pytest.mark.parametrize(
    "error",
    [
        botocore_errors.NoCredentialsError(),
        botocore_errors.ProfileNotFound(profile="x"),
        botocore_errors.UnauthorizedSSOTokenError(),
        botocore_errors.TokenRetrievalError(provider="sso", error_msg="x"),
    ],
)
def test_no_credentials(error: Exception) -> None:
    assert said(error).startswith("no AWS credentials can be had (")
    assert "run `aws sso login`, or set AWS_PROFILE" in said(error)


@pytest.mark.parametrize(
    "error",
    [
        botocore_errors.EndpointConnectionError(endpoint_url="http://x"),
        botocore_errors.ReadTimeoutError(endpoint_url="http://x"),
        botocore_errors.ConnectionClosedError(endpoint_url="http://x"),
        botocore_errors.SSLError(endpoint_url="http://x", error="x"),
        botocore_errors.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ],
)
def test_the_network(error: Exception) -> None:
    assert said(error).startswith("the connection to s3://b was lost or can't be made (")
    assert said(error).endswith("the same command goes on where it stopped")


def test_anything_else_of_botocore() -> None:
    assert said(botocore_errors.InvalidEndpointDiscoveryConfigurationError(config_value="x")).startswith(
        "s3://b can't be asked: "
    )
