"""The manifests of charts/inference-service, field by field, and the values that it refuses."""

from pathlib import Path
from typing import Any

import pytest

from llm_serving import _scaling, _values
from llm_serving.runtimes import tgi
from llm_serving.runtimes.launch import ServiceSpec
from tests.charts.rendering import DIGEST, NAMESPACE, ChartError, Objects, documents, lint, render

pytestmark = pytest.mark.local

CHART = "inference-service"
MODEL = "smollm2-135m"
SOURCE = f"s3://bucket/models/{MODEL}/1"
SELECTOR = {"app.kubernetes.io/name": CHART, "app.kubernetes.io/instance": MODEL}
LABELS = {**SELECTOR, "app.kubernetes.io/part-of": "llm-serving", "app.kubernetes.io/managed-by": "Helm"}
SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
RESOURCES = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}


def spec(gpus: int = 1) -> ServiceSpec:
    return ServiceSpec(
        model=MODEL,
        weight_gb=0.27,
        gpus=gpus,
        max_input_tokens=1024,
        max_total_tokens=2048,
        max_concurrent_requests=64,
    )


def values(gpus: int = 1, **changes: Any) -> dict[str, Any]:
    """The values that the component passes, with changes."""
    passed = _values.inference_service(
        spec=spec(gpus),
        launch=tgi.launch(spec(gpus)),
        image=f"registry/tgi@{DIGEST}",
        loader_image=f"registry/model-loader@{DIGEST}",
        weights=SOURCE,
        replicas=2,
        cpu_millicores=250,
        memory_mib=512,
        pool="l4",
    )
    return passed | {"resources": RESOURCES, "startupSeconds": 127, "progressDeadlineSeconds": 1500} | changes


def test_the_addresses_of_the_pods_are_asked_of_a_second_service(tmp_path: Path) -> None:
    objects = documents(tmp_path, CHART, MODEL, values(podsService=True))
    (service,) = [each for each in objects if each["metadata"]["name"] == f"{MODEL}-pods"]
    assert service["kind"] == "Service"
    assert service["spec"] == {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": SELECTOR,
        "ports": [{"name": "http", "port": 8080, "targetPort": "http"}],
    }
    assert len(objects) == len(documents(tmp_path, CHART, MODEL, values())) + 1


def test_prometheus_finds_the_pods_by_one_service(tmp_path: Path) -> None:
    # The selector of a model's ServiceMonitor; the pods of a second Service that it takes would be counted twice.
    services = [
        each for each in documents(tmp_path, CHART, MODEL, values(podsService=True)) if each["kind"] == "Service"
    ]
    found = [each["metadata"]["name"] for each in services if SELECTOR.items() <= each["metadata"]["labels"].items()]
    assert len(services) == 2
    assert found == [MODEL]


def test_a_version_has_its_own_name_and_its_models_folder(tmp_path: Path) -> None:
    loader = {**values()["loader"], "folder": MODEL}
    objects = render(tmp_path, CHART, f"{MODEL}-canary", values(loader=loader))
    assert objects["Service"]["metadata"]["name"] == f"{MODEL}-canary"
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["initContainers"]
    assert container["args"][1] == f"/models/{MODEL}"


@pytest.mark.parametrize("copies", [True, False])
def test_adapters_have_folders_of_their_own_wherever_the_weights_are(tmp_path: Path, copies: bool) -> None:
    adapter = {"name": "legal", "source": "s3://weights/models/legal/7"}
    objects = render(
        tmp_path, CHART, MODEL, values(loader={**values()["loader"], "copies": copies, "adapters": [adapter]})
    )
    pod = pod_of(objects)
    loader, extra = pod["initContainers"]
    models = {"name": "models", "mountPath": "/models"}
    assert loader["args"] == [SOURCE, *([f"/models/{MODEL}"] if copies else []), "--wait-seconds=600"]
    assert (models in loader["volumeMounts"]) is copies
    assert extra == {
        **loader,
        "name": "adapter-loader-legal",
        "args": [adapter["source"], "/models/legal", "--wait-seconds=600"],
        "volumeMounts": [models, {"name": "tmp", "mountPath": "/tmp"}],
    }
    (runtime,) = pod["containers"]
    assert {**models, "readOnly": True} in runtime["volumeMounts"]
    assert [volume["name"] for volume in pod["volumes"]].count("models") == 1


