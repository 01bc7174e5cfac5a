"""Kubeconfig files: who each part of the cluster is to the API server. The keys are inside, so a file is enough."""

import base64
from pathlib import Path

import yaml

from local import certificates
from local.addresses import HOST_IP
from local.cluster import pki
from local.paths import state
from local.ports import port


def server() -> str:
    """The API server's URL, for this host and the nodes alike."""
    return f"https://{HOST_IP}:{port('apiserver')}"


def write(path: Path, user: str, pair: pki.Pair) -> Path:
    """Writes a kubeconfig, readable by its owner only, unless it is there already just so."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "llm-serving",
                "cluster": {"server": server(), "certificate-authority-data": _data(pki.authority("ca").certificate)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": _data(pair.certificate), "client-key-data": _data(pair.key)},
            }
        ],
        "contexts": [{"name": "llm-serving", "context": {"cluster": "llm-serving", "user": user}}],
        "current-context": "llm-serving",
    }
    content = yaml.safe_dump(document, sort_keys=False).encode()
    if not path.exists() or path.read_bytes() != content:
        certificates.write(path, content)
    return path


def component(user: str, *groups: str) -> Path:
    """The kubeconfig of a control plane component or of the administrator, by its user name."""
    name = user.rpartition(":")[2]
    return write(state("cluster", "kubeconfigs", name), user, pki.issue(name, user, organizations=groups))


def admin_certificate() -> pki.Pair:
    """The administrator's client certificate."""
    return pki.issue("admin", "kubernetes-admin", organizations=["system:masters"])


def admin() -> Path:
    """The administrator's kubeconfig."""
    return write(state("cluster", "kubeconfig"), "kubernetes-admin", admin_certificate())


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
