"""A `make up` that ends before its time, at its worst moments, leaves nothing running; the next one goes on from there.

The tests follow each other: each `up` finds what the one before has left in the emulator and in Pulumi's state.
"""

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from local import cloud
from local.paths import STATE
from tests.environment_harness import (
    begin,
    census,
    changed,
    enabled_keys,
    events,
    leftovers,
    made,
    override,
    problem,
    pulumi,
    remembered_ports,
    roles,
    run,
    wait,
)

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("machine")]

EXPECTED = {
    "vpcs": 1,
    "nat gateways": 1,
    "clusters": 1,
    "buckets": 2,
    "caches": 1,
    "load balancers": 1,
    "target groups": 1,
    "APIs": 1,
    "API keys": 1,
    "usage plans": 1,
    "VPC links": 1,
}
"""What the local stack has one of, whatever happened while it was made."""


@pytest.fixture(autouse=True)
def _committed_settings() -> Iterator[None]:
    yield
    override({})


def test_failed_up_says_why_and_leaves_nothing_running() -> None:
    # The program fails at once, while the first resources, and the roles of the EKS component, are being made.
    override({"images": {"tgi": {"tag": "no-such-tag"}}})
    text = problem("up")
    assert "aws:ecr/getImage:getImage failed" in text
    assert str(STATE / "log" / "pulumi-up.log") in text
    assert not leftovers()


def test_ctrl_c_ends_after_the_operations_under_way() -> None:
    process = begin("up")
    wait("the first resources", lambda: len(made()) >= 5 or process.poll() is not None, seconds=120)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert text.strip().splitlines()[-1] == "stopped by Ctrl-C; `make up` goes on from here"
    assert not leftovers()


def test_killed_up_is_cleared_away_by_itself() -> None:
    first = len(made())
    process = begin("up")
    wait("10 more resources", lambda: process.poll() is not None or _progress(first) >= 10, seconds=120)
    process.kill()
    process.communicate()
    wait("nothing is left", lambda: not leftovers(), seconds=150)


def _progress(first: int) -> int:
    """How many resources the second `up` has made: its events replace those of the first one."""
    return len(made()) if len(made()) != first else 0


def test_next_up_converges_on_other_ports_and_makes_nothing_twice() -> None:
    before = remembered_ports()
    services = ("cloud", "apiserver", "registry")
    with ExitStack() as others:
        for service in services:
            others.enter_context(socket.create_server(("", before[service])))
        text = run("up")
    now = remembered_ports()
    assert all(now[service] != before[service] for service in services)
    assert re.search(rf"API Gateway +http://127\.0\.0\.1:{now['cloud']}/restapis/", text)
    assert text.splitlines()[-2].startswith("Model ("), text
    assert text.splitlines()[-1].startswith("Cache ("), text
    assert {kind: count for kind, count in census().items() if kind in EXPECTED} == EXPECTED
    assert not [step for step in changed().values() if "replace" in step or "delete" in step]
    # Nothing is in the account that the state doesn't know: no operation was cut short and forgotten.
    assert ids("aws:iam/role:Role") == roles()
    assert ids("aws:kms/key:Key") == set(enabled_keys())
    assert ids("aws:s3/bucket:Bucket") == {bucket["Name"] for bucket in cloud.client("s3").list_buckets()["Buckets"]}


def ids(kind: str) -> set[str]:
    """The ids that the state has of a type's resources."""
    resources = json.loads(pulumi("stack", "export"))["deployment"]["resources"]
    return {resource["id"] for resource in resources if resource["type"] == kind}


def test_same_again_changes_nothing() -> None:
    text = run("up")
    assert not changed()
    total = sum(
        next(event["summaryEvent"]["resourceChanges"] for event in events() if "summaryEvent" in event).values()
    )
    assert f"{total} unchanged" in text
