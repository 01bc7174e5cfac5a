"""EmbeddingService: exact chart values on CPUs and on a GPU, and nothing in AWS."""

from typing import Any

import pytest

from llm_serving import EmbeddingService
from llm_serving.embedding_service import EmbeddingServiceArgs
from llm_serving.runtimes import embedder
from llm_serving.runtimes.embedder import EmbedderSpec
from tests.recording import Recording, record

CHART = "kubernetes:helm.sh/v4:Chart"
GPU = {"device": "gpu", "pool": "l4"}


def service(**args: Any) -> Recording:
    given: dict[str, Any] = {
        "namespace": "llm-serving",
        "model": "minilm",
        "image": "registry.example/embedder@sha256:1",
        **args,
    }
    return record(lambda: EmbeddingService("e", EmbeddingServiceArgs(**given)))


def test_every_resource() -> None:
    assert service().types() == {"llm-serving:index:EmbeddingService": 1, CHART: 1}


def test_chart_values() -> None:
    chart = service(replicas=3, cpu_millicores=1500, memory_mib=768, timeout_seconds=20).one(CHART, "e")
    assert chart.inputs["name"] == "minilm"
    assert chart.inputs["chart"].endswith("/charts/inference-service")
    assert chart.inputs["values"] == {
        "image": "registry.example/embedder@sha256:1",
        "loader": {"copies": False},
        "replicas": 3,
        "args": ["--port", "8080"],
        "env": {
            "EMBEDDER_MODEL_NAME": "minilm",
            "EMBEDDER_REQUEST_TIMEOUT_SECONDS": "20",
            "EMBEDDER_DRAIN_DEADLINE_SECONDS": "20",
            "EMBEDDER_TRUNCATE": "false",
            # A thread for each core that is begun.
            "EMBEDDER_THREADS": "2",
        },
        "files": {},
        "healthPath": "/health/ready",
        "startupSeconds": 120,
        "preStopSeconds": 5,
        # The pause, the longest request, and 10 s for the end.
        "terminationGracePeriodSeconds": 35,
        "progressDeadlineSeconds": 900 + 120,
        "rollout": {"maxSurge": 1, "maxUnavailable": 0},
        "gpus": 0,
        "cacheVolumeMib": 0,
        "resources": {"requests": {"cpu": "1500m", "memory": "768Mi"}, "limits": {"memory": "768Mi"}},
        "nodeSelector": {"llm-serving/pool": "system"},
        "tolerations": [],
    }


def test_a_gpu_is_asked_for_in_its_pool() -> None:
    values = service(**GPU, truncate=True).inputs(CHART, "e")["values"]
    assert values["gpus"] == 1
    assert values["nodeSelector"] == {"llm-serving/pool": "l4"}
    assert values["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}
    ]
    assert values["resources"]["limits"] == {"memory": "4Gi"}
    # GPUs are scarce: the chart's own rollout, and CUDA needs no threads.
    assert "rollout" not in values
    assert "EMBEDDER_THREADS" not in values["env"]
    assert values["env"]["EMBEDDER_TRUNCATE"] == "true"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"device": "cuda"}, "device: 'cuda' is not one of cpu, gpu; nearest valid value: "),
        ({"device": "gpu"}, "pool: the system pool has no GPUs"),
        ({"memory_mib": 256}, "memory_mib: 256 MiB is outside 512 to 1048576; nearest valid value: 512"),
        ({"replicas": 0}, "replicas: 0 is outside 1 to 1000"),
        ({"timeout_seconds": 901}, "timeout_seconds: 901 s is outside 1 to 900"),
    ],
)
def test_what_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        service(**args)


@pytest.mark.parametrize(("millicores", "threads"), [(50, "1"), (1000, "1"), (1001, "2"), (8000, "8")])
def test_as_many_threads_as_cores_are_begun(millicores: int, threads: str) -> None:
    launch = embedder.launch(EmbedderSpec("minilm", cpu_millicores=millicores))
    assert launch.env["EMBEDDER_THREADS"] == threads


def test_the_address_is_that_of_the_chart_s_service() -> None:
    assert service().outputs["e"] == {"url": "http://minilm.llm-serving.svc.cluster.local:8080"}
