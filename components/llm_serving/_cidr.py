"""How a VPC's address range is cut into subnets. Pure arithmetic, no Pulumi import.

A zone's subnets depend only on the zone's place in the list, never on how many zones there are: a zone added at the
end of the list moves no subnet that exists.
"""

import ipaddress
from dataclasses import dataclass

LONGEST_VPC_PREFIX = 20
"""The smallest VPC, so that each private subnet keeps at least 507 usable addresses: each pod takes one."""
SHORTEST_VPC_PREFIX = 16
"""The largest VPC that AWS creates (VPC quotas: IPv4 CIDR block size /16 to /28)."""
MOST_ZONES = 6
"""No AWS region has more availability zones than us-east-1, which has six."""

SHORTEST_SERVICE_PREFIX = 12
LONGEST_SERVICE_PREFIX = 24
"""Service ranges that EKS takes, in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16 (CreateCluster: serviceIpv4Cidr)."""

_PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_PRIVATE_BITS = 3
_PUBLIC_BITS = 6
_PUBLIC_BLOCK = (
    7  # of the eight private-sized blocks, six are for zones, one stays free, the last is for public subnets
)


@dataclass(frozen=True)
class ZoneSubnets:
    """The two address ranges of one availability zone."""

    private: str
    """For nodes, pods and internal load balancers: an eighth of the VPC."""
    public: str
    """For NAT gateways and load balancers that face the internet: a sixty-fourth of the VPC."""


def ipv4_network(field: str, cidr: str, example: str) -> ipaddress.IPv4Network:
    """Return the network that `cidr` names; raises ValueError, with an example, if it is no IPv4 range."""
    try:
        interface = ipaddress.IPv4Interface(cidr)
    except ValueError:
        raise ValueError(f"{field}: {cidr!r} is not an IPv4 range; nearest valid value: {example}") from None
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{field}: {cidr} has host bits set; nearest valid value: {interface.network}")
    return interface.network


def service_network(field: str, cidr: str) -> ipaddress.IPv4Network:
    """Return the network if EKS takes it for services: private, /12 to /24; raises ValueError otherwise."""
    network = ipv4_network(field, cidr, "172.20.0.0/16")
    if not any(network.subnet_of(private) for private in _PRIVATE):
        raise ValueError(f"{field}: {cidr} is in no private range; nearest valid value: 172.20.0.0/16")
    if not SHORTEST_SERVICE_PREFIX <= network.prefixlen <= LONGEST_SERVICE_PREFIX:
        prefix = max(SHORTEST_SERVICE_PREFIX, min(LONGEST_SERVICE_PREFIX, network.prefixlen))
        fitting = ipaddress.IPv4Network((network.network_address, prefix), strict=False)
        raise ValueError(
            f"{field}: {cidr} is outside /{SHORTEST_SERVICE_PREFIX} to /{LONGEST_SERVICE_PREFIX};"
            f" nearest valid value: {fitting}"
        )
    return network


def public_network(field: str, cidr: str) -> ipaddress.IPv4Network:
    """Return the network if it may reach an API server: not the whole internet; raises ValueError otherwise."""
    network = ipv4_network(field, cidr, "203.0.113.0/24")
    if network.prefixlen == 0:
        raise ValueError(f"{field}: {cidr} is the whole internet; nearest valid value: your own range, or none")
    return network


def vpc_network(field: str, cidr: str) -> ipaddress.IPv4Network:
    """Return the network that `cidr` names; raises ValueError if it is no IPv4 range that a VPC may have."""
    network = ipv4_network(field, cidr, "10.0.0.0/16")
    if not SHORTEST_VPC_PREFIX <= network.prefixlen <= LONGEST_VPC_PREFIX:
        prefix = max(SHORTEST_VPC_PREFIX, min(LONGEST_VPC_PREFIX, network.prefixlen))
        fitting = ipaddress.IPv4Network((network.network_address, prefix), strict=False)
        raise ValueError(
            f"{field}: {cidr} is outside /{SHORTEST_VPC_PREFIX} to /{LONGEST_VPC_PREFIX};"
            f" nearest valid value: {fitting}"
        )
    return network


def zone_subnets(cidr: str, zones: int) -> list[ZoneSubnets]:
    """Cut `cidr` into the subnets of `zones` availability zones, 1 to 6; raises ValueError for a bad range."""
    network = vpc_network("cidr", cidr)
    if not 1 <= zones <= MOST_ZONES:
        raise ValueError(f"zones: {zones} is outside 1 to {MOST_ZONES}")
    blocks = list(network.subnets(prefixlen_diff=_PRIVATE_BITS))
    public = list(blocks[_PUBLIC_BLOCK].subnets(prefixlen_diff=_PUBLIC_BITS - _PRIVATE_BITS))
    return [ZoneSubnets(str(blocks[zone]), str(public[zone])) for zone in range(zones)]


def check_disjoint(field: str, cidr: str, other_field: str, other: str) -> None:
    """Check that two ranges share no address; raises ValueError that names both otherwise."""
    first, second = ipaddress.IPv4Network(cidr), ipaddress.IPv4Network(other)
    if first.overlaps(second):
        suggestion = next(
            candidate
            for candidate in ("172.20.0.0/16", "10.100.0.0/16", "192.168.0.0/16")
            if not ipaddress.IPv4Network(candidate).overlaps(second)
        )
        raise ValueError(f"{field}: {cidr} overlaps {other_field} {other}; nearest valid value: {suggestion}")