def scaled(**changes: Any) -> dict[str, Any]:
    """The values of an autoscaled model, with changes to the numbers."""
    passed = values()
    del passed["replicas"]
    autoscaling = _scaling.chart_values(
        _scaling.checked(min_replicas=2, max_replicas=5),
        namespace=NAMESPACE,
        model=MODEL,
        runtime="tgi",
        prometheus_url="http://prometheus:9090",
    )
    return {**passed, "autoscaling": autoscaling | changes}


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return render(tmp_path, CHART, MODEL, values(modelVolumeMib=400))


def pod_of(objects: Objects) -> dict[str, Any]:
    return objects["Deployment"]["spec"]["template"]["spec"]


def test_the_chart_is_clean(tmp_path: Path) -> None:
    lint(tmp_path, CHART, values())


def test_the_objects(objects: Objects) -> None:
    assert set(objects) == {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    for item in objects.values():
        assert item["metadata"]["name"] == MODEL
        assert item["metadata"]["namespace"] == NAMESPACE
        assert item["metadata"]["labels"] == LABELS
    assert objects["Service"]["spec"] == {
        "type": "ClusterIP",
        "selector": SELECTOR,
        "ports": [{"name": "http", "port": 8080, "targetPort": "http"}],
    }
    assert objects["PodDisruptionBudget"]["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": SELECTOR},
    }


