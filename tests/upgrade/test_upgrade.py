"""An environment that the last release has made survives this one: nothing that holds data is replaced or deleted."""

import json

import pytest

from local.plan import STATEFUL, Plan
from local.preview import planned
from tests.upgrade.record import STACK, STATE

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned(STACK, STATE)


def test_the_record_holds_a_whole_environment() -> None:
    resources = json.loads(STATE.read_text())["deployment"]["resources"]
    types = {each["type"] for each in resources}
    assert {
        "aws:eks/cluster:Cluster",
        "aws:elasticache/replicationGroup:ReplicationGroup",
        "aws:s3/bucket:Bucket",
    } <= types
    assert sum(bool(each.get("protect")) for each in resources) >= 5


def test_nothing_that_holds_data_is_replaced_or_deleted(plan: Plan) -> None:
    assert not plan.problems
    lost = [change for operation in ("replace", "delete") for change in plan.of(operation)]
    assert [change.urn for change in lost if change.protected or change.type in STATEFUL] == []


def test_what_is_recorded_is_compared_and_not_made_anew(plan: Plan) -> None:
    kept = plan.counts["same"] + plan.counts["update"]
    assert kept > 100
    assert plan.counts["create"] < kept
