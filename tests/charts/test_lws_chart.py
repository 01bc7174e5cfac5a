"""The chart of LeaderWorkerSets' own project, which the component installs, and what the local cluster has instead."""

from typing import Any

import pytest

from llm_serving import leader_worker_sets
from local.cluster import addons
from local.cluster.objects import Json, name, sequence
from local.toolchain import custom_resources
from tests.charts.rendering import documents

pytestmark = pytest.mark.local

Right = tuple[str, str, str]


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """The chart's objects with the component's values. It is in the controller's Go module too."""
    folder = custom_resources.download(custom_resources.LWS) / "charts" / "lws"
    return documents(tmp_path_factory.mktemp("lws"), str(folder), "lws", leader_worker_sets.chart_values(2))


@pytest.fixture(scope="module")
def local() -> list[Json]:
    """What the local cluster has of it."""
    return [each for each in addons.manifests() if name(each).startswith("lws-")]


def one(objects: list[Json], kind: str) -> Json:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def test_it_takes_the_components_values(chart: list[Json]) -> None:
    deployment = one(chart, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == f"registry.k8s.io/lws/lws:v{leader_worker_sets.VERSION}"
    # What the namespace's standard, restricted, asks of a pod.
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": "256Mi"}
    assert pod["nodeSelector"] == {"llm-serving/pool": "system"}
    assert leader_worker_sets.WEBHOOK_PORT in [port["containerPort"] for port in container["ports"]]
    assert one(chart, "Service")["spec"]["ports"][0]["targetPort"] == leader_worker_sets.WEBHOOK_PORT


def webhooks(objects: list[Json]) -> dict[str, Json]:
    """The webhooks by name, wherever their Service is."""
    found = {webhook["name"]: webhook for each in objects for webhook in sequence(each, "webhooks")}
    return {
        name: {**webhook, "clientConfig": webhook["clientConfig"]["service"]["path"]} for name, webhook in found.items()
    }


def test_the_local_cluster_has_the_charts_webhooks(chart: list[Json], local: list[Json]) -> None:
    assert webhooks(local) == webhooks(chart)
    assert len(webhooks(local)) == 4


def rights(objects: list[Json]) -> set[Right]:
    """Every group, resource and verb of the roles."""
    rules: list[dict[str, Any]] = [rule for each in objects for rule in sequence(each, "rules")]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for verb in rule["verbs"]
    }


def test_the_local_controller_may_do_less(chart: list[Json], local: list[Json]) -> None:
    assert rights(local) < rights(chart)
    everywhere = rights([each for each in local if each["kind"] == "ClusterRole"])
    assert not {right for right in everywhere if right[1] in ("secrets", "nodes")}