def test_who_reaches_the_pods_and_whom_they_reach(objects: Objects) -> None:
    callers = [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "llm-gateway"}}},
        {"podSelector": {"matchLabels": {"llm-serving/client": "true"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    ]
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    assert objects["NetworkPolicy"]["spec"] == {
        "podSelector": {"matchLabels": SELECTOR},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": callers, "ports": [{"protocol": "TCP", "port": 8080}]}],
        "egress": [
            {"to": [dns], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": [{"protocol": "TCP", "port": 80}]},
            {"ports": [{"protocol": "TCP", "port": 443}]},
        ],
    }


def test_the_deployment(objects: Objects) -> None:
    deployment = objects["Deployment"]
    # Pulumi waits for the whole rollout: two pods, one after the other.
    assert deployment["metadata"]["annotations"] == {
        "pulumi.com/timeoutSeconds": "3000",
        "pulumi.com/patchForce": "true",
    }
    pod = deployment["spec"].pop("template")
    assert deployment["spec"] == {
        "replicas": 2,
        "progressDeadlineSeconds": 1500,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "selector": {"matchLabels": SELECTOR},
    }
    assert pod["metadata"] == {"labels": LABELS}
    del pod["spec"]["containers"], pod["spec"]["initContainers"]
    assert pod["spec"] == {
        "serviceAccountName": MODEL,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 120,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "models", "emptyDir": {"sizeLimit": "400Mi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
        "topologySpreadConstraints": [
            {
                "topologyKey": "kubernetes.io/hostname",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": SELECTOR},
                "matchLabelKeys": ["pod-template-hash"],
            }
        ],
        "nodeSelector": {"llm-serving/pool": "l4"},
        "tolerations": [TOLERATION],
    }


def test_the_loader(objects: Objects) -> None:
    assert pod_of(objects)["initContainers"] == [
        {
            "name": "model-loader",
            "image": f"registry/model-loader@{DIGEST}",
            "imagePullPolicy": "IfNotPresent",
            "args": [SOURCE, f"/models/{MODEL}", "--wait-seconds=600"],
            "resources": RESOURCES,
            "securityContext": SECURITY,
            "volumeMounts": [{"name": "models", "mountPath": "/models"}, {"name": "tmp", "mountPath": "/tmp"}],
        }
    ]


def test_the_runtime(objects: Objects) -> None:
    health = {"path": "/health", "port": "http"}
    assert pod_of(objects)["containers"] == [
        {
            "name": "runtime",
            "image": f"registry/tgi@{DIGEST}",
            "imagePullPolicy": "IfNotPresent",
            "args": tgi.launch(spec()).args,
            "env": [
                {"name": "HF_HOME", "value": "/tmp/huggingface"},
                {"name": "HF_HUB_OFFLINE", "value": "1"},
                {"name": "HOME", "value": "/tmp"},
            ],
            "ports": [{"name": "http", "containerPort": 8080}],
            "startupProbe": {"httpGet": health, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 64},
            "readinessProbe": {"httpGet": health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
            "livenessProbe": {"httpGet": health, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "resources": {
                "requests": {**RESOURCES["requests"], "ephemeral-storage": "1424Mi"},
                "limits": {**RESOURCES["limits"], "nvidia.com/gpu": "1"},
            },
            "securityContext": SECURITY,
            "volumeMounts": [
                {"name": "models", "mountPath": "/models", "readOnly": True},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }
    ]


@pytest.mark.parametrize(("mib", "text"), [(1536, "1536Mi"), (819_200, "800Gi"), (1_048_576, "1Ti")])
def test_a_volumes_size_is_as_kubernetes_writes_it(tmp_path: Path, mib: int, text: str) -> None:
    pod = pod_of(render(tmp_path, CHART, MODEL, values(modelVolumeMib=mib)))
    assert {"name": "models", "emptyDir": {"sizeLimit": text}} in pod["volumes"]


def test_more_than_one_gpu_gets_shared_memory(tmp_path: Path) -> None:
    pod = pod_of(render(tmp_path, CHART, MODEL, values(gpus=4)))
    assert pod["volumes"][-1] == {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}
    runtime = pod["containers"][0]
    assert runtime["volumeMounts"][-1] == {"name": "shared-memory", "mountPath": "/dev/shm"}
    assert runtime["resources"]["limits"]["nvidia.com/gpu"] == "4"


def test_one_replica_has_no_disruption_budget(tmp_path: Path) -> None:
    assert "PodDisruptionBudget" not in render(tmp_path, CHART, MODEL, values(replicas=1))


def test_an_autoscaled_model(tmp_path: Path) -> None:
    lint(tmp_path, CHART, scaled())
    rendered = render(tmp_path, CHART, MODEL, scaled())
    found = rendered["ScaledObject"]
    assert (found["metadata"]["name"], found["metadata"]["labels"]) == (MODEL, LABELS)
    queue, cache = found["spec"].pop("triggers")
    assert found["spec"] == {
        "scaleTargetRef": {"name": MODEL},
        "minReplicaCount": 2,
        "maxReplicaCount": 5,
        "fallback": {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"},
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "name": MODEL,
                "behavior": {
                    "scaleUp": {
                        "stabilizationWindowSeconds": 30,
                        "selectPolicy": "Max",
                        "policies": [
                            {"type": "Percent", "value": 100, "periodSeconds": 60},
                            {"type": "Pods", "value": 1, "periodSeconds": 60},
                        ],
                    },
                    "scaleDown": {
                        "stabilizationWindowSeconds": 300,
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                    },
                },
            }
        },
    }
    at = f'{{namespace="{NAMESPACE}",model="{MODEL}"}}'
    assert queue == {
        "type": "prometheus",
        "name": "queue",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": "http://prometheus:9090",
            "query": f"sum(tgi_queue_size{at}) or sum(0 * (up{at} == 1))",
            "threshold": "8",
            "ignoreNullValues": "false",
        },
    }
    assert (cache["name"], cache["metricType"], cache["metadata"]["threshold"]) == ("kv-cache", "Value", "0.8")


def test_the_autoscaler_has_the_number_of_pods_to_itself(tmp_path: Path) -> None:
    deployment = render(tmp_path, CHART, MODEL, scaled())["Deployment"]
    assert "replicas" not in deployment["spec"]
    # Each of the five pods that there may be takes as long as a rollout may go without progress.
    before = values()["progressDeadlineSeconds"]
    assert deployment["metadata"]["annotations"] == {"pulumi.com/timeoutSeconds": str(5 * before)}


def test_a_budget_where_there_are_always_two_pods(tmp_path: Path) -> None:
    assert "PodDisruptionBudget" in render(tmp_path, CHART, MODEL, scaled())
    assert "PodDisruptionBudget" not in render(tmp_path, CHART, MODEL, scaled(minReplicas=1))
    assert "PodDisruptionBudget" not in render(tmp_path, CHART, MODEL, scaled(minReplicas=0))


def test_the_last_pod_goes_and_the_first_comes_soon(tmp_path: Path) -> None:
    triggers = [{"name": "a", "query": "b", "threshold": "1", "activationThreshold": "2", "metricType": "Value"}]
    spec = render(tmp_path, CHART, MODEL, scaled(minReplicas=0, triggers=triggers))["ScaledObject"]["spec"]
    assert (spec["minReplicaCount"], spec["pollingInterval"], spec["cooldownPeriod"]) == (0, 5, 300)
    assert spec["fallback"]["replicas"] == 0
    assert spec["triggers"][0]["metadata"]["activationThreshold"] == "2"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"minReplicas": -1}, "minReplicas"),
        ({"minReplicas": 6}, "minReplicas must not be above"),
        ({"prometheusUrl": "prometheus"}, "prometheusUrl"),
        ({"triggers": []}, "triggers"),
        ({"cooldownSeconds": 5}, "cooldownSeconds"),
    ],
)
def test_autoscaling_that_is_wrong_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ChartError, match=problem):
        render(tmp_path, CHART, MODEL, scaled(**changes))


