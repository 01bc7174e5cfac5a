"""How a VPC is cut into subnets, for every range and number of zones."""

import ipaddress
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving import _cidr

RANGES = st.integers(16, 20).flatmap(
    lambda prefix: st.integers(0, 2**prefix - 1).map(
        lambda number: str(ipaddress.IPv4Network((number << (32 - prefix), prefix)))
    )
)


def test_known_plan() -> None:
    assert _cidr.zone_subnets("10.0.0.0/16", 2) == [
        _cidr.ZoneSubnets(private="10.0.0.0/19", public="10.0.224.0/22"),
        _cidr.ZoneSubnets(private="10.0.32.0/19", public="10.0.228.0/22"),
    ]


@given(RANGES, st.integers(1, 6))
def test_subnets_lie_in_the_vpc_and_apart(cidr: str, zones: int) -> None:
    plan = _cidr.zone_subnets(cidr, zones)
    networks = [ipaddress.IPv4Network(each) for zone in plan for each in (zone.private, zone.public)]
    assert len(networks) == 2 * zones
    assert all(network.subnet_of(ipaddress.IPv4Network(cidr)) for network in networks)
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))


@given(RANGES, st.integers(2, 6))
def test_a_new_zone_moves_no_subnet(cidr: str, zones: int) -> None:
    assert _cidr.zone_subnets(cidr, zones)[:-1] == _cidr.zone_subnets(cidr, zones - 1)


@given(RANGES)
def test_subnets_are_large_enough(cidr: str) -> None:
    (zone,) = _cidr.zone_subnets(cidr, 1)
    # AWS keeps 5 addresses of a subnet, and allows none smaller than /28.
    assert ipaddress.IPv4Network(zone.private).num_addresses - 5 >= 507
    assert ipaddress.IPv4Network(zone.public).prefixlen <= 28


@pytest.mark.parametrize("zones", [0, 7])
def test_too_few_or_many_zones(zones: int) -> None:
    with pytest.raises(ValueError, match=f"zones: {zones} is outside 1 to 6"):
        _cidr.zone_subnets("10.0.0.0/16", zones)


def test_overlap_suggests_a_range_that_does_not() -> None:
    _cidr.check_disjoint("a", "172.20.0.0/16", "b", "10.0.0.0/16")
    with pytest.raises(ValueError, match=r"a: .* overlaps b .*; nearest valid value: 10\.100\.0\.0/16"):
        _cidr.check_disjoint("a", "172.20.0.0/16", "b", "172.16.0.0/12")
