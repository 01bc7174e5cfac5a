"""GpuAgents: which pools get a device plugin, and the namespace that admits both agents."""

from typing import Any

import pytest

from llm_serving import GpuAgents
from llm_serving.gpu_agents import GpuAgentsArgs
from tests.recording import Recording, record

CHART = "kubernetes:helm.sh/v4:Chart"
EXPORTER = "registry.example/dcgm-exporter@sha256:1"
PLUGIN = "registry.example/k8s-device-plugin@sha256:2"


def agents(**args: Any) -> Recording:
    given: dict[str, Any] = {"dcgm_exporter_image": EXPORTER, **args}
    return record(lambda: GpuAgents("gpu", GpuAgentsArgs(**given)))


def test_every_resource() -> None:
    assert agents().types() == {
        "llm-serving:index:GpuAgents": 1,
        "kubernetes:core/v1:Namespace": 1,
        CHART: 1,
    }


def test_the_namespace_admits_pods_that_reach_into_the_kubelet() -> None:
    assert agents().inputs("kubernetes:core/v1:Namespace", "gpu-namespace")["metadata"] == {
        "name": "gpu-agents",
        "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
    }


def test_node_images_with_a_plugin_get_no_second_one() -> None:
    values = agents(device_plugin_image=PLUGIN).inputs(CHART, "gpu")["values"]
    assert values["devicePlugin"] == {"image": "", "pools": []}


def test_the_plugin_goes_to_the_pools_without_one() -> None:
    made = agents(device_plugin_image=PLUGIN, device_plugin_pools=["l4"]).inputs(CHART, "gpu")["values"]
    assert made["devicePlugin"] == {"image": PLUGIN, "pools": ["l4"]}
    assert made["dcgmExporter"]["image"] == EXPORTER
    assert made["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}
    ]


def test_pools_without_a_plugin_need_its_image() -> None:
    with pytest.raises(ValueError, match=r"^device_plugin_image: is missing, and the nodes of l4, h100 have no device"):
        agents(device_plugin_pools=["l4", "h100"])
