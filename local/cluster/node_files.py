"""The configuration files of a node: containerd, the pods' network, kubelet, kube-proxy. Pure but for `write`."""

import json
from pathlib import Path

import yaml

from local.addresses import CLUSTER_DNS_IP, POD_NETWORK
from local.cluster import cgroups, kubeconfigs, pki, registries
from local.cluster.node_spec import INDEXES, NodeSpec, address, pod_network
from local.cluster.objects import Json

PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
"""The sandbox image that every pod starts with."""
LEASE_SECONDS = 8
"""A kubelet renews its lease every quarter of this: 2 s, so that a lost node shows within the control plane's grace."""
SHIPPED = "shipped"
"""The folder in /var/log that remembers how far logs were shipped: of a node's own, as its logs are."""
SYNC = "10s"
"""How often a kubelet looks after each pod, which then gets a changed ConfigMap. The default, 60 s, makes that up to a
minute and a half."""


def containerd_toml(folder: Path, *, shim: Path, snapshotter: str) -> str:
    """containerd's configuration. `shim` is the runc shim's program."""
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "{snapshotter}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{folder}/etc/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{shim}"
options = {{ SystemdCgroup = false }}
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
conf_dir = "{folder}/etc/cni"
"""


def cni(index: int) -> Json:
    """The pods' network: a link of its own for each pod, as the VPC CNI makes it, so that no pod traffic is bridged.

    A bridge would carry a reply between two pods of a node past the node's service translation.
    """
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": pod_network(index)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni",  # gone with the node, as its pods are
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet(spec: NodeSpec, *, authority: Path, serving: pki.Pair) -> Json:
    """The kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address(spec.index),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.name(spec.name)}",
        "enforceNodeAllocatable": ["pods"],
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [CLUSTER_DNS_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": "",  # the machine's resolver is none of the pods' business
        "failSwapOn": False,
        "providerID": spec.provider_id,
        "registerWithTaints": [dict(taint) for taint in spec.taints],
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "syncFrequency": SYNC,
        "serializeImagePulls": False,
        "maxParallelImagePulls": 3,
        # The nodes share the machine's disk, so a node must not give up pods or images for want of a share of it.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "containerLogMaxSize": "5Mi",
        "containerLogMaxFiles": 2,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "makeIPTablesUtilChains": False,
        "enableProfilingHandler": False,
    }


def kube_proxy(name: str, *, kubeconfig: Path) -> Json:
    """kube-proxy's configuration."""
    untouched = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": name,
        "conntrack": untouched,
    }


def routes(index: int) -> str:
    """Routes to the pods of every other node that there can be, for `ip -batch`."""
    others = [other for other in INDEXES if other != index]
    return "".join(f"route add {pod_network(other)} via {address(other)}\n" for other in others)


def write_registries(folder: Path) -> None:
    """Tells a node where the local registry is; containerd reads this at each pull."""
    for host in registries.HOSTS:
        path = folder / "etc" / "certs.d" / host / "hosts.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(registries.hosts_toml(host))


def write(spec: NodeSpec, folder: Path, *, shim: Path, snapshotter: str) -> None:
    """Writes every file that the node reads at its start, its keys among them."""
    etc = folder / "etc"
    write_registries(folder)
    (etc / "cni").mkdir(exist_ok=True)
    (etc / "cni" / "10-pods.conflist").write_text(json.dumps(cni(spec.index)))
    (etc / "containerd.toml").write_text(containerd_toml(folder, shim=shim, snapshotter=snapshotter))
    (etc / "routes").write_text(routes(spec.index))
    client = pki.issue(f"kubelet-{spec.name}", f"system:node:{spec.name}", organizations=["system:nodes"])
    kubeconfigs.write(etc / "kubelet.kubeconfig", f"system:node:{spec.name}", client)
    serving = pki.issue(
        f"kubelet-{spec.name}-serving", spec.name, sans=[address(spec.index), spec.name], usages=[pki.SERVER]
    )
    authority = pki.authority("ca").certificate
    (etc / "kubelet.yaml").write_text(yaml.safe_dump(kubelet(spec, authority=authority, serving=serving)))
    proxy = kubeconfigs.component("system:kube-proxy")
    (etc / "kube-proxy.yaml").write_text(yaml.safe_dump(kube_proxy(spec.name, kubeconfig=proxy)))
    _write_gpus(spec, folder / "kubelet" / "pod-resources")
    # For who ships the logs: not root, but of its group, which may read what containers have written.
    shipped = folder / "log" / SHIPPED
    shipped.mkdir(parents=True, exist_ok=True)
    shipped.chmod(0o770)


def _write_gpus(spec: NodeSpec, folder: Path) -> None:
    """Says what GPUs the node's instance type has, for the image that stands for the DCGM exporter."""
    if spec.gpus:
        folder.mkdir(parents=True, exist_ok=True)
        product, memory = (spec.labels.get(f"nvidia.com/gpu.{name}", "0") for name in ("product", "memory"))
        gpus = {"count": spec.gpus, "product": product, "memory_mib": int(memory)}
        (folder / "gpus.json").write_text(json.dumps(gpus))
