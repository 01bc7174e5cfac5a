"""Whether the account and region have what a stack asks for: quotas, instance types in its zones, reserved capacity."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from llm_serving.capacity import catalog, quotas
from llm_serving.capacity.cloud_facts import CloudFacts, Reservation, Unchecked
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.stack import Pool, Stack

QUOTA = Check("CLOUD_QUOTA", "error", "The account's vCPU quota is less than the node groups may need.", ("F10",))
QUOTA_UNCHECKED = Check("CLOUD_QUOTA_UNCHECKED", "unchecked", "The account's vCPU quotas could not be read.", ("F10",))
OFFERING = Check("CLOUD_OFFERING", "error", "A zone of the stack does not offer a pool's instance types.", ("F11",))
OFFERING_UNCHECKED = Check(
    "CLOUD_OFFERING_UNCHECKED", "unchecked", "Which zones offer which instance types could not be read.", ("F11",)
)
RESERVATION = Check(
    "CLOUD_RESERVATION", "warning", "P-class instances are seldom free, and too few are reserved.", ("F11",)
)
RESERVATION_UNCHECKED = Check(
    "CLOUD_RESERVATION_UNCHECKED", "unchecked", "Whether P-class instances are reserved could not be read.", ("F11",)
)
CHECKS = (
    QUOTA,
    QUOTA_UNCHECKED,
    OFFERING,
    OFFERING_UNCHECKED,
    RESERVATION,
    RESERVATION_UNCHECKED,
)


def check(stack: Stack, facts: CloudFacts) -> Iterator[Finding]:
    """Yield what the account or region lacks, and what could not be asked."""
    yield from _quotas(stack, facts)
    yield from _offerings(stack, facts)
    yield from _reservations(stack, facts)


def pools(stack: Stack) -> Iterator[tuple[str, Pool]]:
    """Yield every pool with its key of the stack file."""
    yield "cluster.systemPool", stack.system_pool
    for name, pool in stack.gpu_pools.items():
        yield f"cluster.gpuPools.{name}", pool


def _quotas(stack: Stack, facts: CloudFacts) -> Iterator[Finding]:
    if isinstance(facts.quotas, Unchecked):
        yield Finding(
            QUOTA_UNCHECKED.code, "unchecked", "cluster", f"vCPU quotas were not compared: {facts.quotas.reason}"
        )
        return
    now: dict[quotas.Quota, int] = defaultdict(int)
    most: dict[quotas.Quota, int] = defaultdict(int)
    settings: dict[quotas.Quota, list[str]] = defaultdict(list)
    for setting, pool in pools(stack):
        # The largest of its types: which one the group gets is EC2's choice.
        sizes = [
            (size, quota)
            for name in pool.instance_types
            if (size := quotas.vcpus(name)) and (quota := quotas.of(name, spot=pool.capacity_type == "SPOT"))
        ]
        if sizes:
            size, quota = max(sizes, key=lambda each: each[0])
            now[quota] += size * pool.desired_size
            most[quota] += size * pool.max_size
            settings[quota].append(setting)
    for quota, names in settings.items():
        limit = facts.quotas.get(quota.code)
        if limit is not None and limit < most[quota]:
            yield Finding(
                QUOTA.code,
                "error" if limit < now[quota] else "warning",
                f"{names[0]}.maxSize",
                f"{' and '.join(names)} may need {most[quota]} vCPUs, {now[quota]} of them now, and the quota"
                f" {quota.name!r} ({quota.code}) of {stack.region} is {limit:g}; nearest valid value:"
                f" a quota of {most[quota]}, to be asked for in Service Quotas",
                (str(most[quota]),),
            )


def _offerings(stack: Stack, facts: CloudFacts) -> Iterator[Finding]:
    if isinstance(facts.offerings, Unchecked) or not stack.zones:
        reason = facts.offerings.reason if isinstance(facts.offerings, Unchecked) else "the network exists already"
        yield Finding(
            OFFERING_UNCHECKED.code,
            "unchecked",
            "network.availabilityZones",
            f"what the zones offer was not compared with the pools: {reason}",
        )
        return
    for setting, pool in pools(stack):
        offered = frozenset[str]().union(*(facts.offerings.get(name, frozenset()) for name in pool.instance_types))
        lacking = [zone for zone in stack.zones if zone not in offered]
        if lacking:
            yield _not_offered(stack, f"{setting}.instanceTypes", pool, lacking, sorted(offered))


def _not_offered(stack: Stack, setting: str, pool: Pool, lacking: list[str], offered: list[str]) -> Finding:
    types = " or ".join(pool.instance_types)
    nowhere = len(lacking) == len(stack.zones)
    if not offered:
        nearest = f"another instance type, since {stack.region} has it in no zone"
    else:
        nearest = f"zones {', '.join(offered)}"
    effect = "no node can start" if nowhere else "nodes start in the other zones only, and none replaces a lost zone"
    return Finding(
        OFFERING.code,
        "error" if nowhere else "warning",
        setting,
        f"{types} is not offered in {', '.join(lacking)}, so {effect}; nearest valid value: {nearest}",
        tuple(offered),
    )


def reserved_types(pool: Pool) -> list[str]:
    """Return the on-demand instance types of a pool that are seldom to be had without reserved capacity: P-class."""
    known = catalog.instances()
    return [
        name
        for name in pool.instance_types
        if pool.capacity_type != "SPOT" and re.match(r"p\d", name) and (name not in known or known[name].capacity_block)
    ]


def _reservations(stack: Stack, facts: CloudFacts) -> Iterator[Finding]:
    for name, pool in stack.gpu_pools.items():
        if types := reserved_types(pool):
            setting = f"cluster.gpuPools.{name}.instanceTypes"
            if isinstance(facts.reservations, Unchecked):
                yield Finding(
                    RESERVATION_UNCHECKED.code,
                    RESERVATION_UNCHECKED.severity,
                    setting,
                    f"{', '.join(types)} is seldom free on demand, and whether the account has reserved any was not"
                    f" looked up: {facts.reservations.reason}",
                )
            else:
                yield from _reserved(stack, setting, pool, facts.reservations)


def _reserved(stack: Stack, setting: str, pool: Pool, reservations: Sequence[Reservation]) -> Iterator[Finding]:
    ours = [each for each in reservations if each.instance_type in pool.instance_types]
    usable = [each for each in ours if each.open and (not stack.zones or each.zone in stack.zones)]
    held = sum(each.instances for each in usable)
    if held >= pool.max_size:
        return
    others = "; ".join(_why_not(each, stack) for each in ours if each not in usable)
    yield Finding(
        RESERVATION.code,
        RESERVATION.severity,
        setting,
        f"{', '.join(reserved_types(pool))} is seldom free on demand, and of the {pool.max_size} nodes that the pool"
        f" may have, reserved capacity holds {held}{f' ({others})' if others else ''}, so nodes may not start or not"
        f" come back; nearest valid value: an open capacity reservation for {pool.max_size} in"
        f" {' or '.join(stack.zones) or stack.region}",
    )


def _why_not(reservation: Reservation, stack: Stack) -> str:
    if not reservation.open:
        return f"{reservation.identifier} is targeted, and node groups of this environment name no reservation"
    return f"{reservation.identifier} is in {reservation.zone}, and the stack is in {', '.join(stack.zones)}"
