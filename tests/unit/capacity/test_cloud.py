"""Asking an account: against moto where it has the call, against recorded answers where it hasn't."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber
from moto import mock_aws

from llm_serving.capacity import cloud
from llm_serving.capacity.cloud_facts import CloudFacts, Reservation, Unchecked
from tests.unit.capacity.sample_stack import GPU, STACK, with_pool

G_QUOTA, STANDARD_QUOTA = "L-DB2E81BA", "L-1216C47A"


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own AWS configuration counts, and there is no metadata service."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


class RecordedService:
    """A client for each operation: they are asked at once, and a stub answers in the order that it was given."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._clients: dict[str, Any] = {}
        self._stubs: dict[str, Any] = {}

    def stub(self, operation: str) -> Any:
        if operation not in self._stubs:
            session: Any = boto3
            options = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
            self._clients[operation] = session.client(self._service, **options)
            self._stubs[operation] = cast(Any, Stubber(self._clients[operation]))
            self._stubs[operation].activate()
        return self._stubs[operation]

    def get_paginator(self, operation: str) -> Any:
        self.stub(operation)
        return self._clients[operation].get_paginator(operation)

    def __getattr__(self, operation: str) -> Any:
        self.stub(operation)
        return getattr(self._clients[operation], operation)


class Recorded:
    """Clients that answer what a test gives them, checked against the API's own shapes by botocore."""

    def __init__(self) -> None:
        self._services = {name: RecordedService(name) for name in ("sts", "ec2", "service-quotas")}

    def answer(self, service: str, operation: str, response: dict[str, Any], asked: dict[str, Any]) -> None:
        self._services[service].stub(operation).add_response(operation, response, asked)

    def refuse(self, service: str, operation: str, code: str) -> None:
        self._services[service].stub(operation).add_client_error(operation, code)

    def client(self, service: str) -> Any:
        return self._services[service]

    def quota(self, code: str, value: float) -> None:
        asked = {"ServiceCode": "ec2", "QuotaCode": code}
        self.answer("service-quotas", "get_service_quota", {"Quota": {"QuotaCode": code, "Value": value}}, asked)

    def offerings(self, types: list[str], offered: dict[str, list[str]]) -> None:
        found = [
            {"InstanceType": name, "LocationType": "availability-zone", "Location": zone}
            for name, zones in offered.items()
            for zone in zones
        ]
        asked = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": types}]}
        self.answer("ec2", "describe_instance_type_offerings", {"InstanceTypeOfferings": found}, asked)


def test_all_that_is_asked() -> None:
    clients = Recorded()
    clients.answer("sts", "get_caller_identity", {"Account": "111111111111"}, {})
    clients.quota(STANDARD_QUOTA, 64.0)
    clients.quota(G_QUOTA, 0.0)
    clients.offerings(["g6.2xlarge", "m7i.large"], {"g6.2xlarge": ["us-east-1a"], "m7i.large": ["us-east-1b"]})
    assert cloud.gather(STACK, account_id="111111111111", clients=clients) == CloudFacts(
        quotas={STANDARD_QUOTA: 64.0, G_QUOTA: 0.0},
        offerings={"g6.2xlarge": frozenset({"us-east-1a"}), "m7i.large": frozenset({"us-east-1b"})},
        reservations=(),
    )


def test_reservations_of_p_class_types() -> None:
    clients = Recorded()
    clients.quota(STANDARD_QUOTA, 64.0)
    clients.quota("L-417A185B", 384.0)
    clients.offerings(["m7i.large", "p5.48xlarge"], {})
    held = {
        "CapacityReservationId": "cr-1",
        "InstanceType": "p5.48xlarge",
        "AvailabilityZone": "us-east-1b",
        "InstanceMatchCriteria": "open",
        "TotalInstanceCount": 2,
    }
    targeted = {**held, "CapacityReservationId": "cr-2", "InstanceMatchCriteria": "targeted"}
    filters = [
        {"Name": "instance-type", "Values": ["p5.48xlarge"]},
        {"Name": "state", "Values": ["active"]},
    ]
    clients.answer(
        "ec2", "describe_capacity_reservations", {"CapacityReservations": [held, targeted]}, {"Filters": filters}
    )
    facts = cloud.gather(with_pool(instance_types=("p5.48xlarge",)), clients=clients)
    assert facts.reservations == (
        Reservation("cr-1", "p5.48xlarge", "us-east-1b", open=True, instances=2),
        Reservation("cr-2", "p5.48xlarge", "us-east-1b", open=False, instances=2),
    )


