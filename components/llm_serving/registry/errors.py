"""Why the registry refused: each error is one line that says what to do about it."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

from botocore import exceptions as botocore_errors
from botocore.exceptions import BotoCoreError, ClientError


class RegistryError(Exception):
    """The registry can't do what was asked; nothing in it has changed that anybody sees."""


class InvalidModelError(RegistryError):
    """A folder isn't a model that a runtime could load. `problems` has a line for each reason."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RevisionExistsError(RegistryError):
    """The bucket has this revision with other content."""


class NotThereError(RegistryError):
    """There is no such revision or alias."""


class MovedError(RegistryError):
    """Somebody else moved the alias, or pushed the revision, at the same time."""


class BucketError(RegistryError):
    """S3 can't be reached, or refuses."""


class StoppedError(Exception):
    """This thread ends because another one failed, or a person has had enough. Never leaves the registry."""


_CREDENTIALS = (
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.ProfileNotFound,
    botocore_errors.SSOError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.LoginError,
)
_NETWORK = (
    botocore_errors.ConnectionError,
    botocore_errors.HTTPClientError,
    botocore_errors.IncompleteReadError,
    botocore_errors.ResponseStreamingError,
)
_RIGHTS = (
    "pushing takes s3:PutObject, s3:GetObject, s3:ListBucket, s3:ListBucketMultipartUploads, s3:AbortMultipartUpload"
    " and s3:ListMultipartUploadParts, and kms:GenerateDataKey and kms:Decrypt on the bucket's key; reading takes"
    " s3:GetObject, s3:ListBucket and kms:Decrypt"
)
_EXPIRED = "the AWS credentials have expired ({code}): log in again; the same command goes on where it stopped"
_UNKNOWN_KEY = "AWS doesn't know these credentials ({code}): check AWS_PROFILE and AWS_ENDPOINT_URL"
_DENIED = f"{{operation}} on s3://{{bucket}} is not allowed ({{code}}): {_RIGHTS}"
_REGION = "the bucket {bucket} is in another region ({code}): set AWS_REGION to its own"
_FULL = "the bucket {bucket} is full ({code}): raise its quota, or delete revisions that nothing serves"
_BUSY = "S3 was busy for longer than it was asked again ({code}): run the same command again, it goes on"
_ABSENT = "there is no bucket {bucket}: `pulumi stack output modelBucketName` has the stack's; check the account"
_KEY = "the key that encrypts s3://{bucket} can't be used ({code}): check that it is enabled, and its policy"
_REFUSALS = {
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"), _EXPIRED),
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId"), _UNKNOWN_KEY
    ),
    **dict.fromkeys(("AccessDenied", "403", "Forbidden", "AllAccessDisabled"), _DENIED),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301"), _REGION),
    **dict.fromkeys(("QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "507"), _FULL),
    **dict.fromkeys(("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "503"), _BUSY),
    **dict.fromkeys(("KMS.DisabledException", "KMS.KMSInvalidStateException", "KMS.NotFoundException"), _KEY),
    "NoSuchBucket": _ABSENT,
}
"""What to do, by S3's name for the error. AWS has no quota of a bucket's size; Ceph and MinIO have."""


def code(error: ClientError) -> str:
    """S3's name for an error, as in NoSuchKey; an HTTP status as text where the answer had no body."""
    response: Any = error.response
    return str(response.get("Error", {}).get("Code", ""))


@contextmanager
def explained(bucket: str) -> Generator[None]:
    """Turn what boto3 raises in the block into a BucketError that says what to do."""
    try:
        yield
    except ClientError as error:
        raise BucketError(_refusal(error, bucket)) from error
    except _CREDENTIALS as error:
        raise BucketError(
            f"no AWS credentials can be had ({_line(error)}): run `aws sso login`, or set AWS_PROFILE, or"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except _NETWORK as error:
        raise BucketError(
            f"the connection to s3://{bucket} was lost or can't be made ({_line(error)}): check the network, the region"
            " and AWS_ENDPOINT_URL; the same command goes on where it stopped"
        ) from error
    except BotoCoreError as error:
        raise BucketError(f"s3://{bucket} can't be asked: {_line(error)}") from error


def _refusal(error: ClientError, bucket: str) -> str:
    found = code(error)
    operation = str(cast("Any", error).operation_name)
    if known := _REFUSALS.get(found):
        return known.format(code=found, bucket=bucket, operation=operation)
    return f"{operation} on s3://{bucket} failed: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
