"""The control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and KWOK for simulated nodes.

Started here and not by kwokctl, which binds to every interface and lacks a front-proxy authority. The API server
listens on the bridge, where this host, the nodes and the pods reach it; everything else on loopback only. The data is
in etcd's folder and survives a kill of any of them.
"""

import socket
from collections.abc import Callable
from pathlib import Path

from local import toolchain
from local.addresses import HOST_IP, KUBERNETES_SERVICE_IP, POD_NETWORK, SERVICE_NETWORK
from local.cluster import kubeconfigs, pki
from local.cluster.api import Api
from local.paths import STATE
from local.ports import claim, port
from local.processes import Daemon

LOOPBACK = "127.0.0.1"
ETCD = Daemon("etcd")
API_SERVER = Daemon("kube-apiserver")
CONTROLLER_MANAGER = Daemon("kube-controller-manager")
SCHEDULER = Daemon("kube-scheduler")
KWOK = Daemon("kwok")
ALL = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER, KWOK)

KUBELET_CLIENT = "kube-apiserver-kubelet-client"
"""The user that the API server is to kubelets; `addons` binds it to the role that may use their API."""
ISSUER = "https://kubernetes.default.svc.cluster.local"
NODE_GRACE_SECONDS = 12
"""A node whose kubelet is silent for so long is NotReady. Kubelets report every 2 s (see `node`). EKS has 40 s."""
EVICTION_SECONDS = 15
"""Pods leave a NotReady node after so long, unless they say otherwise. Kubernetes' default is 300 s."""
KWOK_POD_NETWORK = "10.245.0.0/16"
"""Addresses of simulated pods: nothing answers there, and they never clash with real ones."""
_LEAN = {"GOGC": "50"}
"""More garbage collection for less memory: the whole environment shares one machine."""


def start() -> None:
    """Starts what doesn't run and waits until all of it is ready. Raises LocalError where a part does not start."""
    _settle_addresses()
    pki.service_account_key()
    ETCD.start(_etcd(), env=_LEAN, ready=lambda: _accepts(LOOPBACK, "etcd"), timeout=60)
    API_SERVER.start(_api_server(), env=_LEAN, ready=_api_is_ready, timeout=90)
    for daemon, service, command in (
        (CONTROLLER_MANAGER, "controller-manager", _controller_manager),
        (SCHEDULER, "scheduler", _scheduler),
        (KWOK, "kwok", _kwok),
    ):
        daemon.start(command(), env=_LEAN, ready=_listening(service), timeout=60)


def stop() -> None:
    """Stops every part, the ones that use the API server first; the data is kept."""
    for daemon in reversed(ALL):
        # The API server would wait a minute for clients that have gone without a word. It keeps nothing of its own.
        daemon.stop(timeout=4 if daemon is API_SERVER else 15)


def status() -> dict[str, bool]:
    """Whether each part's process runs."""
    return {daemon.name: daemon.pid is not None for daemon in ALL}


def _settle_addresses() -> None:
    """Chooses the ports of what doesn't run; what was told an address that has moved is stopped, to start again."""
    if ETCD.pid is None:
        before = port("etcd")
        if claim("etcd") != before:
            API_SERVER.stop()
        claim("etcd-peer")
    if API_SERVER.pid is None:
        before = port("apiserver")
        if claim("apiserver") != before:
            for daemon in (CONTROLLER_MANAGER, SCHEDULER, KWOK):
                daemon.stop()
    for daemon, service in ((CONTROLLER_MANAGER, "controller-manager"), (SCHEDULER, "scheduler"), (KWOK, "kwok")):
        if daemon.pid is None:
            claim(service)


def _accepts(host: str, service: str) -> bool:
    try:
        with socket.create_connection((host, port(service)), timeout=1):
            return True
    except OSError:
        return False


def _listening(service: str) -> Callable[[], bool]:
    return lambda: _accepts(LOOPBACK, service)


def _api_is_ready() -> bool:
    api = Api.admin(timeout=2)
    try:
        return api.is_ready()
    finally:
        api.close()


