"""The manifests of charts/gpu-agents, and the values that it refuses."""

from pathlib import Path
from typing import Any

import pytest

from llm_serving import _values, taints
from llm_serving.observability import metrics
from tests.charts.rendering import DIGEST, ChartError, documents, lint, render

pytestmark = pytest.mark.local

CHART = "gpu-agents"
EXPORTER = f"registry/dcgm-exporter@{DIGEST}"
PLUGIN = f"registry/k8s-device-plugin@{DIGEST}"


def values(**changes: Any) -> dict[str, Any]:
    """The values that the component passes, with changes."""
    passed: dict[str, Any] = {
        "dcgm_exporter_image": EXPORTER,
        "device_plugin_image": PLUGIN,
        "device_plugin_pools": ["l4", "h100"],
        "scrape_interval_seconds": 15,
    }
    return _values.gpu_agents(**passed | changes)


def daemon_set(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    found = documents(folder, CHART, CHART, values(**changes))
    return next(item for item in found if item["kind"] == "DaemonSet" and item["metadata"]["name"] == name)


def test_the_chart_is_clean(tmp_path: Path) -> None:
    lint(tmp_path, CHART, values())


def test_the_objects(tmp_path: Path) -> None:
    found = [(item["kind"], item["metadata"]["name"]) for item in documents(tmp_path, CHART, CHART, values())]
    assert sorted(found) == [
        ("ConfigMap", "dcgm-exporter"),
        ("DaemonSet", "dcgm-exporter"),
        ("DaemonSet", "nvidia-device-plugin"),
        ("Service", "dcgm-exporter"),
        ("ServiceMonitor", "dcgm-exporter"),
    ]


def test_the_plugin_runs_on_its_pools_only(tmp_path: Path) -> None:
    pod = daemon_set(tmp_path, "nvidia-device-plugin")["spec"]["template"]["spec"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [{"key": taints.POOL_LABEL, "operator": "In", "values": ["l4", "h100"]}]}]
    assert pod["tolerations"] == [taints.gpu_toleration()]
    assert pod["containers"][0]["image"] == PLUGIN


def test_without_pools_there_is_no_plugin(tmp_path: Path) -> None:
    kinds = render(tmp_path, CHART, CHART, values(device_plugin_image="", device_plugin_pools=[]))
    assert set(kinds) == {"ConfigMap", "DaemonSet", "Service", "ServiceMonitor"}


def test_the_exporter_runs_on_every_gpu_node_and_collects_what_the_queries_use(tmp_path: Path) -> None:
    pod = daemon_set(tmp_path, "dcgm-exporter")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {taints.GPU_PRESENT_LABEL: "true"}
    assert pod["tolerations"] == [taints.gpu_toleration()]
    found = documents(tmp_path, CHART, CHART, values())
    counters = next(item for item in found if item["kind"] == "ConfigMap")["data"]["counters.csv"].splitlines()
    assert [line.split(",")[0] for line in counters] == [metric.name for metric in metrics.GPU]


def test_a_new_list_of_counters_starts_the_exporter_again(tmp_path: Path) -> None:
    before = daemon_set(tmp_path, "dcgm-exporter")["spec"]["template"]["metadata"]["annotations"]
    changed = values()
    changed["dcgmExporter"]["counters"] = changed["dcgmExporter"]["counters"][:1]
    found = documents(tmp_path, CHART, CHART, changed)
    after = next(item for item in found if item["metadata"]["name"] == "dcgm-exporter" and item["kind"] == "DaemonSet")
    assert before != after["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("devicePlugin", {"image": "registry/k8s-device-plugin:latest", "pools": ["l4"]}),
        ("devicePlugin", {"image": PLUGIN, "pools": []}),
        ("dcgmExporter", {"image": EXPORTER, "counters": [], "scrapeIntervalSeconds": 15}),
    ],
)
def test_refused(tmp_path: Path, section: str, change: dict[str, Any]) -> None:
    with pytest.raises(ChartError, match=section):
        render(tmp_path, CHART, CHART, values() | {section: change})
