"""What the local cloud keeps: through a stop, through a kill, and not through a reset; and who may read it."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.cloud_harness import Cloud, network, role

TOKEN = "first-token-0123456789"
OTHER = "other-token-0123456789"
NO_RETRY = Retry(NoBackoff(), 0)

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server isn't installed")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cloud]:
    running = Cloud(tmp_path_factory.mktemp("cloud"))
    running.start()
    fill(running)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def started(cloud: Cloud) -> None:
    cloud.start()


def fill(cloud: Cloud) -> None:
    """Makes something in several services."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="models")
    s3.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="models", Key="models/a/1/weights", Body=b"x" * 100_000, Metadata={"sha": "1"})
    cloud.client("secretsmanager").create_secret(Name="cache", SecretString="hidden")
    network(cloud)
    gateway = cloud.client("apigatewayv2")
    gateway.create_vpc_link(Name="link", SubnetIds=["subnet-1"])


def check(cloud: Cloud) -> None:
    """Asserts that it is all there."""
    s3 = cloud.client("s3")
    found = s3.get_object(Bucket="models", Key="models/a/1/weights")
    assert found["Body"].read() == b"x" * 100_000
    assert found["Metadata"] == {"sha": "1"}
    assert s3.get_bucket_versioning(Bucket="models")["Status"] == "Enabled"
    assert cloud.client("secretsmanager").get_secret_value(SecretId="cache")["SecretString"] == "hidden"
    blocks = {subnet["CidrBlock"] for subnet in cloud.client("ec2").describe_subnets()["Subnets"]}
    assert {"10.7.0.0/24", "10.7.1.0/24"} <= blocks
    assert [link["Name"] for link in cloud.client("apigatewayv2").get_vpc_links()["Items"]] == ["link"]


def test_state_survives_a_stop(cloud: Cloud) -> None:
    cloud.stop()
    cloud.start()
    check(cloud)


