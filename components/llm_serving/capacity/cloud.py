"""Asks an AWS account what `cloud_rules` compares a stack with. The only module of `capacity` that uses the network.

Preview must not wait for it: credentials are looked for without asking a metadata service that isn't there, every call
is made once, with short timeouts, and those that don't need each other are made at the same time. botocore, which is
all of boto3 that this takes, is imported only when something is asked.
"""

import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

from llm_serving.capacity import quotas
from llm_serving.capacity.cloud_facts import CloudFacts, Reservation, Unchecked
from llm_serving.capacity.cloud_rules import pools, reserved_types
from llm_serving.capacity.stack import Stack

CONNECT_SECONDS = 1.0
READ_SECONDS = 2.0
METADATA_ADDRESS = ("169.254.169.254", 80)
METADATA_SECONDS = 0.2
"""How long to wait for an instance's metadata service; on an instance it answers within a millisecond or so."""
MOST_FILTER_VALUES = 200
"""Values of one EC2 filter."""

_Found = TypeVar("_Found")


class Clients(Protocol):
    """Where clients of AWS services come from."""

    def client(self, service: str) -> Any:
        """Return a client of an AWS service, by botocore's name for it."""


def gather(stack: Stack, *, account_id: str | None = None, clients: Clients | None = None) -> CloudFacts:
    """Return what the account says about a stack. Never raises: what can't be asked says why.

    :param account_id: The only account whose answers count; None for any.
    :param clients: Where to get clients; by default from the credentials that botocore finds.
    """
    # botocore has its own errors, and so have the libraries below it: whichever it is, a preview goes on without facts.
    try:
        clients = clients or _Session(stack.region)
        if account_id is not None:
            found = str(clients.client("sts").get_caller_identity()["Account"])
            if found != account_id:
                return CloudFacts.unchecked(f"the credentials are those of account {found}, not {account_id}")
        ec2, service_quotas = clients.client("ec2"), clients.client("service-quotas")
    except Exception as error:  # noqa: BLE001
        return CloudFacts.unchecked(_reason(error))
    with ThreadPoolExecutor(3) as pool:
        vcpus = pool.submit(_asked, lambda: _quotas(service_quotas, stack))
        offerings = pool.submit(_asked, lambda: _offerings(ec2, stack))
        reservations = pool.submit(_asked, lambda: _reservations(ec2, stack))
        return CloudFacts(vcpus.result(), offerings.result(), reservations.result())


class _Session:
    """botocore's own search for credentials and endpoints, without its patience."""

    def __init__(self, region: str) -> None:
        from botocore.config import Config  # noqa: PLC0415 - half a second that only those who ask pay
        from botocore.session import Session  # noqa: PLC0415

        session: Any = Session()
        if not _has_metadata_service():
            session.get_component("credential_provider").remove("iam-role")
        if session.get_credentials() is None:
            raise _NoCredentialsError("there are no AWS credentials")
        self._session = session
        self._region = region
        self._config = Config(
            connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 1}
        )

    def client(self, service: str) -> Any:
        return self._session.create_client(service, region_name=self._region, config=self._config)


class _NoCredentialsError(Exception):
    pass


def _has_metadata_service() -> bool:
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    try:
        socket.create_connection(METADATA_ADDRESS, METADATA_SECONDS).close()
    except OSError:
        return False
    return True


def _asked(ask: Callable[[], _Found]) -> _Found | Unchecked:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - see `gather`
        return Unchecked(_reason(error))


def _reason(error: Exception) -> str:
    """Why a call failed, in one line: AWS's error code, or what kept it from being made."""
    response = cast(Mapping[str, Any], getattr(error, "response", None) or {})
    if code := response.get("Error", {}).get("Code"):
        operation = getattr(error, "operation_name", "the call")
        return f"{operation} was answered with {code}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]


def _quotas(client: Any, stack: Stack) -> dict[str, float]:
    wanted = {
        quota.code
        for _, pool in pools(stack)
        for name in pool.instance_types
        if (quota := quotas.of(name, spot=pool.capacity_type == "SPOT"))
    }
    return {
        code: float(client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"])
        for code in sorted(wanted)
    }


def _offerings(client: Any, stack: Stack) -> dict[str, frozenset[str]]:
    names = sorted({name for _, pool in pools(stack) for name in pool.instance_types})
    zones: dict[str, set[str]] = {name: set() for name in names}
    paginator = client.get_paginator("describe_instance_type_offerings")
    for first in range(0, len(names), MOST_FILTER_VALUES):
        some = names[first : first + MOST_FILTER_VALUES]
        filters = [{"Name": "instance-type", "Values": some}]
        for page in paginator.paginate(LocationType="availability-zone", Filters=filters):
            for offering in page["InstanceTypeOfferings"]:
                zones[offering["InstanceType"]].add(offering["Location"])
    return {name: frozenset(found) for name, found in zones.items()}


def _reservations(client: Any, stack: Stack) -> tuple[Reservation, ...]:
    types = sorted({name for pool in stack.gpu_pools.values() for name in reserved_types(pool)})
    if not types:
        return ()
    filters = [{"Name": "instance-type", "Values": types}, {"Name": "state", "Values": ["active"]}]
    pages = client.get_paginator("describe_capacity_reservations").paginate(Filters=filters)
    return tuple(
        Reservation(
            identifier=each["CapacityReservationId"],
            instance_type=each["InstanceType"],
            zone=each["AvailabilityZone"],
            open=each["InstanceMatchCriteria"] == "open",
            instances=int(each["TotalInstanceCount"]),
        )
        for page in pages
        for each in page["CapacityReservations"]
    )
