"""The EKS add-on amazon-cloudwatch-observability: while the emulator has it, a shipper of logs runs on every node.

Of the add-on's parts this is Fluent Bit alone, in its place an image of ours (`local/images/log-shipper`): under the
names that it has there, with the service account that gets the role, and with the settings of the add-on's that are of
use here. Where the add-on is gone, so is its namespace.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import yaml

from llm_serving._log_shipping import ADDON, NAMESPACE, SERVICE_ACCOUNT
from local.addresses import REGION
from local.cluster import images, registry
from local.cluster.api import Api
from local.cluster.base_image import USER_ID
from local.cluster.controller import simulated
from local.cluster.controller.aws import Client
from local.cluster.node_files import SHIPPED
from local.cluster.objects import Json, labels, section
from local.errors import LocalError

NAME = "fluent-bit"
OWNER = {"app.kubernetes.io/managed-by": "eks-addon"}
"""On the namespace: one that somebody else has made stays."""
MISSING_LOOKS = 3
"""An add-on that the emulator does not list so many times running is gone, and not only being loaded."""
_NAMESPACE_PATH = f"/api/v1/namespaces/{NAMESPACE}"
_DAEMON_SET_PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"


@dataclass(frozen=True)
class Addon:
    """The add-on of a cluster, with its configuration values as they were given."""

    cluster: str
    values: str = ""

    def configuration(self) -> Json:
        """The configuration values. Raises LocalError where they are no YAML or JSON object."""
        try:
            parsed: Any = yaml.safe_load(self.values or "{}")
        except yaml.YAMLError:
            parsed = None
        if not isinstance(parsed, dict):
            raise LocalError(f"the configuration values of {ADDON} are no object: {self.values[:80]!r}")
        return cast("Json", parsed)


def image() -> str:
    """The image by digest, so that one that was built anew is rolled out. Raises LocalError where there is none."""
    recipe = images.LOG_SHIPPER
    digest = _repositories(registry.address()).digest(recipe.path, recipe.tag)
    if digest is None:
        raise LocalError(f"image {recipe.name} is not built", "run `make up` again")
    return f"{recipe.path}@{digest}"


@cache
def _repositories(_address: str) -> registry.Repositories:
    return registry.Repositories()


class LogShipping:
    """The reconciler; `step` looks once and brings the cluster closer to what the emulator has."""

    def __init__(self, api: Api, client: Client, endpoint: Callable[[], str], image: Callable[[], str] = image) -> None:
        self._api = api
        self._client = client
        self._endpoint = endpoint
        self._image = image
        self._applied: list[Json] | None = None
        self._missing = 0

    def step(self) -> None:
        """Looks once. Raises what the emulator, the registry or the API server raises."""
        addon = self._addon()
        if addon is None:
            self._missing += 1
            if self._missing >= MISSING_LOOKS:
                self._remove()
            return
        self._missing = 0
        wanted = manifests(addon, image=self._image(), endpoint=self._endpoint())
        if wanted == self._applied:
            return
        for manifest in wanted:
            self._api.apply(manifest)
        if not _has_daemon_set(wanted):
            self._api.delete(_DAEMON_SET_PATH)
        self._applied = wanted

    def _addon(self) -> Addon | None:
        eks = self._client("eks")
        for cluster in eks.list_clusters()["clusters"]:
            if ADDON in eks.list_addons(clusterName=cluster)["addons"]:
                found: Json = eks.describe_addon(clusterName=cluster, addonName=ADDON)["addon"]
                return Addon(cluster, found.get("configurationValues") or "")
        return None

    def _remove(self) -> None:
        self._applied = None
        found = self._api.find(_NAMESPACE_PATH)
        if found and OWNER.items() <= labels(found).items() and not found["metadata"].get("deletionTimestamp"):
            self._api.delete(_NAMESPACE_PATH)


def manifests(addon: Addon, *, image: str, endpoint: str) -> list[Json]:
    """What the add-on is in the cluster. `endpoint` is the emulator's address for pods."""
    found: list[Json] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": OWNER}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": SERVICE_ACCOUNT, "namespace": NAMESPACE},
            "automountServiceAccountToken": False,
        },
    ]
    configuration = addon.configuration()
    if section(configuration, "containerLogs").get("enabled", True):
        # The chart's own default is to tolerate everything.
        tolerations = configuration.get("tolerations", [{"operator": "Exists"}])
        found.append(_daemon_set(addon.cluster, tolerations, image, endpoint))
    return found


def _has_daemon_set(found: list[Json]) -> bool:
    return any(manifest["kind"] == "DaemonSet" for manifest in found)


def _daemon_set(cluster: str, tolerations: list[Json], image: str, endpoint: str) -> Json:
    chosen = {"k8s-app": NAME}
    key, value = simulated.LABEL
    real = {"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": chosen},
        "spec": {
            "selector": {"matchLabels": chosen},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}},
            "template": {
                # A pod is given the emulator's address when it is made, so a new address makes new pods.
                "metadata": {"labels": chosen, "annotations": {"llm-serving/endpoint": endpoint}},
                "spec": {
                    "serviceAccountName": SERVICE_ACCOUNT,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "tolerations": tolerations,
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [real]}
                        }
                    },
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER_ID,
                        "runAsGroup": 0,  # may read the containers' logs, which belong to root
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [_container(cluster, image)],
                    "volumes": [
                        {"name": "logs", "hostPath": {"path": "/var/log", "type": "Directory"}},
                        {"name": "state", "hostPath": {"path": f"/var/log/{SHIPPED}", "type": "Directory"}},
                    ],
                    "terminationGracePeriodSeconds": 10,
                },
            },
        },
    }


def _container(cluster: str, image: str) -> Json:
    return {
        "name": NAME,
        "image": image,
        "env": [
            {"name": "AWS_REGION", "value": REGION},
            {"name": "CLUSTER_NAME", "value": cluster},
            {"name": "HOST_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "logs", "mountPath": "/var/log", "readOnly": True},
            {"name": "state", "mountPath": "/var/fluent-bit/state"},
        ],
    }