def test_state_survives_a_kill_and_a_half_written_file(cloud: Cloud) -> None:
    cloud.client("s3").put_object(Bucket="models", Key="late", Body=b"y")
    cloud.client("secretsmanager").create_secret(Name="late", SecretString="too")
    arn = role(cloud, "pod", "pods.eks.amazonaws.com")
    session = cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="pod")["Credentials"]
    cloud.saved()
    cloud.kill("cloud", "balancer", "cache")
    services = cloud.state / "cloud" / "services"
    (services / "secretsmanager.json.new").write_text('{"half')  # what a kill in the middle of a save leaves
    cloud.start()
    check(cloud)
    assert cloud.client("s3").get_object(Bucket="models", Key="late")["Body"].read() == b"y"
    assert cloud.client("secretsmanager").get_secret_value(SecretId="late")["SecretString"] == "too"
    keys = (session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    assert ":assumed-role/pod/pod" in cloud.client("sts", *keys).get_caller_identity()["Arn"]


def test_a_reset_leaves_an_empty_account(cloud: Cloud) -> None:
    cloud.call("cloud.reset()")
    assert not (cloud.state / "cloud").exists()
    cloud.start()
    assert cloud.client("s3").list_buckets()["Buckets"] == []
    fill(cloud)


def test_only_the_owner_reads_the_state(cloud: Cloud) -> None:
    folder = cloud.state / "cloud"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    saved = folder / "services" / "secretsmanager.json"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_start_is_idempotent_and_status_tells(cloud: Cloud) -> None:
    before = [cloud.pid(name) for name in ("cloud", "cache", "balancer")]
    cloud.start()
    assert [cloud.pid(name) for name in ("cloud", "cache", "balancer")] == before
    assert cloud.call("all(cloud.status().values())") == "True"
    cloud.stop()
    assert cloud.call("any(cloud.status().values())") == "False"


def test_the_environment_leads_to_the_emulator_only(cloud: Cloud) -> None:
    program = "__import__('json').dumps(cloud.environment())"
    found = json.loads(cloud.call(program))
    assert found["AWS_ENDPOINT_URL"] == cloud.url
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("test", "test")
    assert found["AWS_SESSION_TOKEN"] == ""
    assert found["AWS_EC2_METADATA_DISABLED"] == "true"
    # A caller's own profile and session leak into nothing.
    caller = {**os.environ, "AWS_PROFILE": "production", "AWS_SESSION_TOKEN": "real", **found}
    program = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    assert subprocess.check_output([sys.executable, "-c", program], env=caller, text=True).strip() == "000000000000"


def test_a_client_says_when_nothing_runs(cloud: Cloud) -> None:
    cloud.stop()
    with pytest.raises(AssertionError, match="the AWS emulator isn't running"):
        cloud.call("cloud.client('s3')")


def group(cloud: Cloud, **settings: Any) -> dict[str, Any]:
    """Makes the replication group, in the place of the one that an earlier test has left."""
    with contextlib.suppress(ClientError):
        cloud.client("elasticache").delete_replication_group(ReplicationGroupId="semantic")
        eventually(cloud, TOKEN, expected=False)
    return cloud.client("elasticache").create_replication_group(
        ReplicationGroupId="semantic", ReplicationGroupDescription="cache", Engine="valkey", EngineVersion="8.2",
        CacheNodeType="cache.t4g.small", TransitEncryptionEnabled=True, **settings,
    )["ReplicationGroup"]  # fmt: skip


def connect(cloud: Cloud, token: str | None) -> Any:
    return redis.Redis(
        host="127.0.0.1", port=cloud.port("cache"), password=token, ssl=True,
        retry=NO_RETRY, ssl_ca_certs=str(cloud.folder / "cache" / "llm-serving" / "ca" / "ca.crt"),
    )  # fmt: skip


def allowed(cloud: Cloud, token: str | None) -> bool:
    """Whether a token lets one in now."""
    with connect(cloud, token) as client:
        try:
            return bool(client.ping())
        except (redis.AuthenticationError, redis.ConnectionError):
            return False  # a connection that comes while a group is deleted is cut


def eventually(cloud: Cloud, token: str | None, expected: bool) -> None:
    deadline = time.monotonic() + 5
    while allowed(cloud, token) is not expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_redis
def test_redis_takes_the_replication_groups_token_and_no_other(cloud: Cloud) -> None:
    assert not allowed(cloud, None)
    assert not allowed(cloud, "")
    endpoint = group(cloud, AuthToken=TOKEN)["NodeGroups"][0]["PrimaryEndpoint"]
    assert endpoint == {"Address": "127.0.0.1", "Port": cloud.port("cache")}
    eventually(cloud, TOKEN, expected=True)
    assert not allowed(cloud, None)
    assert not allowed(cloud, OTHER)
    with connect(cloud, TOKEN) as client:
        client.set("answer", "42", ex=60)
        with pytest.raises(redis.ResponseError):
            client.config_get("*")

    elasticache = cloud.client("elasticache")
    change = {"ReplicationGroupId": "semantic", "AuthToken": OTHER, "ApplyImmediately": True}
    elasticache.modify_replication_group(**change, AuthTokenUpdateStrategy="ROTATE")
    eventually(cloud, OTHER, expected=True)
    assert allowed(cloud, TOKEN)
    elasticache.modify_replication_group(**change, AuthTokenUpdateStrategy="SET")
    eventually(cloud, TOKEN, expected=False)
    assert allowed(cloud, OTHER)

    elasticache.delete_replication_group(ReplicationGroupId="semantic")
    eventually(cloud, OTHER, expected=False)


@needs_redis
def test_a_replication_group_follows_redis_to_another_port(cloud: Cloud) -> None:
    group(cloud, AuthToken=TOKEN)
    cloud.stop()
    ports = json.loads((cloud.state / "ports.json").read_text())
    with socket.create_server(("127.0.0.1", ports["cache"])):
        cloud.start()
    assert cloud.port("cache") != ports["cache"]
    (found,) = cloud.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    assert found["NodeGroups"][0]["PrimaryEndpoint"]["Port"] == cloud.port("cache")
    eventually(cloud, TOKEN, expected=True)


@needs_redis
def test_redis_keeps_token_and_data_through_a_kill(cloud: Cloud) -> None:
    group(cloud, AuthToken=TOKEN)
    eventually(cloud, TOKEN, expected=True)
    with connect(cloud, TOKEN) as client:
        client.set("answer", "42")
    cloud.saved()
    cloud.kill("cloud", "cache")
    cloud.start()
    assert allowed(cloud, TOKEN)
    with connect(cloud, TOKEN) as client:
        assert client.get("answer") == b"42"
    assert TOKEN not in Path(f"/proc/{cloud.pid('cache')}/cmdline").read_text()
    logs = "".join(path.read_text() for path in (cloud.state / "log").iterdir())
    assert TOKEN not in logs
    assert TOKEN not in (cloud.state / "cloud" / "redis" / "users.acl").read_text()


@needs_redis
@pytest.mark.parametrize("settings", [{}, {"ssl": True, "ssl_cert_reqs": "required"}], ids=["plain", "untrusting"])
def test_redis_speaks_tls_only_and_with_the_local_authority(cloud: Cloud, settings: dict[str, Any]) -> None:
    client: Any = redis.Redis(host="127.0.0.1", port=cloud.port("cache"), retry=NO_RETRY, **settings)
    with client, pytest.raises((redis.ConnectionError, ssl.SSLError)):
        client.ping()


def test_a_damaged_state_file_is_never_overwritten(cloud: Cloud) -> None:
    cloud.stop()
    saved = cloud.state / "cloud" / "services" / "secretsmanager.json"
    good = saved.read_text()
    saved.write_text('{"half')
    with pytest.raises(AssertionError, match=r"secretsmanager\.json is no JSON; make reset"):
        cloud.start()
    assert saved.read_text() == '{"half'
    saved.write_text(good)
