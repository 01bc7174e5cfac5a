"""LeaderWorkerSets: the controller from its chart, with what it may do and who may reach it."""

from typing import Any

import pytest

from llm_serving import LeaderWorkerSets
from llm_serving.leader_worker_sets import LeaderWorkerSetsArgs
from tests.recording import Recording, record

RELEASE = "kubernetes:helm.sh/v3:Release"


def controller(**args: Any) -> Recording:
    return record(lambda: LeaderWorkerSets("l", LeaderWorkerSetsArgs(**args)))


def test_every_resource() -> None:
    assert controller().types() == {
        "llm-serving:index:LeaderWorkerSets": 1,
        "kubernetes:core/v1:Namespace": 1,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy": 1,
        RELEASE: 1,
    }
    assert controller(namespace="groups").outputs["l"]["namespace"] == "groups"


def test_the_release_comes_whole_from_an_oci_registry() -> None:
    release = controller().inputs(RELEASE, "l-lws")
    assert (release["chart"], release["version"]) == ("oci://registry.k8s.io/lws/charts/lws", "0.8.0")
    assert (release["name"], release["namespace"], release["atomic"]) == ("lws", "lws-system", True)
    assert "repositoryOpts" not in release


def test_it_meets_the_namespaces_standard_on_the_system_pool() -> None:
    made = controller()
    labels = made.inputs("kubernetes:core/v1:Namespace", "l-namespace")["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}
    values = made.inputs(RELEASE, "l-lws")["values"]
    assert values["podSecurityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert values["image"]["manager"]["tag"] == "v0.8.0"
    assert values["nodeSelector"] == {"llm-serving/pool": "system"}


def test_a_second_controller_takes_over() -> None:
    counts = [controller(**args).inputs(RELEASE, "l-lws")["values"]["replicaCount"] for args in ({}, {"replicas": 1})]
    assert counts == [2, 1]
    with pytest.raises(ValueError, match="replicas: 3 is outside 1 to 2; nearest valid value: 2"):
        controller(replicas=3)


def test_it_is_asked_by_the_api_server_and_asks_it_only() -> None:
    spec = controller().inputs("kubernetes:networking.k8s.io/v1:NetworkPolicy", "l-traffic")["spec"]
    assert spec["podSelector"] == {}
    assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": 9443}]}]
    assert [rule["ports"][-1]["port"] for rule in spec["egress"]] == [53, 443]
