"""The LeaderWorkerSet of charts/inference-service: groups of pods, of which the first answers requests.

What the API server and the controller make of it: `tests/local/test_leader_worker_sets.py`.
"""

from pathlib import Path
from typing import Any

import pytest

from llm_serving import _values
from llm_serving.runtimes import vllm
from llm_serving.runtimes.launch import ServiceSpec
from tests.charts.rendering import DIGEST, ChartError, Objects, documents, lint, render
from tests.charts.test_inference_service_chart import CHART, LABELS, MODEL, SELECTOR, SOURCE

pytestmark = pytest.mark.local

KIND = "LeaderWorkerSet"
LEADER = "app.kubernetes.io/component"


def values(weights: str | None = None, **changes: Any) -> dict[str, Any]:
    """The values that the component passes for a model over two nodes of eight GPUs, with changes."""
    spec = ServiceSpec(
        model=MODEL,
        weight_gb=812,
        gpus=8,
        nodes=2,
        max_input_tokens=1024,
        max_total_tokens=2048,
        max_concurrent_requests=64,
        weights=weights,
    )
    passed = _values.inference_service(
        spec=spec,
        launch=vllm.launch(spec),
        image=f"registry/vllm@{DIGEST}",
        loader_image=f"registry/model-loader@{DIGEST}",
        weights=SOURCE,
        replicas=3,
        cpu_millicores=96_000,
        memory_mib=65_536,
        pool="h100",
    )
    return passed | changes


def rendered(folder: Path, **changes: Any) -> Objects:
    return render(folder, CHART, MODEL, values(**changes))


def pods(objects: Objects) -> tuple[dict[str, Any], dict[str, Any]]:
    group = objects[KIND]["spec"]["leaderWorkerTemplate"]
    return group["leaderTemplate"], group["workerTemplate"]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return only


def test_it_takes_the_deployments_place(tmp_path: Path) -> None:
    lint(tmp_path, CHART, values())
    objects = rendered(tmp_path)
    assert "Deployment" not in objects
    group = objects[KIND]
    assert group["apiVersion"] == "leaderworkerset.x-k8s.io/v1"
    # The Service that the controller makes has the group's name, and must not be the one that is asked.
    assert group["metadata"]["name"] == f"{MODEL}-group" != objects["Service"]["metadata"]["name"]
    assert group["metadata"]["annotations"]["pulumi.com/waitFor"] == "condition=Available"
    assert group["spec"]["replicas"] == 3
    assert group["spec"]["rolloutStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": {"maxSurge": 0, "maxUnavailable": 1},
    }
    template = group["spec"]["leaderWorkerTemplate"]
    assert (template["size"], template["restartPolicy"]) == (2, "RecreateGroupOnPodRestart")


def test_only_the_leader_answers_and_is_probed(tmp_path: Path) -> None:
    objects = rendered(tmp_path)
    leader, worker = pods(objects)
    assert leader["metadata"]["labels"] == {**LABELS, LEADER: "leader"}
    assert worker["metadata"]["labels"] == {**LABELS, LEADER: "worker"}
    assert objects["Service"]["spec"]["selector"] == {**SELECTOR, LEADER: "leader"}
    probes = {"ports", "startupProbe", "readinessProbe", "livenessProbe"}
    assert probes <= container(leader).keys()
    assert not probes & container(worker).keys()
    assert container(worker)["args"] == [*container(leader)["args"], "--headless"]
    assert "--node-rank $(LWS_WORKER_INDEX)" in " ".join(container(leader)["args"])


def test_the_pods_are_alike_but_for_that(tmp_path: Path) -> None:
    leader, worker = pods(rendered(tmp_path))
    differing = {"ports", "startupProbe", "readinessProbe", "livenessProbe", "args", "lifecycle"}
    kept = [{key: value for key, value in container(pod).items() if key not in differing} for pod in (leader, worker)]
    assert kept[0] == kept[1]
    assert {**leader["spec"], "containers": []} == {**worker["spec"], "containers": []}
    assert container(worker)["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container(worker)["volumeMounts"]
    assert container(worker)["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize("weights", ["copy", "stream"])
def test_each_pod_gets_the_weights(tmp_path: Path, weights: str) -> None:
    for pod in pods(rendered(tmp_path, weights=weights)):
        (loader,) = pod["spec"]["initContainers"]
        assert loader["args"][0] == SOURCE
        assert (f"/models/{MODEL}" in loader["args"]) is (weights == "copy")
        urls = [each["value"] for each in container(pod)["env"] if each["name"] == "WEIGHTS_URL"]
        assert urls == ([] if weights == "copy" else [SOURCE])


def test_a_worker_outlasts_the_requests_of_its_leader(tmp_path: Path) -> None:
    leader, worker = pods(rendered(tmp_path))
    assert container(leader)["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    # A command, and no sleep of the kubelet's: it ends where the worker's own process does.
    assert container(worker)["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "115"]}}}
    assert 5 + 90 < 115 < worker["spec"]["terminationGracePeriodSeconds"]


def test_the_pods_of_a_group_are_on_nodes_of_their_own(tmp_path: Path) -> None:
    for pod in pods(rendered(tmp_path)):
        assert "topologySpreadConstraints" not in pod["spec"]
        (term,) = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term == {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": SELECTOR},
            "matchLabelKeys": ["leaderworkerset.sigs.k8s.io/group-index"],
        }


def test_the_pods_reach_each_other(tmp_path: Path) -> None:
    spec = rendered(tmp_path)["NetworkPolicy"]["spec"]
    own = [{"podSelector": {"matchLabels": SELECTOR}}]
    assert spec["podSelector"] == own[0]["podSelector"]
    assert {"from": own} in spec["ingress"]
    assert {"to": own} in spec["egress"]
    alone = rendered(tmp_path, nodes=1)["NetworkPolicy"]["spec"]
    assert {"from": own} not in alone["ingress"]
    assert {"to": own} not in alone["egress"]


def test_one_pod_at_a_time_is_evicted_of_all_groups(tmp_path: Path) -> None:
    budget = rendered(tmp_path)["PodDisruptionBudget"]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, {"matchLabels": SELECTOR})


def test_the_gateway_is_told_of_leaders_only(tmp_path: Path) -> None:
    services = [
        each for each in documents(tmp_path, CHART, MODEL, values(podsService=True)) if each["kind"] == "Service"
    ]
    assert [each["spec"]["selector"] for each in services] == [{**SELECTOR, LEADER: "leader"}] * 2


def test_what_is_refused(tmp_path: Path) -> None:
    for nodes in (0, 17):
        with pytest.raises(ChartError, match="nodes"):
            rendered(tmp_path, nodes=nodes)
    scaling = {
        "minReplicas": 1,
        "maxReplicas": 2,
        "scaleUpStabilizationSeconds": 0,
        "scaleDownStabilizationSeconds": 0,
        "prometheusUrl": "http://prometheus",
        "triggers": [{"name": "queue", "query": "x", "threshold": "1", "metricType": "Value"}],
    }
    with pytest.raises(ChartError, match="fixed number of replicas"):
        rendered(tmp_path, autoscaling=scaling)
