"""Real nodes: containerd, kubelet and kube-proxy in namespaces of their own, joined to the host by the bridge.

A node's first process is pid 1 of its pid namespace, so to kill it is to lose the node, with every process, mount and
interface of it. What remains on the host, its cgroups and the route to its pods, is removed here.
"""

import os
import shutil
import signal
import time
from pathlib import Path

from local import toolchain
from local.addresses import BRIDGE, HOST_IP, NODE_NETWORK
from local.cluster import cgroups, network, node_files
from local.cluster.node_spec import NodeSpec, address, kubelet_labels, pod_network
from local.errors import LocalError
from local.paths import STATE
from local.processes import Daemon, start_time

_INIT = Path(__file__).with_name("node_init.sh")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _folder(name: str = "") -> Path:
    return STATE / "cluster" / "nodes" / name


def _daemon(name: str) -> Daemon:
    return Daemon(f"node-{name}")


def specs() -> list[NodeSpec]:
    """The nodes that there are, running or not."""
    found = (NodeSpec.load(folder) for folder in sorted(_folder().glob("*/")))
    return [spec for spec in found if spec]


def is_running(name: str) -> bool:
    """Whether a node's first process lives."""
    return _daemon(name).pid is not None


def start(spec: NodeSpec) -> None:
    """Starts a node, unless it runs; one that ran before finds its images and containers again.

    Returns before the node is Ready, which takes about 4 s more. Raises LocalError where it does not start.
    """
    if is_running(spec.name):
        return
    folder = _folder(spec.name)
    (folder / "etc").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    spec.save(folder)
    snapshotter = "native" if _on_overlay(folder) else "overlayfs"  # overlayfs does not nest
    node_files.write(spec, folder, shim=toolchain.program("containerd-shim-runc-v2"), snapshotter=snapshotter)
    _remove_host_traces(spec)
    cgroups.create(spec.name)
    _daemon(spec.name).start(_command(spec, folder))
    try:
        _connect(spec)
    except LocalError:
        stop(spec)
        raise


def stop(spec: NodeSpec) -> None:
    """Ends a node and removes what it leaves on the host; its folder stays, for it to start again."""
    daemon = _daemon(spec.name)
    if daemon.pid is not None:
        for pid in (*_children(daemon.pid), daemon.pid):
            _kill(pid)
    daemon.stop()
    _remove_host_traces(spec)


def remove(spec: NodeSpec) -> None:
    """Ends a node for good: nothing of it stays."""
    stop(spec)
    shutil.rmtree(_folder(spec.name), ignore_errors=True)
    for path in (STATE / "cluster" / "pki").glob(f"kubelet-{spec.name}*"):
        path.unlink()
    _daemon(spec.name).log.unlink(missing_ok=True)


def stop_all() -> None:
    """Ends every node of this environment, also one whose start was cut short, and removes what any left behind.

    Does nothing while another checkout's environment runs: then none of ours does.
    """
    if not network.is_ours():
        return
    for pid in _stray():  # before their interfaces go, so that the API server hears them hang up
        _kill(pid)
    for spec in specs():
        stop(spec)
    for name in cgroups.nodes():
        cgroups.remove(name)
    for interface in network.interfaces():
        if interface.startswith(network.PREFIX):
            network.delete_interface(interface)


def cleanup() -> None:
    """Removes what killed nodes left on the host; running ones only learn where the registry is now."""
    running = {spec.name: _daemon(spec.name).pid for spec in specs() if is_running(spec.name)}
    for pid in _stray():
        if pid not in running.values():
            _kill(pid)
    for spec in specs():
        if spec.name in running:
            node_files.write_registries(_folder(spec.name))
        else:
            stop(spec)
    for name in cgroups.nodes() - set(running):
        cgroups.remove(name)


def _command(spec: NodeSpec, folder: Path) -> list[str | Path]:
    # An empty environment: a proxy or a credential of the user's shell has no place on a node.
    variables = {
        "PATH": _PATH,
        "GOGC": "50",
        "NAME": spec.name,
        "ADDRESS": address(spec.index),
        "GATEWAY": HOST_IP,
        "PREFIX_LENGTH": NODE_NETWORK.rpartition("/")[2],
        "FOLDER": str(folder),
        "LABELS": kubelet_labels(spec.labels),
        "CONTAINERD": str(toolchain.program("containerd")),
        "KUBELET": str(toolchain.program("kubelet")),
        "KUBE_PROXY": str(toolchain.program("kube-proxy")),
    }
    return [
        *("env", "-i", *(f"{key}={value}" for key, value in variables.items())),
        *("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child"),
        *("bash", _INIT, folder),  # the folder is not read: it is how a stray one is known
    ]


def _connect(spec: NodeSpec) -> None:
    daemon = _daemon(spec.name)
    deadline = time.monotonic() + 20
    while not (pid := daemon.pid) or not (children := _children(pid)):
        if daemon.pid is None or time.monotonic() > deadline:
            raise LocalError(f"the node {spec.name} did not start:\n{daemon.tail()}", f"its log is {daemon.log}")
        time.sleep(0.02)
    host_end = f"{network.PREFIX}{spec.index}"
    peer = ("peer", "name", "eth0", "address", network.mac(address(spec.index)), "netns", str(children[0]))
    network.run("ip", "link", "add", host_end, "type", "veth", *peer)
    network.run("ip", "link", "set", host_end, "master", BRIDGE, "up")
    network.run("ip", "route", "replace", pod_network(spec.index), "via", address(spec.index), "dev", BRIDGE)


def _remove_host_traces(spec: NodeSpec) -> None:
    network.delete_interface(f"{network.PREFIX}{spec.index}")
    if BRIDGE in network.interfaces() and network.run("ip", "route", "show", pod_network(spec.index)):
        network.run("ip", "route", "delete", pod_network(spec.index))
    cgroups.remove(spec.name)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill(pid: int) -> None:
    """Ends a process by force and waits until it is gone, with all that its pid namespace held."""
    begun = start_time(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + 10
    while begun is not None and start_time(pid) == begun and time.monotonic() < deadline:
        time.sleep(0.02)


def _stray() -> list[int]:
    """Processes that start a node of this environment: all of them, also those that no pid file speaks of."""
    marker = f"{_INIT}\0{_folder()}/".encode()
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if marker in command and command.startswith(b"unshare\0"):
            found.append(int(path.parent.name))
    return found


def _on_overlay(folder: Path) -> bool:
    return network.run("stat", "--file-system", "--format=%T", str(folder)).strip() == "overlayfs"
