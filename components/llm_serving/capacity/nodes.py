"""What pods get of a node, and how many nodes they need. Pure.

Sources, all awslabs/amazon-eks-ami, nodeadm/internal/kubelet: memory reserved is 11 MiB for each pod that the node may
have and 255 MiB more, and 100 MiB are kept from eviction; CPU reserved is 6 % of the first core, 1 % of the second,
0.5 % of the third and fourth, and 0.25 % of the others. Bottlerocket reserves by the same formulas.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llm_serving.capacity.catalog import InstanceType

MIB_OF_GIB = 1024
HYPERVISOR_SHARE = 0.075
"""What an instance's operating system doesn't see of its memory; Karpenter's default for vmMemoryOverheadPercent."""
DAEMON_MILLICORES = 250
"""For the pods that every GPU node runs: CNI and kube-proxy ask for 150, a device plugin and metrics for more."""
DAEMON_MIB = 256
EVICTION_MIB = 100
RESERVED_BASE_MIB = 255
RESERVED_MIB_OF_POD = 11


@dataclass(frozen=True, slots=True)
class Room:
    """What pods may ask for on one node, or what one pod asks for."""

    gpus: int
    cpu_millicores: int
    memory_mib: int

    def holds(self, pod: "Room") -> bool:
        """Whether a pod fits."""
        return pod.gpus <= self.gpus and pod.cpu_millicores <= self.cpu_millicores and pod.memory_mib <= self.memory_mib

    def without(self, pod: "Room") -> "Room":
        """What is left beside a pod."""
        return Room(self.gpus - pod.gpus, self.cpu_millicores - pod.cpu_millicores, self.memory_mib - pod.memory_mib)


def allocatable(instance: InstanceType) -> Room:
    """Return what pods of ours may ask for on a node: GPUs, thousandths of a core, MiB.

    Rounded down: the number of pods that a node may have is taken as the largest of its size.
    """
    seen_mib = int(instance.memory_gib * MIB_OF_GIB * (1 - HYPERVISOR_SHARE))
    reserved_mib = RESERVED_BASE_MIB + RESERVED_MIB_OF_POD * _most_pods(instance.vcpus)
    return Room(
        gpus=instance.gpus,
        cpu_millicores=instance.vcpus * 1000 - _reserved_millicores(instance.vcpus) - DAEMON_MILLICORES,
        memory_mib=seen_mib - reserved_mib - EVICTION_MIB - DAEMON_MIB,
    )


def _reserved_millicores(vcpus: int) -> int:
    shares = (60.0, 10.0, 5.0, 5.0)
    return math.ceil(sum(shares[:vcpus]) + 2.5 * max(0, vcpus - len(shares)))


def _most_pods(vcpus: int) -> int:
    """The most pods of a GPU instance of this size, by its network interfaces (eni-max-pods.txt of the AMIs)."""
    if vcpus <= 8:
        return 58
    return 234 if vcpus <= 48 else 737


def nodes_needed(node: Room, pods: Iterable[Room]) -> int | None:
    """Return how many equal nodes hold these pods, largest first; None where one fits no empty node."""
    free: list[Room] = []
    for pod in sorted(pods, key=lambda each: (each.gpus, each.memory_mib, each.cpu_millicores), reverse=True):
        if not node.holds(pod):
            return None
        place = _first(free, pod)
        if place is None:
            free.append(node.without(pod))
        else:
            free[place] = free[place].without(pod)
    return len(free)


def _first(free: Sequence[Room], pod: Room) -> int | None:
    return next((index for index, room in enumerate(free) if room.holds(pod)), None)
