"""Keeps one node for each desired instance of every EKS node group, and replaces the ones that are lost.

As an Auto Scaling group does: a lost instance is replaced, one too many is drained and ended. Nodes are real up to
`LLM_SERVING_REAL_NODES` (6 where it isn't set); KWOK plays the rest.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from local.cluster import node
from local.cluster.api import Api
from local.cluster.controller import drain, simulated
from local.cluster.controller.groups import GPU, GROUP_LABEL, NodeGroup
from local.cluster.node_spec import INDEXES, NodeSpec, address, free_index, node_name
from local.cluster.objects import Json, is_true, labels, section, sequence
from local.errors import LocalError

log = logging.getLogger("controller.nodes")

DRAIN_SECONDS = 300
"""How long disruption budgets may hold a node back. EKS gives them 15 minutes."""
GONE_SECONDS = 20
"""The same where the whole node group is gone: AWS calls one deleted when its instances are."""
LOST_SECONDS = 20
"""A lost node's pods are given up after so long even if the control plane has not called it NotReady."""
UNREGISTERED_SECONDS = 60
"""A running node that the API does not know after so long is replaced."""
MISSING_LOOKS = 3
"""A group that the emulator does not list so many times running is gone, and not only being loaded."""


def real_nodes() -> int:
    """How many nodes may be real. Raises LocalError where the setting is no number."""
    setting = os.environ.get("LLM_SERVING_REAL_NODES") or "6"
    if not setting.isdigit() or int(setting) > 50:
        raise LocalError(f"LLM_SERVING_REAL_NODES is {setting!r}", "set it to a number from 0 to 50")
    return int(setting)


@dataclass(frozen=True)
class Member:
    """A node of a group that counts: it runs, or is about to."""

    name: str
    group: str
    cordoned: bool
    spec: NodeSpec | None
    """The real node; None for a simulated one."""


def metadata_changes(found: Json, group: NodeGroup) -> Json:
    """What a merge patch must set so that a Node has its group's labels and taints; empty where nothing.

    Taints and labels that Kubernetes itself or a user has set stay.
    """
    has = labels(found)
    wanted = {key: value for key, value in group.labels.items() if has.get(key) != value}
    taints = sequence(found, "spec", "taints")
    keys = {(taint["key"], taint["effect"]) for taint in taints}
    lacking = [dict(taint) for taint in group.taints if (taint["key"], taint["effect"]) not in keys]
    changes: Json = {}
    if wanted:
        changes["metadata"] = {"labels": wanted}
    if lacking:
        changes["spec"] = {"taints": [*taints, *lacking]}
    return changes


def gpu_changes(found: Json, gpus: int) -> Json:
    """What the NVIDIA device plugin would set in a Node's status; empty where it is there.

    A kubelet that restarts sets it to zero, so this is asked again and again.
    """
    status = section(found, "status")
    wanted = str(gpus)
    places = ("capacity", "allocatable")
    if not gpus or not status.get("capacity"):  # no status yet: the kubelet's first one would take it away
        return {}
    if all(section(status, place).get(GPU) == wanted for place in places):
        return {}
    return {"status": {place: {GPU: wanted} for place in places}}


def removal_order(members: list[Member], busy: Mapping[str, int]) -> list[Member]:
    """The members of a group, the one to end first coming first.

    Cordoned ones, then those with the fewest pods, then simulated ones, then the newest.
    """

    def rank(member: Member) -> tuple[bool, int, int]:
        age = -member.spec.index if member.spec else -INDEXES.stop
        return not member.cordoned, busy.get(member.name, 0), age

    return sorted(members, key=rank)


