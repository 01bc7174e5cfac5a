"""What a node is: its name, addresses, labels, taints and the instance that it stands for."""

import json
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from local.addresses import HOST_IP, POD_NETWORK
from local.errors import LocalError

INDEXES = range(11, 61)
"""A real node's index is the last part of its address and the third of its pods' network."""
_SAFE_KUBERNETES_LABELS = ("topology.kubernetes.io/", "node.kubernetes.io/")


def address(index: int) -> str:
    """A node's address on the bridge."""
    return f"{HOST_IP.rpartition('.')[0]}.{index}"


def pod_network(index: int) -> str:
    """The network of a node's pods, such as `10.244.11.0/24`."""
    return f"{'.'.join(POD_NETWORK.split('.')[:2])}.{index}.0/24"


def node_name(ip: str) -> str:
    """The name that EKS gives to a node of this address in us-east-1."""
    return f"ip-{ip.replace('.', '-')}.ec2.internal"


def free_index(taken: Collection[int]) -> int:
    """The index for a new node: the next one up, so that a lost node's name isn't used again at once.

    Raises LocalError where all are taken.
    """
    above = max(taken, default=INDEXES.start - 1) + 1
    for index in (*range(above, INDEXES.stop), *INDEXES):
        if index not in taken:
            return index
    raise LocalError(f"all {len(INDEXES)} node addresses are in use", "set LLM_SERVING_REAL_NODES lower")


@dataclass(frozen=True)
class NodeSpec:
    """One node of a node group. `gpus` is what the NVIDIA device plugin would advertise."""

    name: str
    index: int
    group: str
    instance_type: str
    zone: str
    instance_id: str = field(default_factory=lambda: f"i-{secrets.token_hex(8)}0")
    gpus: int = 0
    labels: dict[str, str] = field(default_factory=dict[str, str])
    taints: tuple[dict[str, str], ...] = ()

    @property
    def provider_id(self) -> str:
        """The node's instance, as the AWS cloud provider names it."""
        return f"aws:///{self.zone}/{self.instance_id}"

    def save(self, folder: Path) -> None:
        """Keeps the node's description in its folder."""
        temporary = folder / "node.json.tmp"
        temporary.write_text(json.dumps(asdict(self), indent=1))
        temporary.replace(folder / "node.json")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The description in a node's folder; None where there is none."""
        try:
            content: dict[str, Any] = json.loads((folder / "node.json").read_text())
        except (OSError, ValueError):
            return None
        content["taints"] = tuple(content["taints"])
        return cls(**content)


def kubelet_labels(labels: dict[str, str]) -> str:
    """The labels that a kubelet may set on its own node, for its command line; the controller sets the others.

    Kubelets refuse most labels of Kubernetes' own domains.
    """
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if _kubelet_may_set(key))


def _kubelet_may_set(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    own = domain.endswith(("kubernetes.io", "k8s.io"))
    return not own or key.startswith(_SAFE_KUBERNETES_LABELS)