def test_what_is_refused_does_not_keep_the_rest_from_being_asked() -> None:
    clients = Recorded()
    clients.refuse("service-quotas", "get_service_quota", "AccessDeniedException")
    clients.offerings(["g6.2xlarge", "m7i.large"], {"g6.2xlarge": ["us-east-1a"]})
    facts = cloud.gather(STACK, clients=clients)
    assert facts.quotas == Unchecked("GetServiceQuota was answered with AccessDeniedException")
    assert facts.offerings == {"g6.2xlarge": frozenset({"us-east-1a"}), "m7i.large": frozenset[str]()}


def test_another_account_says_nothing() -> None:
    clients = Recorded()
    clients.answer("sts", "get_caller_identity", {"Account": "222222222222"}, {})
    facts = cloud.gather(STACK, account_id="111111111111", clients=clients)
    assert facts == CloudFacts.unchecked("the credentials are those of account 222222222222, not 111111111111")


class Unreachable:
    """A network on which nothing answers."""

    def client(self, service: str) -> Any:
        raise EndpointConnectionError(endpoint_url=f"https://{service}.us-east-1.amazonaws.com")


def test_an_endpoint_that_does_not_answer() -> None:
    facts = cloud.gather(STACK, clients=Unreachable())
    assert facts == CloudFacts.unchecked('Could not connect to the endpoint URL: "https://ec2.us-east-1.amazonaws.com"')


def test_no_credentials() -> None:
    assert cloud.gather(STACK) == CloudFacts.unchecked("there are no AWS credentials")


def test_a_machine_without_metadata_service_is_not_asked_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    asked: list[tuple[tuple[str, int], float]] = []

    def refused(address: tuple[str, int], timeout: float) -> None:
        asked.append((address, timeout))
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", refused)
    assert cloud.gather(STACK) == CloudFacts.unchecked("there are no AWS credentials")
    assert asked == [(("169.254.169.254", 80), 0.2)]


@pytest.mark.usefixtures("moto")
def test_offerings_on_moto() -> None:
    stack = replace(STACK, gpu_pools={"l4": replace(GPU, instance_types=("g6.2xlarge", "p5.48xlarge"))})
    facts = cloud.gather(stack, account_id="123456789012")
    assert isinstance(facts.offerings, dict)
    assert {"us-east-1a", "us-east-1b"} <= facts.offerings["g6.2xlarge"]
    assert facts.offerings["p5.48xlarge"]
    # moto knows quotas of VPC only, and no capacity reservations: neither keeps the offerings from being known.
    assert isinstance(facts.quotas, Unchecked)
    assert isinstance(facts.reservations, Unchecked)


def test_calls_are_made_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made: list[Config] = []

    def recorded(_: object, service: str, *, region_name: str, config: Config) -> Any:
        made.append(config)
        raise ClientError({"Error": {"Code": "ExpiredToken", "Message": ""}}, "GetCallerIdentity")

    monkeypatch.setattr("botocore.session.Session.create_client", recorded)
    facts = cloud.gather(STACK, account_id="111111111111")
    assert facts == CloudFacts.unchecked("GetCallerIdentity was answered with ExpiredToken")
    (config,) = cast(list[Any], made)
    assert (config.connect_timeout, config.read_timeout) == (1.0, 2.0)
    assert config.retries == {"total_max_attempts": 1}