def _etcd() -> list[str | Path]:
    client, peer = (f"https://{LOOPBACK}:{port(name)}" for name in ("etcd", "etcd-peer"))
    pair = pki.issue(
        "etcd-server", "etcd", signer="etcd-ca", sans=[LOOPBACK, "localhost"], usages=[pki.SERVER, pki.CLIENT]
    )
    authority = pki.authority("etcd-ca").certificate
    return [
        toolchain.program("etcd"),
        "--name=local",
        f"--data-dir={STATE / 'cluster' / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        "--client-cert-auth",
        f"--trusted-ca-file={authority}",
        f"--peer-cert-file={pair.certificate}",
        f"--peer-key-file={pair.key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={authority}",
        "--force-new-cluster",  # one member for ever: its peer port may move between two starts
        "--log-level=warn",
    ]


def _api_server() -> list[str | Path]:
    serving = pki.issue(
        "apiserver",
        "kube-apiserver",
        sans=[
            HOST_IP,
            KUBERNETES_SERVICE_IP,  # what pods use
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ],
        usages=[pki.SERVER],
    )
    etcd = pki.issue("apiserver-etcd-client", "kube-apiserver", signer="etcd-ca")
    kubelet = pki.issue(KUBELET_CLIENT, KUBELET_CLIENT)
    proxy = pki.issue("front-proxy-client", "front-proxy-client", signer="front-proxy-ca")
    account = pki.service_account_key()
    return [
        toolchain.program("kube-apiserver"),
        f"--bind-address={HOST_IP}",
        f"--advertise-address={HOST_IP}",
        f"--secure-port={port('apiserver')}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={pki.authority('ca').certificate}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--etcd-servers=https://{LOOPBACK}:{port('etcd')}",
        f"--etcd-cafile={pki.authority('etcd-ca').certificate}",
        f"--etcd-certfile={etcd.certificate}",
        f"--etcd-keyfile={etcd.key}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={account.certificate}",
        f"--service-account-signing-key-file={account.key}",
        f"--kubelet-certificate-authority={pki.authority('ca').certificate}",
        f"--kubelet-client-certificate={kubelet.certificate}",
        f"--kubelet-client-key={kubelet.key}",
        "--kubelet-preferred-address-types=InternalIP",  # node names are in no DNS
        # Aggregated APIs and webhooks are called at pod addresses: this host has no route to service addresses.
        "--enable-aggregator-routing",
        f"--requestheader-client-ca-file={pki.authority('front-proxy-ca').certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy.certificate}",
        f"--proxy-client-key-file={proxy.key}",
        f"--default-not-ready-toleration-seconds={EVICTION_SECONDS}",
        f"--default-unreachable-toleration-seconds={EVICTION_SECONDS}",
        "--allow-privileged",
        "--profiling=false",
    ]


def _controller_manager() -> list[str | Path]:
    config = kubeconfigs.component("system:kube-controller-manager")
    authority = pki.authority("ca")
    return [
        toolchain.program("kube-controller-manager"),
        *_served(config, "controller-manager"),
        f"--root-ca-file={authority.certificate}",
        f"--cluster-signing-cert-file={authority.certificate}",
        f"--cluster-signing-key-file={authority.key}",
        f"--service-account-private-key-file={pki.service_account_key().key}",
        "--use-service-account-credentials",
        f"--cluster-cidr={POD_NETWORK}",
        "--allocate-node-cidrs=false",  # a node's index decides its pod network, see `node`
        f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
        "--node-monitor-period=2s",
        "--terminated-pod-gc-threshold=50",
    ]


def _scheduler() -> list[str | Path]:
    config = kubeconfigs.component("system:kube-scheduler")
    return [toolchain.program("kube-scheduler"), *_served(config, "scheduler")]


def _served(config: Path, service: str) -> list[str]:
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port(service)}",
        "--leader-elect=false",
        "--profiling=false",
    ]


def _kwok() -> list[str | Path]:
    return [
        toolchain.program("kwok"),
        f"--kubeconfig={kubeconfigs.component('system:kwok', 'system:masters')}",
        f"--config={Path(__file__).with_name('kwok-stages.yaml')}",
        "--manage-nodes-with-label-selector=type=kwok",
        f"--server-address={LOOPBACK}:{port('kwok')}",
        f"--cidr={KWOK_POD_NETWORK}",
        f"--node-lease-duration-seconds={NODE_GRACE_SECONDS}",
    ]
