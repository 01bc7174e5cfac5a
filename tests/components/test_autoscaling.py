"""Autoscaling: KEDA from its chart, with what it may do and who may reach it."""

from typing import Any

import pytest

from llm_serving import Autoscaling
from llm_serving.autoscaling import AutoscalingArgs
from tests.recording import Recording, record

RELEASE = "kubernetes:helm.sh/v3:Release"


def autoscaling(**args: Any) -> Recording:
    return record(lambda: Autoscaling("a", AutoscalingArgs(**args)))


def test_every_resource() -> None:
    assert autoscaling().types() == {
        "llm-serving:index:Autoscaling": 1,
        "kubernetes:core/v1:Namespace": 1,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy": 1,
        RELEASE: 1,
    }
    assert autoscaling(namespace="scaling").outputs["a"]["namespace"] == "scaling"


def test_the_release_is_whole_or_not_there() -> None:
    release = autoscaling().inputs(RELEASE, "a-keda")
    assert (release["chart"], release["version"], release["atomic"]) == ("keda", "2.20.2", True)
    assert release["repositoryOpts"] == {"repo": "https://kedacore.github.io/charts"}
    assert release["namespace"] == "keda"


def test_it_may_scale_deployments_and_reads_no_secret_of_others() -> None:
    values = autoscaling().inputs(RELEASE, "a-keda")["values"]
    assert values["rbac"] == {"enabledCustomScaledRefKinds": False}
    assert values["permissions"] == {
        "operator": {"restrict": {"secret": True}},
        "metricServer": {"restrict": {"secret": True}},
    }
    assert values["nodeSelector"] == {"llm-serving/pool": "system"}


def test_a_second_operator_takes_over_and_one_has_no_budget() -> None:
    two, one = (autoscaling(**args).inputs(RELEASE, "a-keda")["values"] for args in ({}, {"replicas": 1}))
    assert (two["operator"], one["operator"]) == ({"replicaCount": 2}, {"replicaCount": 1})
    assert two["podDisruptionBudget"]["metricServer"] == {"maxUnavailable": 1}
    assert one["podDisruptionBudget"] == {}
    with pytest.raises(ValueError, match="replicas: 3 is outside 1 to 2; nearest valid value: 2"):
        autoscaling(replicas=3)


def test_its_pods_reach_prometheus_and_the_api_server_only() -> None:
    made = autoscaling(monitoring_namespace="watch")
    spec = made.inputs("kubernetes:networking.k8s.io/v1:NetworkPolicy", "a-traffic")["spec"]
    watch = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "watch"}}}
    assert spec["podSelector"] == {}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert {"to": [watch], "ports": [{"protocol": "TCP", "port": 9090}]} in spec["egress"]
    assert [rule for rule in spec["egress"] if "to" not in rule] == [{"ports": [{"protocol": "TCP", "port": 443}]}]
    assert [port["port"] for rule in spec["ingress"] if "from" not in rule for port in rule["ports"]] == [6443, 9443]
