"""The shipper of container logs against the emulator, with a pod's credentials and the policy that `Logging` makes."""

import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from log_shipper.cloudwatch import CloudWatch, Credentials, Refused, container_credentials, sign
from log_shipper.events import Event

from llm_serving import _log_shipping
from local.addresses import ACCOUNT, REGION
from local.cluster.controller import identity_servers
from local.cluster.controller.pod_identity import PodIdentity
from tests.cloud_harness import Cloud, network, role

CLUSTER = "logged"
GROUP = f"/aws/containerinsights/{CLUSTER}/application"
NOW = int(datetime.now(UTC).timestamp() * 1000)


class FakeApi:
    """Knows one pod's token."""

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        account = f"{_log_shipping.NAMESPACE}:{_log_shipping.SERVICE_ACCOUNT}"
        good = body["spec"]["token"] == "pod-token"
        return {"status": {"authenticated": good, "user": {"username": f"system:serviceaccount:{account}"}}}


@pytest.fixture(scope="module", autouse=True)
def associated(cloud: Cloud) -> None:
    """A cluster, log groups, and the role that the shipper's service account gets."""
    eks = cloud.client("eks")
    eks.create_cluster(
        name=CLUSTER,
        version="1.36",
        roleArn=role(cloud, "cluster", "eks.amazonaws.com"),
        resourcesVpcConfig={"subnetIds": network(cloud)},
    )
    cloud.client("logs").create_log_group(logGroupName=GROUP)
    cloud.client("logs").create_log_group(logGroupName="other")
    arn = role(cloud, "shipper", "pods.eks.amazonaws.com")
    cloud.client("iam").put_role_policy(
        RoleName="shipper",
        PolicyName="writes",
        PolicyDocument=_log_shipping.agent_policy([f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"]),
    )
    eks.create_pod_identity_association(
        clusterName=CLUSTER,
        namespace=_log_shipping.NAMESPACE,
        serviceAccount=_log_shipping.SERVICE_ACCOUNT,
        roleArn=arn,
    )


@pytest.fixture(scope="module")
def variables(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str]]:
    """What the webhook gives to a pod; the agent is the one that runs locally."""
    api: Any = FakeApi()
    identity = PodIdentity(api, cloud.client, lambda: cloud.url)
    agent = identity_servers._Agent  # pyright: ignore[reportPrivateUsage]
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Agent", (agent,), {"identity": identity}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("pod-token\n")
    yield {
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.server_port}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
    }
    server.shutdown()
    server.server_close()


def messages(cloud: Cloud, group: str = GROUP) -> list[tuple[str, str]]:
    events = cloud.client("logs").filter_log_events(logGroupName=group)["events"]
    return [(event["logStreamName"], event["message"]) for event in events]


def test_the_signature_is_the_sdk_s() -> None:
    given = Credentials("AKID", "secret", "token", 0)
    url, body = "http://10.89.0.1:4566/", b'{"logGroupName": "a"}'
    ours = {
        "Host": "10.89.0.1:4566",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "Logs_20140328.PutLogEvents",
    }
    request: Any = AWSRequest("POST", url, headers={name: ours[name] for name in list(ours)[1:]}, data=body)
    signer: Any = SigV4Auth(BotocoreCredentials("AKID", "secret", "token"), "logs", REGION)
    signer.add_auth(request)
    signed = sign(ours, body, given, REGION, request.headers["X-Amz-Date"])
    assert signed["Authorization"] == request.headers["Authorization"]


def test_events_arrive_in_a_stream_that_is_made_for_them(cloud: Cloud, variables: dict[str, str]) -> None:
    shipper = CloudWatch(GROUP, variables)
    shipper.put("node-a", [Event(NOW, "one é"), Event(NOW + 1, "two")])
    shipper.put("node-a", [Event(NOW + 2, "three")])
    assert messages(cloud) == [("node-a", "one é"), ("node-a", "two"), ("node-a", "three")]


def test_credentials_are_those_of_the_pod(variables: dict[str, str], tmp_path: Path) -> None:
    given = container_credentials(variables)
    assert given.access_key.startswith("ASIA")
    assert given.expiry > (datetime.now(UTC) + timedelta(minutes=30)).timestamp()
    (tmp_path / "token").write_text("another")
    with pytest.raises(Refused, match="credentials: HTTP 401"):
        container_credentials({**variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token")})


def test_it_writes_nowhere_else_and_makes_no_group(cloud: Cloud, variables: dict[str, str]) -> None:
    with pytest.raises(Refused, match="PutLogEvents: AccessDenied") as refused:
        CloudWatch("other", variables).put("node-a", [Event(NOW, "one")])
    assert "one" not in str(refused.value)
    given = container_credentials(variables)
    logs = cloud.client("logs", given.access_key, given.secret_key, given.token)
    for call, asked in (
        (logs.create_log_group, {"logGroupName": "mine"}),
        (logs.create_log_stream, {"logGroupName": "other", "logStreamName": "s"}),
        (logs.filter_log_events, {"logGroupName": GROUP}),
        (logs.delete_log_group, {"logGroupName": GROUP}),
    ):
        with pytest.raises(logs.exceptions.ClientError) as error:
            call(**asked)
        failure: Any = error.value
        assert failure.response["Error"]["Code"] == "AccessDeniedException"
    assert messages(cloud, "other") == []


def test_a_group_that_is_gone_is_not_made(cloud: Cloud, variables: dict[str, str]) -> None:
    logs = cloud.client("logs")
    logs.delete_log_group(logGroupName=GROUP)
    try:
        with pytest.raises(Refused, match="CreateLogStream: ResourceNotFoundException"):
            CloudWatch(GROUP, variables).put("node-a", [Event(NOW, "one")])
        names = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
        assert names == ["other"]
    finally:
        logs.create_log_group(logGroupName=GROUP)


def test_a_cloud_that_is_away_is_an_error_of_the_connection(variables: dict[str, str]) -> None:
    shipper = CloudWatch(GROUP, {**variables, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    with pytest.raises(OSError, match="refused"):
        shipper.put("node-a", [Event(NOW, "one")])


def test_a_full_batch_is_taken(cloud: Cloud, variables: dict[str, str]) -> None:
    CloudWatch(GROUP, variables).put("full", [Event(NOW + number, "x" * 78) for number in range(10_000)])
    events = cloud.client("logs").filter_log_events(logGroupName=GROUP, logStreamNames=["full"])["events"]
    assert len(events) == 10_000
