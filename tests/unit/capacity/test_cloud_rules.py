"""What the account says about a stack: quotas, offerings and reservations, each right, wrong and unknown."""

from dataclasses import replace

import pytest

from llm_serving.capacity import catalog, cloud_rules, quotas
from llm_serving.capacity.cloud_facts import CloudFacts, Reservation, Unchecked
from llm_serving.capacity.stack import Stack
from tests.unit.capacity.sample_stack import GPU, STACK, SYSTEM, told, with_pool

ZONES = frozenset(STACK.zones)
FACTS = CloudFacts(
    quotas={quotas.G.code: 32.0, quotas.STANDARD.code: 8.0},
    offerings={"g6.2xlarge": ZONES, "m7i.large": ZONES},
    reservations=(),
)
H100 = with_pool(instance_types=("p5.48xlarge",), max_size=2)
P_FACTS = replace(
    FACTS,
    quotas={quotas.P.code: 384.0, quotas.STANDARD.code: 8.0},
    offerings={"p5.48xlarge": ZONES, "m7i.large": ZONES},
)
HELD = Reservation("cr-1", "p5.48xlarge", "us-east-1b", open=True, instances=2)


def lines(stack: Stack, facts: CloudFacts) -> list[str]:
    return [f"{finding.severity} {finding}" for finding in cloud_rules.check(stack, facts)]


def test_an_account_that_has_all() -> None:
    assert lines(STACK, FACTS) == []
    assert lines(H100, replace(P_FACTS, reservations=(HELD,))) == []


NOTHING = CloudFacts.unchecked("there are no AWS credentials")

WRONG: list[tuple[Stack, CloudFacts, str]] = [
    (STACK, replace(FACTS, quotas={quotas.G.code: 0.0, quotas.STANDARD.code: 8.0}),
     ("error cluster.gpuPools.l4.maxSize: cluster.gpuPools.l4 may need 32 vCPUs, 16 of them now, and the quota"
      " 'Running On-Demand G and VT instances' (L-DB2E81BA) of us-east-1 is 0; nearest valid value: a quota of 32, to"
      " be asked for in Service Quotas [CLOUD_QUOTA]")),
    (STACK, replace(FACTS, quotas={quotas.G.code: 31.0, quotas.STANDARD.code: 8.0}),
     ("warning cluster.gpuPools.l4.maxSize: cluster.gpuPools.l4 may need 32 vCPUs, 16 of them now, and the quota"
      " 'Running On-Demand G and VT instances' (L-DB2E81BA) of us-east-1 is 31; nearest valid value: a quota of 32, to"
      " be asked for in Service Quotas [CLOUD_QUOTA]")),
    (replace(STACK, gpu_pools={"l4": GPU, "more": replace(GPU, name="more", instance_types=("g5.xlarge",))}),
     replace(FACTS, offerings={"g6.2xlarge": ZONES, "g5.xlarge": ZONES, "m7i.large": ZONES}),
     ("warning cluster.gpuPools.l4.maxSize: cluster.gpuPools.l4 and cluster.gpuPools.more may need 48 vCPUs, 24 of them"
      " now, and the quota 'Running On-Demand G and VT instances' (L-DB2E81BA) of us-east-1 is 32; nearest valid value:"
      " a quota of 48, to be asked for in Service Quotas [CLOUD_QUOTA]")),
    (with_pool(capacity_type="SPOT"), replace(FACTS, quotas={quotas.G_SPOT.code: 8.0}),
     ("error cluster.gpuPools.l4.maxSize: cluster.gpuPools.l4 may need 32 vCPUs, 16 of them now, and the quota"
      " 'All G and VT Spot Instance Requests' (L-3819A6DF) of us-east-1 is 8; nearest valid value: a quota of 32, to be"
      " asked for in Service Quotas [CLOUD_QUOTA]")),
    (STACK, replace(FACTS, offerings={"g6.2xlarge": frozenset({"us-east-1a", "us-east-1d"}), "m7i.large": ZONES}),
     ("warning cluster.gpuPools.l4.instanceTypes: g6.2xlarge is not offered in us-east-1b, so nodes start in the other"
      " zones only, and none replaces a lost zone; nearest valid value: zones us-east-1a, us-east-1d"
      " [CLOUD_OFFERING]")),
    (STACK, replace(FACTS, offerings={"g6.2xlarge": frozenset({"us-east-1d"}), "m7i.large": ZONES}),
     ("error cluster.gpuPools.l4.instanceTypes: g6.2xlarge is not offered in us-east-1a, us-east-1b, so no node can"
      " start; nearest valid value: zones us-east-1d [CLOUD_OFFERING]")),
    (STACK, replace(FACTS, offerings={"m7i.large": ZONES}),
     ("error cluster.gpuPools.l4.instanceTypes: g6.2xlarge is not offered in us-east-1a, us-east-1b, so no node can"
      " start; nearest valid value: another instance type, since us-east-1 has it in no zone [CLOUD_OFFERING]")),
    (H100, P_FACTS,
     ("warning cluster.gpuPools.l4.instanceTypes: p5.48xlarge is seldom free on demand, and of the 2 nodes that the"
      " pool may have, reserved capacity holds 0, so nodes may not start or not come back; nearest valid value: an open"
      " capacity reservation for 2 in us-east-1a or us-east-1b [CLOUD_RESERVATION]")),
    (H100, replace(P_FACTS, reservations=(replace(HELD, instances=1), replace(HELD, identifier="cr-2", open=False),
                                          replace(HELD, identifier="cr-3", zone="us-east-1d"))),
     ("warning cluster.gpuPools.l4.instanceTypes: p5.48xlarge is seldom free on demand, and of the 2 nodes that the"
      " pool may have, reserved capacity holds 1 (cr-2 is targeted, and node groups of this environment name no"
      " reservation; cr-3 is in us-east-1d, and the stack is in us-east-1a, us-east-1b), so nodes may not start or not"
      " come back; nearest valid value: an open capacity reservation for 2 in us-east-1a or us-east-1b"
      " [CLOUD_RESERVATION]")),
    (STACK, NOTHING,
     "unchecked cluster: vCPU quotas were not compared: there are no AWS credentials [CLOUD_QUOTA_UNCHECKED]"),
    (STACK, NOTHING,
     ("unchecked network.availabilityZones: what the zones offer was not compared with the pools: there are no AWS"
      " credentials [CLOUD_OFFERING_UNCHECKED]")),
    (replace(STACK, zones=()), FACTS,
     ("unchecked network.availabilityZones: what the zones offer was not compared with the pools: the network exists"
      " already [CLOUD_OFFERING_UNCHECKED]")),
    (H100, replace(P_FACTS, reservations=Unchecked("DescribeCapacityReservations was answered with AccessDenied")),
     ("unchecked cluster.gpuPools.l4.instanceTypes: p5.48xlarge is seldom free on demand, and whether the account has"
      " reserved any was not looked up: DescribeCapacityReservations was answered with AccessDenied"
      " [CLOUD_RESERVATION_UNCHECKED]")),
]  # fmt: skip


