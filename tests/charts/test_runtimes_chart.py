"""The manifests of charts/inference-service for vLLM and TensorRT-LLM, where they differ from those for TGI."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from llm_serving import _values
from llm_serving.runtimes import RUNTIMES
from llm_serving.runtimes.launch import ServiceSpec
from tests.charts.rendering import DIGEST, NAMESPACE, ChartError, Objects, lint, render
from tests.charts.test_inference_service_chart import CHART, LABELS, MODEL, RESOURCES, SECURITY, SOURCE, pod_of

pytestmark = pytest.mark.local


def values(runtime: str, **fields: Any) -> dict[str, Any]:
    """The values that the component passes for a runtime."""
    given: dict[str, Any] = {
        "model": MODEL,
        "weight_gb": 15.3,
        "gpus": 1,
        "max_input_tokens": 1024,
        "max_total_tokens": 2048,
        "max_concurrent_requests": 64,
        **fields,
    }
    spec = ServiceSpec(**given)
    return _values.inference_service(
        spec=spec,
        launch=RUNTIMES[runtime].launch(spec),
        image=f"registry/{runtime}@{DIGEST}",
        loader_image=f"registry/model-loader@{DIGEST}",
        weights=SOURCE,
        replicas=2,
        cpu_millicores=250,
        memory_mib=512,
        pool="l4",
    )


def environment(objects: Objects) -> dict[str, str]:
    return {each["name"]: each["value"] for each in pod_of(objects)["containers"][0]["env"]}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_chart_is_clean(tmp_path: Path, runtime: str) -> None:
    lint(tmp_path, CHART, values(runtime))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_holds_for_every_runtime(tmp_path: Path, runtime: str) -> None:
    objects = render(tmp_path, CHART, MODEL, values(runtime, gpus=2))
    pod = pod_of(objects)
    (container,) = pod["containers"]
    assert pod["enableServiceLinks"] is False, "a Service named vllm would set VLLM_PORT, which vLLM reads"
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == SECURITY
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8080}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    budget = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    assert budget >= values(runtime, gpus=2)["startupSeconds"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    # Every folder that is written to is a volume, and every volume is counted as ephemeral storage.
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    homes = {environment(objects)[name] for name in ("HOME", "HF_HOME")}
    assert all(any(home == folder or home.startswith(f"{folder}/") for folder in writable) for home in homes)
    limits = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume]
    disk = sum(mib(limit) for limit in limits) - mib("2Gi")
    assert mib(container["resources"]["requests"]["ephemeral-storage"]) == disk


def mib(quantity: str) -> int:
    return int(quantity[:-2]) * (1024 if quantity.endswith("Gi") else 1)


def test_vllm_reads_the_weights_and_the_loader_waits_for_them(tmp_path: Path) -> None:
    objects = render(tmp_path, CHART, MODEL, values("vllm"))
    pod = pod_of(objects)
    assert set(objects) == {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    (loader,) = pod["initContainers"]
    assert loader["args"] == [SOURCE, "--wait-seconds=600"]
    assert loader["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    (container,) = pod["containers"]
    # Kubernetes puts a variable of the container into its arguments.
    assert container["args"][0] == "$(WEIGHTS_URL)"
    assert environment(objects)["WEIGHTS_URL"] == SOURCE
    assert container["volumeMounts"] == [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "cache", "mountPath": "/cache"},
    ]
    assert pod["volumes"] == [
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "cache", "emptyDir": {"sizeLimit": "4Gi"}},
    ]
    assert container["resources"]["requests"]["ephemeral-storage"] == "5Gi"
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    # Its own credentials: the service account is the one that the role is for.
    assert pod["serviceAccountName"] == MODEL
    assert {"ports": [{"protocol": "TCP", "port": 443}]} in objects["NetworkPolicy"]["spec"]["egress"]


def test_vllm_with_a_copy_of_the_weights(tmp_path: Path) -> None:
    objects = render(tmp_path, CHART, MODEL, values("vllm", weights="copy"))
    pod = pod_of(objects)
    assert pod["initContainers"][0]["args"] == [SOURCE, f"/models/{MODEL}", "--wait-seconds=600"]
    assert "WEIGHTS_URL" not in environment(objects)
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    assert [volume["name"] for volume in pod["volumes"]] == ["models", "tmp", "cache"]


def test_tensorrt_llm_has_its_configuration_as_a_file(tmp_path: Path) -> None:
    given = values("tensorrt-llm", kv_cache_dtype="fp8")
    objects = render(tmp_path, CHART, MODEL, given)
    pod = pod_of(objects)
    assert objects["ConfigMap"]["metadata"] == {"name": MODEL, "namespace": NAMESPACE, "labels": LABELS}
    assert {name: json.loads(text) for name, text in objects["ConfigMap"]["data"].items()} == {
        "trtllm.yaml": {
            "return_perf_metrics": True,
            "kv_cache_config": {"free_gpu_memory_fraction": 0.9, "dtype": "fp8"},
        }
    }
    assert {"name": "files", "configMap": {"name": MODEL}} in pod["volumes"]
    container = pod["containers"][0]
    assert {"name": "files", "mountPath": "/etc/runtime", "readOnly": True} in container["volumeMounts"]
    assert container["args"][-2:] == ["--config", "/etc/runtime/trtllm.yaml"]
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 90}}}
    assert pod["terminationGracePeriodSeconds"] == 120
    annotations = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"checksum/files": digest(given["files"])}


def digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, separators=(",", ":")).encode()).hexdigest()


def test_other_files_are_other_pods(tmp_path: Path) -> None:
    def checksum(**fields: Any) -> str:
        objects = render(tmp_path, CHART, MODEL, values("tensorrt-llm", **fields))
        return objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/files"]

    assert checksum() == checksum(max_total_tokens=4096)
    assert checksum() != checksum(gpu_memory_utilization=0.8)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"files": {"../x": ""}}, "propertyName"),
        ({"files": {"x": 1}}, "files"),
        ({"loader": {"copies": "no"}}, "copies"),
        ({"preStopSeconds": 120}, "terminationGracePeriodSeconds must be more than preStopSeconds"),
        ({"resources": RESOURCES, "cacheVolumeMib": -1}, "cacheVolumeMib"),
    ],
)
def test_values_that_are_wrong_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ChartError, match=problem):
        render(tmp_path, CHART, MODEL, values("tensorrt-llm") | changes)
