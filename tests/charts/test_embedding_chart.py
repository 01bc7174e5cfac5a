"""The manifests of charts/inference-service for a service whose weights are in its image: the embedder."""

from pathlib import Path
from typing import Any

import pytest
from embedder import __version__, config

from llm_serving import _values
from llm_serving.runtimes import embedder
from llm_serving.runtimes.embedder import EmbedderSpec
from tests.charts.rendering import DIGEST, ChartError, Objects, render

pytestmark = pytest.mark.local

CHART = "inference-service"
MODEL = "minilm"


def values(*, gpu: bool = False, replicas: int = 2, **changes: Any) -> dict[str, Any]:
    """The values that the component passes, with changes."""
    spec = EmbedderSpec(MODEL, gpu=gpu, cpu_millicores=500)
    passed = _values.embedding_service(
        spec=spec,
        launch=embedder.launch(spec),
        image=f"registry/embedder@{DIGEST}",
        replicas=replicas,
        memory_mib=512,
        pool="l4" if gpu else "system",
    )
    return passed | changes


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return render(tmp_path, CHART, MODEL, values())


def pod(objects: Objects) -> dict[str, Any]:
    return objects["Deployment"]["spec"]["template"]["spec"]


def test_nothing_is_loaded(objects: Objects) -> None:
    found = pod(objects)
    assert "initContainers" not in found
    assert [volume["name"] for volume in found["volumes"]] == ["tmp"]
    (container,) = found["containers"]
    assert container["args"] == ["--port", "8080"]
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    names = {each["name"] for each in container["env"]}
    assert "WEIGHTS_URL" not in names
    assert container["resources"] == {
        "requests": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
        "limits": {"memory": "512Mi"},
    }


def test_what_the_container_is_told_is_what_the_embedder_reads(objects: Objects) -> None:
    (container,) = pod(objects)["containers"]
    settings = config.load({each["name"]: each["value"] for each in container["env"]})
    assert (settings.model_name, settings.threads, settings.truncate) == (MODEL, 1, False)
    assert settings.drain_deadline_seconds == settings.request_timeout_seconds == 60
    assert pod(objects)["terminationGracePeriodSeconds"] > 60 + 5
    assert __version__ == embedder.VERSION


def test_probes_ask_for_readiness(objects: Objects) -> None:
    (container,) = pod(objects)["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health/ready", "port": "http"}


def test_it_runs_as_nobody_with_a_read_only_root(objects: Objects) -> None:
    found = pod(objects)
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] == 10001
    assert found["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_it_can_connect_to_nothing(objects: Objects) -> None:
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "llm-gateway"}}},
        {"podSelector": {"matchLabels": {"llm-serving/client": "true"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    ]


def test_a_new_pod_is_ready_before_an_old_one_goes(objects: Objects) -> None:
    assert objects["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "tolerations" not in pod(objects)
    assert pod(objects)["nodeSelector"] == {"llm-serving/pool": "system"}


def test_on_a_gpu(tmp_path: Path) -> None:
    made = render(tmp_path, CHART, MODEL, values(gpu=True))
    (container,) = pod(made)["containers"]
    assert container["resources"]["limits"] == {"memory": "512Mi", "nvidia.com/gpu": "1"}
    assert made["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_one_replica_has_no_budget(tmp_path: Path) -> None:
    assert "PodDisruptionBudget" not in render(tmp_path, CHART, MODEL, values(replicas=1))


@pytest.mark.parametrize(
    "loader",
    [
        {"copies": True},  # of nothing
        {"copies": False, "source": "s3://bucket/models/minilm/1"},  # that nothing fetches
        {"copies": False, "image": "registry/model-loader:latest"},
        {"copies": False, "image": f"registry/model-loader@{DIGEST}"},  # with nothing to wait for
    ],
)
def test_half_a_loader_is_refused(tmp_path: Path, loader: dict[str, Any]) -> None:
    with pytest.raises(ChartError):
        render(tmp_path, CHART, MODEL, values(loader=loader))
