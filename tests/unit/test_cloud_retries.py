"""A call whose answer was lost is answered again, and not made again."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from botocore.exceptions import ConnectionClosedError

from tests.cloud_harness import Cloud


def losing_the_first_answer() -> Callable[..., None]:
    """A hook of boto3 that sends the first request itself and loses its answer."""
    lost: list[int] = []

    def hook(request: Any, **_: Any) -> None:
        if not lost:
            headers = {
                name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
            }
            lost.append(httpx.request(request.method, request.url, headers=headers, content=request.body).status_code)
            assert lost == [200]
            raise ConnectionClosedError(endpoint_url=request.url)

    return hook


def test_a_create_is_made_once(cloud: Cloud) -> None:
    iam = cloud.client("iam", tries=2)
    iam.meta.events.register("before-send.iam.CreateRole", losing_the_first_answer())
    trust = '{"Version": "2012-10-17", "Statement": []}'
    assert iam.create_role(RoleName="once", AssumeRolePolicyDocument=trust)["Role"]["RoleName"] == "once"
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="once", AssumeRolePolicyDocument=trust)


def test_a_delete_finds_what_it_deleted(cloud: Cloud) -> None:
    iam = cloud.client("iam", tries=2)
    iam.create_role(RoleName="gone", AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}')
    iam.meta.events.register("before-send.iam.DeleteRole", losing_the_first_answer())
    iam.delete_role(RoleName="gone")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.delete_role(RoleName="gone")
