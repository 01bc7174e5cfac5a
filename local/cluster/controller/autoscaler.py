"""The cluster autoscaler's part: pods that fit on no node raise a group's desired size, empty nodes lower it."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Self

from local.cluster import node
from local.cluster.api import Api
from local.cluster.controller import scheduling, simulated
from local.cluster.controller.aws import Client
from local.cluster.controller.drain import is_evictable
from local.cluster.controller.groups import GPU, GPU_LABEL, GROUP_LABEL, NodeGroup
from local.cluster.controller.node_groups import real_nodes
from local.cluster.controller.quantities import parse
from local.cluster.controller.scheduling import Resources
from local.cluster.objects import Json, is_true, labels, name, section, sequence

log = logging.getLogger("controller.autoscaler")

IDLE_SECONDS = 60
"""A node that has had pods and has none any more goes after so long. The cluster autoscaler waits 10 minutes."""
UNUSED_SECONDS = 300
"""A node that has had no pod yet is kept for so long: what it was added for may be on its way."""


@dataclass(frozen=True)
class Template:
    """What one more node of a group would be. `room` is how many may be added, `coming` how many are on their way."""

    group: str
    labels: dict[str, str]
    taints: Sequence[Mapping[str, str]]
    capacity: Resources
    room: int
    coming: int = 0

    def place(self) -> "Place":
        """Such a node, empty."""
        return Place(self.labels, self.taints, dict(self.capacity))


@dataclass
class Place:
    """A node, there already or not, with what is still free on it and whose pods it has."""

    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]
    free: Resources
    owners: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, item: Json, pods: Iterable[Json]) -> Self:
        """A node of the cluster, with the pods that are bound to it."""
        allocatable = section(item, "status", "allocatable")
        place = cls(
            labels(item),
            sequence(item, "spec", "taints"),
            {resource: parse(amount) for resource, amount in allocatable.items()},
        )
        for pod in pods:
            place.fill(pod)
        return place

    def accepts(self, pod: Json) -> bool:
        """Whether the pod could be put here."""
        if scheduling.keeps_apart(pod) and scheduling.owner(pod) in self.owners:
            return False
        if not (scheduling.selects(pod, self.labels) and scheduling.tolerates(pod, self.taints)):
            return False
        return all(self.free.get(name, Decimal(0)) >= amount for name, amount in scheduling.requests(pod).items())

    def fill(self, pod: Json) -> None:
        """Puts the pod here."""
        wanted = scheduling.requests(pod)
        self.free = {name: amount - wanted.get(name, Decimal(0)) for name, amount in self.free.items()}
        self.owners.add(scheduling.owner(pod))


def scale_up(pods: Iterable[Json], nodes: Iterable[Place], templates: Sequence[Template]) -> dict[str, int]:
    """How many nodes each group needs more for the pods that fit on none; groups that need none are left out.

    Pods first fill the nodes that there are and that are on their way, then new ones: of the group with the least to
    waste.
    """
    places = [*nodes, *(template.place() for template in templates for _ in range(template.coming))]
    added: dict[str, int] = {}
    by_waste = sorted(templates, key=lambda item: (item.capacity.get(GPU, Decimal(0)), item.capacity["cpu"]))
    for pod in pods:
        place = next((place for place in places if place.accepts(pod)), None)
        if place is None and (template := _choose(pod, by_waste, added)):
            place = template.place()
            places.append(place)
            added[template.group] = added.get(template.group, 0) + 1
        if place is not None:
            place.fill(pod)
    return added


def _choose(pod: Json, templates: Iterable[Template], added: Mapping[str, int]) -> Template | None:
    with_room = (template for template in templates if added.get(template.group, 0) < template.room)
    return next((template for template in with_room if template.place().accepts(pod)), None)


@dataclass
class Idleness:
    """Since when each node is empty, in seconds of a monotonic clock, and which have ever had a pod."""

    since: dict[str, float] = field(default_factory=dict[str, float])
    used: set[str] = field(default_factory=set[str])

    def look(self, nodes: Iterable[str], busy: set[str], now: float) -> None:
        """Notes which nodes are empty now."""
        names = set(nodes)
        self.used = (self.used | busy) & names
        self.since = {name: self.since.get(name, now) for name in names - busy}

    def is_over(self, name: str, now: float) -> bool:
        """Whether a node has been empty for long enough to go."""
        limit = IDLE_SECONDS if name in self.used else UNUSED_SECONDS
        return name in self.since and now - self.since[name] >= limit


def scale_down(groups: Iterable[NodeGroup], members: dict[str, list[str]], idle: set[str]) -> dict[str, int]:
    """How many nodes each group can do without: the idle ones, down to its minimum."""
    result: dict[str, int] = {}
    for group in groups:
        empty = sum(1 for name in members.get(group.name, []) if name in idle)
        if count := min(empty, group.desired - group.minimum):
            result[group.name] = count
    return {name: count for name, count in result.items() if count > 0}


class Autoscaler:
    """The loop's body; sizes are changed through EKS, and `node_groups` does the rest."""

    def __init__(self, api: Api, read: Callable[[], list[NodeGroup]], client: Client) -> None:
        self._api = api
        self._read = read
        self._client = client
        self._idleness = Idleness()

    def step(self) -> None:
        """Looks once, and changes the desired size of groups that have too few or too many nodes."""
        groups = self._read()
        nodes = self._api.list("/api/v1/nodes")
        pods = self._api.list("/api/v1/pods")
        pending = [pod for pod in pods if scheduling.is_unschedulable(pod)]
        members: dict[str, list[str]] = {}
        for item in nodes:
            if is_usable(item):
                members.setdefault(labels(item).get(GROUP_LABEL, ""), []).append(name(item))
        machine = machine_capacity(nodes)
        templates = [_template(group, len(members.get(group.name, [])), machine) for group in groups]
        more = scale_up(pending, _places(nodes, pods), templates) if pending else {}
        fewer = {} if pending else self._find_idle(groups, members, pods)
        for group in groups:
            self._resize(group, more.get(group.name, 0), "pods wait for it")
            self._resize(group, -fewer.get(group.name, 0), "its nodes are empty")

    def _find_idle(self, groups: list[NodeGroup], members: dict[str, list[str]], pods: list[Json]) -> dict[str, int]:
        now = time.monotonic()
        busy: set[str] = {pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName") and is_evictable(pod)}
        names = [member for group in members.values() for member in group]
        self._idleness.look(names, busy, now)
        idle = {member for member in names if self._idleness.is_over(member, now)}
        # A group that is still growing or shrinking is left alone until it has settled.
        settled = [group for group in groups if len(members.get(group.name, [])) == group.desired]
        return scale_down(settled, members, idle)

    def _resize(self, group: NodeGroup, change: int, reason: str) -> None:
        if not change:
            return
        size = group.desired + change
        log.info("%s: %d nodes instead of %d: %s", group.name, size, group.desired, reason)
        self._client("eks").update_nodegroup_config(
            clusterName=group.cluster,
            nodegroupName=group.name,
            scalingConfig={"minSize": group.minimum, "maxSize": group.maximum, "desiredSize": size},
        )


def is_usable(item: Json) -> bool:
    """Whether a node takes pods already: one that has just come is Ready a moment before its GPUs are known."""
    gpus: str = section(item, "status", "allocatable").get(GPU, "0")
    waits_for_gpus = labels(item).get(GPU_LABEL) == "true" and gpus == "0"
    held = any(taint["key"].startswith("node.kubernetes.io/") for taint in sequence(item, "spec", "taints"))
    return is_true(item, "Ready") and not waits_for_gpus and not held


def _places(nodes: Iterable[Json], pods: Iterable[Json]) -> list[Place]:
    bound: dict[str, list[Json]] = {}
    for pod in pods:
        if section(pod, "status").get("phase") not in ("Succeeded", "Failed"):
            bound.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    return [Place.of(item, bound.get(name(item), [])) for item in nodes if is_usable(item)]


def machine_capacity(nodes: Iterable[Json]) -> Resources:
    """What this machine gives to a real node, by any that runs; empty where none does."""
    for item in nodes:
        allocatable = section(item, "status", "allocatable")
        if allocatable and not simulated.is_simulated(item):
            return {resource: parse(allocatable[resource]) for resource in ("cpu", "ephemeral-storage", "memory")}
    return {}


def _template(group: NodeGroup, ready: int, machine: Resources) -> Template:
    capacity = {resource: parse(amount) for resource, amount in group.capacity.items()}
    if len(node.specs()) < real_nodes():  # the next node would be a real one
        capacity.update(machine)
    return Template(
        group=group.name,
        labels=group.node_labels(group.zone(group.desired)),
        taints=group.taints,
        capacity=capacity,
        room=max(0, group.maximum - group.desired),
        coming=max(0, group.desired - ready),
    )
