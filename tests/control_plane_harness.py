"""A control plane of a test's own, on loopback: etcd, API server, controllers, scheduler, and nodes that KWOK plays.

Nothing of it needs root, and no container runs: a pod is ready a second after it has a node, and gone a second after it
is deleted.
"""

import base64
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from local import toolchain
from local.cluster import addons, pki
from local.cluster.api import Api
from local.cluster.objects import Json
from local.ports import free
from local.processes import Daemon

LOOPBACK = "127.0.0.1"
_DELETION = "  next: {delete: true}"
_STAGES = Path(addons.__file__).with_name("kwok-stages.yaml")


class ControlPlane:
    """Runs from `start` to `stop`; `api` is the API as its administrator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Daemon] = []
        ports: set[int] = set()
        for _ in range(6):
            ports.add(free(ports))
        self._etcd, self._peer, self._server, self._manager, self._scheduler, self._kwok = sorted(ports)
        self.server = f"https://{LOOPBACK}:{self._server}"
        self._pair = pki.issue("admin", "kubernetes-admin", organizations=["system:masters"])
        self.api = Api(self.server, self._pair)

    def start(self) -> None:
        """Starts every part. Raises LocalError where one does not start."""
        client, peer = (f"http://{LOOPBACK}:{port}" for port in (self._etcd, self._peer))
        self.run(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            *(f"--{kind}-client-urls={client}" for kind in ("listen", "advertise")),
            f"--listen-peer-urls={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self.run("kube-apiserver", *self._api_server(client), ready=self.api.is_ready)
        config = self.kubeconfig("admin", {"client-certificate": self._pair.certificate, "client-key": self._pair.key})
        common = (f"--kubeconfig={config}", "--leader-elect=false", f"--bind-address={LOOPBACK}")
        account = pki.service_account_key()
        self.run(
            "kube-controller-manager",
            *common,
            f"--secure-port={self._manager}",
            f"--service-account-private-key-file={account.key}",
            f"--root-ca-file={pki.authority('ca').certificate}",
        )
        self.run("kube-scheduler", *common, f"--secure-port={self._scheduler}")
        stages = self._folder / "stages.yaml"
        # Real pods take their time to end. Where they are gone at once, a group is at times made anew twice.
        stages.write_text(
            _STAGES.read_text().replace(_DELETION, f"  delay: {{durationMilliseconds: 1000}}\n{_DELETION}")
        )
        self.run(
            "kwok",
            f"--kubeconfig={config}",
            f"--config={stages}",
            "--manage-nodes-with-label-selector=type=kwok",
            f"--server-address={LOOPBACK}:{self._kwok}",
            "--cidr=10.245.0.0/16",
            # Without it the nodes are lost, and their pods not ready, after 40 s.
            "--node-lease-duration-seconds=40",
        )

    def stop(self) -> None:
        """Ends everything."""
        self.api.close()
        for daemon in reversed(self._started):
            daemon.stop(timeout=4)

    def run(self, program: str, *arguments: str, ready: Callable[[], bool] | None = None, **env: str) -> None:
        """Starts a program of the toolchain, which `stop` ends."""
        daemon = Daemon(f"test-{program}")
        daemon.stop()
        self._started.append(daemon)
        daemon.start([toolchain.program(program), *arguments], env=env, ready=ready, timeout=60)

    def kubeconfig(self, name: str, user: Mapping[str, Any]) -> Path:
        """A kubeconfig file for a user, who is known by what `user` has."""
        cluster = {"server": self.server, "certificate-authority": str(pki.authority("ca").certificate)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {key: str(value) for key, value in user.items()}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path = self._folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path

    def account_config(self, namespace: str, account: str) -> Path:
        """A kubeconfig file for a service account, with no rights but its own."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return self.kubeconfig(account, {"token": self.api.create(path, request)["status"]["token"]})

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Runs kubectl as the administrator."""
        command = [str(toolchain.program("kubectl")), f"--kubeconfig={self._folder / 'admin.kubeconfig'}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, input=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _api_server(self, etcd: str) -> list[str]:
        serving = pki.issue("test-apiserver", "kube-apiserver", sans=[LOOPBACK], usages=[pki.SERVER])
        account = pki.service_account_key()
        return [
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self._server}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={pki.authority('ca').certificate}",
            "--anonymous-auth=false",
            "--authorization-mode=RBAC",
            f"--etcd-servers={etcd}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={account.certificate}",
            f"--service-account-signing-key-file={account.key}",
        ]


def copy_secret(api: Api, namespace: str, name: str, folder: Path) -> None:
    """Brings a secret's files into a folder, as a kubelet does, once it has any."""
    data: dict[str, str] = {}
    while not data:
        data = api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}").get("data") or {}
        time.sleep(0.1)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in data.items():
        (folder / file).write_bytes(base64.b64decode(content))
