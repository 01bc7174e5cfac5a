"""The local Kubernetes cluster: control plane, nodes that follow the emulator's EKS node groups, DNS, pod identity.

The nodes are real (containerd, kubelet, kube-proxy in namespaces of their own) as far as the machine carries them, and
simulated by KWOK beyond that. `start` converges from any state that a kill may have left; `stop` leaves nothing behind.
"""

import socket
import sys
from pathlib import Path

from local.addresses import HOST_IP, POD_IDENTITY_IP
from local.cluster import addons, control_plane, kubeconfigs, network, node
from local.cluster.api import Api
from local.paths import ROOT, STATE
from local.ports import claim, port
from local.processes import Daemon

CONTROLLER = Daemon("controller")
_AGENT_PORT = 80


def start() -> None:
    """Starts what of the cluster doesn't run: bridge, control plane, add-ons, controller.

    The nodes follow by themselves: one for each desired instance of the node groups in the emulator, which should run
    already. Raises LocalError where a part does not start, or where another checkout's environment runs.
    """
    network.ensure()
    node.cleanup()
    control_plane.start()
    kubeconfigs.admin()
    if CONTROLLER.pid is None:
        claim("identity")
    # Before the add-ons: the nodes start meanwhile, and no pod is created while the webhook is away.
    CONTROLLER.start(
        [sys.executable, "-m", "local.cluster.controller"],
        env={"PYTHONPATH": str(ROOT), "LLM_SERVING_STATE": str(STATE)},
        ready=_controller_answers,
        timeout=60,
    )
    api = Api.admin(timeout=30)
    try:
        addons.apply(api)
    finally:
        api.close()


def stop() -> None:
    """Stops every node and every part, and removes their interfaces, routes, mounts and cgroups; keeps the data.

    The bridge stays for the other parts of the environment; `network.remove` takes it away.
    """
    CONTROLLER.stop()
    node.stop_all()
    control_plane.stop()


def cleanup() -> None:
    """Removes what killed nodes left on this machine; what runs is left alone."""
    if network.is_ours():
        node.cleanup()


def status() -> dict[str, bool]:
    """Whether each part runs: the control plane, the controller, and each real node."""
    nodes = {spec.name: node.is_running(spec.name) for spec in node.specs()}
    return {**control_plane.status(), CONTROLLER.name: CONTROLLER.pid is not None, **nodes}


def kubeconfig() -> Path:
    """The administrator's kubeconfig for this host. The server is on the bridge: https://10.89.0.1:PORT."""
    return kubeconfigs.admin()


def _controller_answers() -> bool:
    for address in ((HOST_IP, port("identity")), (POD_IDENTITY_IP, _AGENT_PORT)):
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            return False
    return True
