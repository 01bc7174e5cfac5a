"""The add-on that ships logs, from the emulator's record of it to what is in the cluster."""

import json
from typing import Any

import pytest
from log_shipper.__main__ import NEEDED, STATE

from llm_serving import _log_shipping
from local.cluster import images
from local.cluster.controller import pod_identity
from local.cluster.controller.log_shipping import MISSING_LOOKS, OWNER, Addon, LogShipping, manifests
from local.cluster.node_files import SHIPPED
from local.errors import LocalError

IMAGE = "public.ecr.aws/aws-observability/aws-for-fluent-bit@sha256:1"
ENDPOINT = "http://10.89.0.1:4566"
NAMESPACE = "/api/v1/namespaces/amazon-cloudwatch"
DAEMON_SET = "/apis/apps/v1/namespaces/amazon-cloudwatch/daemonsets/fluent-bit"


class FakeEks:
    def __init__(self, values: str | None = None) -> None:
        self.values = values
        """The add-on's; None where there is no add-on."""

    def list_clusters(self) -> dict[str, Any]:
        return {"clusters": ["other", "llm"]}

    def list_addons(self, clusterName: str) -> dict[str, Any]:  # noqa: N803  as boto3
        there = clusterName == "llm" and self.values is not None
        return {"addons": ["vpc-cni", _log_shipping.ADDON] if there else ["vpc-cni"]}

    def describe_addon(self, **asked: str) -> dict[str, Any]:
        assert asked == {"clusterName": "llm", "addonName": _log_shipping.ADDON}
        return {"addon": {"configurationValues": self.values}}


class FakeApi:
    def __init__(self) -> None:
        self.applied: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.namespace: dict[str, Any] | None = None

    def apply(self, manifest: dict[str, Any]) -> None:
        self.applied.append(manifest)

    def delete(self, path: str) -> None:
        self.deleted.append(path)

    def find(self, path: str) -> dict[str, Any] | None:
        assert path == NAMESPACE
        return self.namespace


class Cluster:
    """The reconciler with an emulator and an API server that a test controls."""

    def __init__(self, values: str | None) -> None:
        self.eks = FakeEks(values)
        self.api = FakeApi()
        self.image = IMAGE
        api: Any = self.api
        self.shipping = LogShipping(api, {"eks": self.eks}.__getitem__, lambda: ENDPOINT, lambda: self.image)

    def step(self, times: int = 1) -> list[str]:
        """Looks; returns the kinds that were applied."""
        self.api.applied.clear()
        for _ in range(times):
            self.shipping.step()
        return [manifest["kind"] for manifest in self.api.applied]


def values(**settings: Any) -> str:
    return json.dumps({**json.loads(_log_shipping.configuration(container_insights=False)), **settings})


def test_it_is_applied_once_and_again_where_something_changed() -> None:
    cluster = Cluster(values())
    assert cluster.step(3) == ["Namespace", "ServiceAccount", "DaemonSet"]
    cluster.image = "another"
    assert "DaemonSet" in cluster.step()
    cluster.eks.values = values(tolerations=[])
    assert "DaemonSet" in cluster.step()
    assert cluster.step() == []
    assert cluster.api.deleted == []


def test_without_container_logs_nothing_runs() -> None:
    cluster = Cluster(values())
    cluster.step()
    cluster.eks.values = values(containerLogs={"enabled": False})
    assert cluster.step() == ["Namespace", "ServiceAccount"]
    assert cluster.api.deleted == [DAEMON_SET]


def test_it_goes_with_the_addon_and_not_with_one_look_that_misses_it() -> None:
    cluster = Cluster(values())
    cluster.step()
    cluster.api.namespace = {"metadata": {"name": "amazon-cloudwatch", "labels": OWNER}}
    cluster.eks.values = None
    cluster.step(MISSING_LOOKS - 1)
    assert cluster.api.deleted == []
    cluster.step()
    assert cluster.api.deleted == [NAMESPACE]
    cluster.api.namespace["metadata"]["deletionTimestamp"] = "2026-11-27T02:03:04Z"
    cluster.step()
    assert cluster.api.deleted == [NAMESPACE]
    cluster.api.namespace = None
    cluster.eks.values = values()
    assert cluster.step() == ["Namespace", "ServiceAccount", "DaemonSet"]


def test_what_an_earlier_controller_left_goes_and_what_others_made_stays() -> None:
    cluster = Cluster(None)
    cluster.api.namespace = {"metadata": {"name": "amazon-cloudwatch"}}
    cluster.step(MISSING_LOOKS)
    assert cluster.api.deleted == []
    cluster.api.namespace["metadata"]["labels"] = {**OWNER, "more": "labels"}
    cluster.step()
    assert cluster.api.deleted == [NAMESPACE]


def daemon_set(configuration: str) -> dict[str, Any]:
    _, account, found = manifests(Addon("llm", configuration), image=IMAGE, endpoint=ENDPOINT)
    assert account["metadata"]["name"] == found["spec"]["template"]["spec"]["serviceAccountName"] == "cloudwatch-agent"
    return found


def test_the_tolerations_are_the_configuration_s() -> None:
    only = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    for configuration, expected in (
        (values(), [{"operator": "Exists"}]),
        (values(tolerations=only), only),
        ("tolerations: []", []),
        ("", [{"operator": "Exists"}]),
    ):
        assert daemon_set(configuration)["spec"]["template"]["spec"]["tolerations"] == expected


@pytest.mark.parametrize("configuration", ["[", "- a", "text"])
def test_values_that_are_no_object_are_refused(configuration: str) -> None:
    with pytest.raises(LocalError, match="configuration values of amazon-cloudwatch-observability are no object"):
        daemon_set(configuration)


def test_it_reads_logs_and_can_do_little_else() -> None:
    pod = daemon_set(values())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    assert [paths[name] for name in writable] == [f"/var/log/{SHIPPED}"]
    assert paths["logs"] == "/var/log"


def test_the_image_gets_what_it_needs() -> None:
    """From the DaemonSet and from the Pod Identity webhook; and its folder, and its user."""
    pod = daemon_set(values())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {each["name"] for each in (*container["env"], *pod_identity.variables(ENDPOINT))}
    assert set(NEEDED) <= given
    assert str(STATE.parent) in {mount["mountPath"] for mount in container["volumeMounts"]}
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert f"USER {user}\n" in (images.LOG_SHIPPER.context / "Dockerfile").read_text()