@pytest.mark.parametrize(("stack", "facts", "line"), WRONG)
def test_what_is_lacking(stack: Stack, facts: CloudFacts, line: str) -> None:
    assert line in lines(stack, facts)


def test_each_kind_of_what_was_not_asked_is_told_once() -> None:
    several = replace(STACK, gpu_pools={name: replace(GPU, name=name) for name in ("a", "b", "c")})
    assert told(list(cloud_rules.check(several, NOTHING))) == [
        ("CLOUD_QUOTA_UNCHECKED", "unchecked", "cluster"),
        ("CLOUD_OFFERING_UNCHECKED", "unchecked", "network.availabilityZones"),
    ]


def test_the_system_pool_counts() -> None:
    stack = replace(STACK, system_pool=replace(SYSTEM, instance_types=("m7i.4xlarge",)))
    (finding,) = [each for each in cloud_rules.check(stack, FACTS) if each.code == "CLOUD_QUOTA"]
    assert (finding.severity, finding.setting) == ("error", "cluster.systemPool.maxSize")


@pytest.mark.parametrize(
    ("name", "spot", "quota"),
    [
        ("g6e.48xlarge", False, quotas.G),
        ("gr6.4xlarge", True, quotas.G_SPOT),
        ("p5en.48xlarge", False, quotas.P),
        ("p5.4xlarge", True, quotas.P5_SPOT),
        ("p4d.24xlarge", True, quotas.P4_SPOT),
        ("p6-b200.48xlarge", True, None),
        ("m7i.large", False, quotas.STANDARD),
        ("c7g.xlarge", True, quotas.STANDARD_SPOT),
    ],
)
def test_quota_of_a_type(name: str, spot: bool, quota: quotas.Quota | None) -> None:
    assert quotas.of(name, spot=spot) == quota


def test_types_of_other_quotas_are_not_guessed() -> None:
    for name in ("inf2.xlarge", "trn1.2xlarge", "x2idn.16xlarge", "f1.2xlarge", "mac2.metal", "dl1.24xlarge"):
        assert quotas.of(name, spot=False) is None, name


def test_vcpus_by_name() -> None:
    sizes = {"m7i.large": 2, "m7i.xlarge": 4, "c7i.12xlarge": 48, "m7g.medium": 1, "m7i.metal-24xl": None}
    assert {name: quotas.vcpus(name) for name in sizes} == sizes
    for name, instance in catalog.instances().items():
        assert quotas.vcpus(name) == instance.vcpus