class NodeGroups:
    """The reconciler; `step` looks once and starts or ends what differs."""

    def __init__(self, api: Api, read: Callable[[], list[NodeGroup]], stop: threading.Event) -> None:
        self._api = api
        self._read = read
        self._stop = stop
        self._limit = real_nodes()
        self._revived = False
        self._lost: dict[str, float] = {}
        self._unregistered: dict[str, float] = {}
        self._missing: dict[str, int] = {}
        self._draining: dict[str, threading.Thread] = {}

    def step(self) -> None:
        """Looks at the emulator, the cluster and the machine once, and brings them closer together."""
        groups = {group.name: group for group in self._read()}
        nodes = {item["metadata"]["name"]: item for item in self._api.list("/api/v1/nodes")}
        self._revive()
        specs = node.specs()
        self._draining = {name: thread for name, thread in self._draining.items() if thread.is_alive()}
        self._find_lost(specs, nodes)
        members = self._members(specs, nodes)
        for group in groups.values():
            self._scale(group, [member for member in members if member.group == group.name], specs, nodes)
        self._missing = {
            name: self._missing.get(name, 0) + 1 for name in {member.group for member in members} - set(groups)
        }
        for member in members:
            if self._missing.get(member.group, 0) >= MISSING_LOOKS:
                self._end(member, "its node group is gone", GONE_SECONDS)
            elif member.group in groups and member.name in nodes and member.name not in self._draining:
                self._dress(nodes[member.name], groups[member.group])

    def wait(self, seconds: float) -> None:
        """Waits until no node is being drained, `seconds` at most."""
        deadline = time.monotonic() + seconds
        for thread in self._draining.values():
            thread.join(max(0, deadline - time.monotonic()))

    def _revive(self) -> None:
        """At the controller's first look, nodes that were stopped with the environment start again as they were."""
        if not self._revived:
            for spec in node.specs():
                if not node.is_running(spec.name):
                    log.info("starting %s again", spec.name)
                    node.start(spec)
            self._revived = True

    def _find_lost(self, specs: list[NodeSpec], nodes: dict[str, Json]) -> None:
        now = time.monotonic()
        for spec in specs:
            if spec.name in self._draining:
                continue
            if not node.is_running(spec.name):
                if spec.name not in self._lost:
                    log.warning("%s is lost: its first process has died", spec.name)
                since = self._lost.setdefault(spec.name, now)
                if not is_true(nodes.get(spec.name), "Ready") or now - since > LOST_SECONDS:
                    self._bury(spec)
            elif spec.name in nodes:
                self._unregistered.pop(spec.name, None)
            elif now - self._unregistered.setdefault(spec.name, now) > UNREGISTERED_SECONDS:
                log.warning("%s runs but isn't in the cluster: it is replaced", spec.name)
                self._lost[spec.name] = now
                self._bury(spec)

    def _bury(self, spec: NodeSpec) -> None:
        node.stop(spec)
        drain.forget(self._api, spec.name)
        node.remove(spec)
        self._lost.pop(spec.name, None)
        self._unregistered.pop(spec.name, None)
        log.info("%s is removed", spec.name)

    def _members(self, specs: list[NodeSpec], nodes: dict[str, Json]) -> list[Member]:
        gone = {*self._lost, *self._draining}
        real = [
            Member(spec.name, spec.group, _is_cordoned(nodes.get(spec.name)), spec)
            for spec in specs
            if spec.name not in gone and node.is_running(spec.name)
        ]
        played = [
            Member(name, labels(item)[GROUP_LABEL], _is_cordoned(item), None)
            for name, item in nodes.items()
            if simulated.is_simulated(item) and GROUP_LABEL in labels(item) and name not in gone
        ]
        return real + played

    def _scale(self, group: NodeGroup, members: list[Member], specs: list[NodeSpec], nodes: dict[str, Json]) -> None:
        surplus = len(members) - group.desired
        if surplus > 0:
            busy = {
                member.name: sum(map(drain.is_evictable, drain.pods_of(self._api, member.name))) for member in members
            }
            for member in removal_order(members, busy)[:surplus]:
                self._end(member, f"{group.name} wants {group.desired}")
        for number in range(len(members), group.desired):
            if self._stop.is_set():
                return
            self._add(group, number, specs, nodes)

    def _add(self, group: NodeGroup, number: int, specs: list[NodeSpec], nodes: dict[str, Json]) -> None:
        zone = group.zone(number)
        if sum(1 for spec in specs if spec.name not in self._lost) < self._limit:
            taken = {spec.index for spec in specs}
            index = free_index(taken)
            spec = NodeSpec(
                name=node_name(address(index)),
                index=index,
                group=group.name,
                instance_type=group.instance_type,
                zone=zone,
                gpus=group.instance.gpus,
                labels=group.node_labels(zone),
                taints=group.taints,
            )
            log.info("%s: starting %s (%s)", group.name, spec.name, group.instance_type)
            node.start(spec)
            specs.append(spec)
            return
        free = simulated.free_number(set(nodes))
        version = self._api.get("/version")["gitVersion"]
        item = simulated.manifest(group, free, zone, version)
        log.info("%s: simulating %s (%s)", group.name, item["metadata"]["name"], group.instance_type)
        created = self._api.create("/api/v1/nodes", item)
        nodes[created["metadata"]["name"]] = created

    def _end(self, member: Member, reason: str, seconds: float = DRAIN_SECONDS) -> None:
        log.info("%s: draining %s, for %s", member.group, member.name, reason)

        def work() -> None:
            try:
                drain.drain(self._api, member.name, seconds=seconds, stopped=self._stop.is_set)
                if self._stop.is_set():
                    return
                if member.spec:
                    node.stop(member.spec)
                drain.forget(self._api, member.name)
                if member.spec:
                    node.remove(member.spec)
                log.info("%s: %s has ended", member.group, member.name)
            except Exception:
                log.exception("%s: %s could not be ended; trying again", member.group, member.name)

        thread = threading.Thread(target=work, name=f"drain-{member.name}", daemon=True)
        self._draining[member.name] = thread
        thread.start()

    def _dress(self, found: Json, group: NodeGroup) -> None:
        path = f"/api/v1/nodes/{found['metadata']['name']}"
        if changes := metadata_changes(found, group):
            self._api.merge(path, changes)
        if not simulated.is_simulated(found) and (changes := gpu_changes(found, group.instance.gpus)):
            self._api.merge(f"{path}/status", changes)


def _is_cordoned(found: Json | None) -> bool:
    return bool(section(found, "spec").get("unschedulable"))