def test_half_an_autoscaler_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="maxReplicas"):
        render(tmp_path, CHART, MODEL, values(autoscaling={"minReplicas": 1}))


def test_no_gpu_is_asked_for_where_none_is_needed(tmp_path: Path) -> None:
    runtime = pod_of(render(tmp_path, CHART, MODEL, values(gpus=0, tolerations=[])))["containers"][0]
    assert "nvidia.com/gpu" not in runtime["resources"]["limits"]


def test_the_strategy_is_configured(tmp_path: Path) -> None:
    rollout = {"maxSurge": 1, "maxUnavailable": 0}
    rendered = render(tmp_path, CHART, MODEL, values(rollout=rollout))
    assert rendered["Deployment"]["spec"]["strategy"]["rollingUpdate"] == rollout


def test_without_a_bound_the_weights_volume_has_none(tmp_path: Path) -> None:
    pod = pod_of(render(tmp_path, CHART, MODEL, values(modelVolumeMib=0)))
    assert pod["volumes"][0] == {"name": "models", "emptyDir": {}}
    assert pod["containers"][0]["resources"]["requests"]["ephemeral-storage"] == "1Gi"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image": "registry/tgi:3.3.7"}, "image"),
        ({"loader": {"image": "x:1", "source": SOURCE, "timeoutSeconds": 1}}, "loader/image|loader.image"),
        ({"loader": {"image": f"x@{DIGEST}", "source": "/models/m", "timeoutSeconds": 1}}, "source"),
        ({"hfToken": "secret"}, "hfToken"),
        ({"gpus": 2, "sharedMemoryMib": 0}, "sharedMemoryMib"),
        ({"rollout": {"maxSurge": 0, "maxUnavailable": 0}}, "rollout"),
        ({"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "nvidia.com/gpu"),
        ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds must be more than preStopSeconds"),
    ],
)
def test_values_that_are_wrong_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ChartError, match=problem):
        render(tmp_path, CHART, MODEL, values(**changes))
