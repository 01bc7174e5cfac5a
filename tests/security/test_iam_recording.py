"""What the emulator checks is written down for each caller, what it refuses too; nothing is where nobody asked."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from llm_serving import _iam
from local.cloud import recording
from tests.cloud_harness import Cloud

USER = "arn:aws:iam::000000000000:user/reader"


@pytest.fixture
def cloud(tmp_path: Path) -> Generator[Cloud]:
    running = Cloud(tmp_path)
    running.environment[recording.VARIABLE] = str(tmp_path / "calls.jsonl")
    running.start()
    yield running
    running.stop()


def test_each_check_of_a_caller_is_recorded(cloud: Cloud) -> None:
    path = Path(cloud.environment[recording.VARIABLE])
    assert list(recording.calls(path, "nobody")) == []
    iam = cloud.client("iam")
    iam.create_user(UserName="reader")
    allowed = _iam.document({"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"})
    iam.put_user_policy(UserName="reader", PolicyName="only", PolicyDocument=allowed)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    access, secret = key["AccessKeyId"], key["SecretAccessKey"]
    cloud.client("ec2", access, secret).describe_vpcs()
    with pytest.raises(ClientError, match="AccessDenied"):
        cloud.client("iam", access, secret).delete_user(UserName="reader")
    assert list(recording.calls(path, access)) == [("ec2:DescribeVpcs", "*"), ("iam:DeleteUser", USER)]
    decided = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["allowed"] for line in decided if line["caller"] == access] == [True, False]
    assert ("iam:CreateUser", USER) in recording.calls(path, "test")


def test_no_record_no_calls(tmp_path: Path) -> None:
    assert list(recording.calls(tmp_path / "none", "test")) == []
