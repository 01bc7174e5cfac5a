"""The hundred services of the bench: as the component makes them, and just as many nodes as their pods need."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from llm_serving import taints
from local import bench_services, many_services
from local.cluster.controller import quantities
from local.cluster.objects import Json
from local.paths import ROOT

CHARTS = "import json; from local import many_services; print(json.dumps(many_services.charts()))"


@pytest.fixture(scope="module")
def charts() -> list[Json]:
    """In a process of its own: it takes Pulumi's runtime of the process."""
    done = subprocess.run([sys.executable, "-c", CHARTS], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_each_service_has_the_values_of_the_component(charts: list[Json]) -> None:
    assert len({chart["name"] for chart in charts}) == many_services.SERVICES == 100
    first = next(chart for chart in charts if chart["name"] == "model-0")
    assert first["chart"].endswith("/charts/inference-service")
    assert first["values"]["loader"]["source"] == "s3://weights/models/model-0/1"
    assert first["values"]["nodeSelector"] == {taints.POOL_LABEL: "l4"}


def test_every_node_is_needed(charts: list[Json]) -> None:
    nodes = many_services.nodes("v1.2.3")
    assert len(nodes) == len({node["metadata"]["name"] for node in nodes}) == 200
    held = Counter[str]()
    for node in nodes:
        held[node["metadata"]["labels"][taints.POOL_LABEL]] += int(node["status"]["capacity"]["nvidia.com/gpu"])
    wanted = Counter[str]()
    for chart in charts:
        values = chart["values"]
        wanted[values["nodeSelector"][taints.POOL_LABEL]] += values["gpus"] * values["replicas"]
    assert wanted == held == {"l4": 50, "a10g": 50, "l40s": 200, "h100": 400}


def test_a_pod_fits_its_node(charts: list[Json]) -> None:
    capacity = {
        node["metadata"]["labels"][taints.POOL_LABEL]: node["status"]["capacity"] for node in many_services.nodes("v1")
    }
    for chart in charts:
        values = chart["values"]
        node = capacity[values["nodeSelector"][taints.POOL_LABEL]]
        asked = values["resources"]["requests"]
        assert quantities.parse(asked["cpu"]) <= quantities.parse(node["cpu"])
        assert quantities.parse(asked["memory"]) <= quantities.parse(node["memory"])


def test_the_spread_counts_empty_zones_too() -> None:
    nodes = many_services.nodes("v1")[:3]
    pods = [{"spec": {"nodeName": nodes[number]["metadata"]["name"]}} for number in (0, 0, 1)]
    assert many_services.spread(pods, nodes) == {"us-east-1a": 2, "us-east-1b": 1, "us-east-1c": 0}


def test_the_page_has_the_limits() -> None:
    side = {"seconds": 7.5, "each_seconds": [7.0, 7.5, 8.0], "processor_seconds": 6.1}
    results: dict[str, Any] = {
        "measured": "2026-11-26",
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 8, "linux": "6.1"},
        "load": 1.5,
        "kubernetes": "v1.2.3",
        "services": 100,
        "objects": 500,
        "helm": side,
        "preview": side,
        "preview_without_charts": side,
        "nodes": 200,
        "pods": 200,
        "applied_seconds": 6.0,
        "placed_seconds": 25.0,
        "ready_seconds": 27.0,
        "nodes_used": 200,
        "zones": {"a": 100, "b": 100},
    }
    page = bench_services.page(results)
    assert "| 100 charts rendered by `helm template` | 7.5 s (7.0, 7.5, 8.0); of the processor 6.1 s | 10 s |" in page
    assert "200 pods placed on 200 nodes, from the first object on | 25.0 s, 8.0 pods/s | 120 s |" in page
    assert "| pods by zone | 100 in a, 100 in b |  |" in page
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 120


def test_a_new_node_is_not_usable_before_its_taint_is_gone() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    gpu = {"key": taints.GPU_TAINT_KEY, "effect": "NoSchedule"}
    new = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert bench_services.usable({"spec": {"taints": [gpu]}, "status": ready})
    assert not bench_services.usable({"spec": {"taints": [gpu, new]}, "status": ready})
    assert not bench_services.usable({"spec": {"taints": [gpu]}, "status": {}})
