"""Nodes beyond what the machine carries: objects that KWOK keeps Ready. Their pods get addresses but run nothing."""

import secrets

from local.cluster.controller.groups import NodeGroup
from local.cluster.node_spec import node_name
from local.cluster.objects import Json, labels

LABEL = ("type", "kwok")
"""The label by which KWOK knows its nodes."""


def is_simulated(node: Json) -> bool:
    """Whether KWOK plays a node."""
    return labels(node).get(LABEL[0]) == LABEL[1]


def address(number: int) -> str:
    """The address that a simulated node claims: one that nothing on this machine has."""
    return f"10.90.{number // 250}.{number % 250 + 1}"


def manifest(group: NodeGroup, number: int, zone: str, version: str) -> Json:
    """A node of a group, with its instance type's capacity. `number` is unique among simulated nodes."""
    name = node_name(address(number))
    own = {
        **group.node_labels(zone),
        LABEL[0]: LABEL[1],
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": own},
        "spec": {
            "taints": [dict(taint) for taint in group.taints],
            "providerID": f"aws:///{zone}/i-{secrets.token_hex(8)}0",
        },
        "status": {
            "capacity": group.capacity,
            "allocatable": group.capacity,
            "addresses": [{"type": "InternalIP", "address": address(number)}, {"type": "Hostname", "address": name}],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "kwok://simulated",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": version,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "simulated",
                "systemUUID": "",
            },
        },
    }


def free_number(taken: set[str]) -> int:
    """The lowest number whose node name isn't taken."""
    return next(number for number in range(50_000) if node_name(address(number)) not in taken)
