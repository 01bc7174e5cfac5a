"""Node autoscaling: the cluster autoscaler from its chart, with what it may do and who may reach it."""

import json
from typing import Any

import pytest

from llm_serving import NodeAutoscaling
from llm_serving.node_autoscaling import NodeAutoscalingArgs
from tests.recording import Recording, record

RELEASE = "kubernetes:helm.sh/v3:Release"


def autoscaling(**args: Any) -> Recording:
    return record(lambda: NodeAutoscaling("n", NodeAutoscalingArgs(cluster_name="llm", **args)))


def values(**args: Any) -> dict[str, Any]:
    return autoscaling(**args).inputs(RELEASE, "n-cluster-autoscaler")["values"]


def test_every_resource() -> None:
    assert autoscaling().types() == {
        "llm-serving:index:NodeAutoscaling": 1,
        "kubernetes:core/v1:Namespace": 1,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy": 1,
        "aws:iam/role:Role": 1,
        "aws:iam/rolePolicy:RolePolicy": 1,
        "aws:eks/podIdentityAssociation:PodIdentityAssociation": 1,
        RELEASE: 1,
    }
    assert autoscaling(namespace="scaling").outputs["n"]["namespace"] == "scaling"


def test_the_release_is_pinned_and_whole_or_not_there() -> None:
    release = autoscaling().inputs(RELEASE, "n-cluster-autoscaler")
    assert (release["chart"], release["version"], release["atomic"]) == ("cluster-autoscaler", "9.59.0", True)
    assert release["repositoryOpts"] == {"repo": "https://kubernetes.github.io/autoscaler"}
    assert release["values"]["image"] == {"tag": "v1.36.1"}


def test_it_finds_the_groups_of_its_cluster_only() -> None:
    found = values()
    assert (found["cloudProvider"], found["awsRegion"]) == ("aws", "us-east-1")
    assert found["autoDiscovery"] == {"clusterName": "llm"}


def test_nodes_with_caches_may_go_and_the_only_pod_of_a_model_stays() -> None:
    arguments = values()["extraArgs"]
    assert arguments["skip-nodes-with-local-storage"] == "false"
    assert arguments["min-replica-count"] == 2
    assert (arguments["expander"], arguments["scale-down-unneeded-time"]) == ("least-waste", "10m")


def test_its_pods_run_as_the_restricted_profile_asks_on_the_system_pool() -> None:
    found = values()
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["containerSecurityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found["resources"]["limits"]["memory"] == "1Gi"
    assert found["nodeSelector"] == {"llm-serving/pool": "system"}


def test_its_role_is_that_of_the_account_that_the_chart_makes() -> None:
    made = autoscaling(namespace="scaling")
    association = made.inputs("aws:eks/podIdentityAssociation:PodIdentityAssociation", "n-identity")
    account = values()["rbac"]["serviceAccount"]["name"]
    assert (association["namespace"], association["serviceAccount"]) == ("scaling", account)
    assert association["clusterName"] == "llm"


def test_it_resizes_what_eks_has_tagged_as_this_clusters() -> None:
    policy = json.loads(autoscaling().inputs("aws:iam/rolePolicy:RolePolicy", "n-resize")["policy"])
    find, resize, read = policy["Statement"]
    assert all(action.partition(":")[2].startswith("Describe") for action in find["Action"])
    assert resize["Action"] == ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    assert resize["Resource"].endswith(":autoScalingGroup:*:autoScalingGroupName/eks-*")
    assert resize["Condition"] == {"StringEquals": {"aws:ResourceTag/k8s.io/cluster-autoscaler/llm": "owned"}}
    assert (read["Action"], read["Resource"].partition(":nodegroup/")[2]) == ("eks:DescribeNodegroup", "llm/*/*")


def test_a_number_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="replicas: 3 is outside 1 to 2; nearest valid value: 2"):
        autoscaling(replicas=3)


def test_prometheus_reaches_it_and_it_reaches_nothing_in_the_cluster() -> None:
    made = autoscaling(monitoring_namespace="watch")
    spec = made.inputs("kubernetes:networking.k8s.io/v1:NetworkPolicy", "n-traffic")["spec"]
    watch = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "watch"}}}
    assert spec["podSelector"] == {}
    assert spec["ingress"] == [{"from": [watch], "ports": [{"protocol": "TCP", "port": 8085}]}]
    assert [rule for rule in spec["egress"] if "to" not in rule] == [{"ports": [{"protocol": "TCP", "port": 443}]}]
