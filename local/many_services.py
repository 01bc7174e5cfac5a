"""A hundred model services and the two hundred GPU nodes that they fill: what the bench of a large cluster renders.

Each pool has fifty nodes and twenty-five services of two pods that take all GPUs of a node: every node is needed, and
none is left over.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.runtime import mocks

from llm_serving import InferenceService, taints
from llm_serving.inference_service import InferenceServiceArgs
from local.addresses import REGION
from local.cluster.controller import groups, simulated
from local.cluster.controller.groups import NodeGroup
from local.cluster.objects import Json

SERVICES = 100
REPLICAS = 2
NAMESPACE = "llm-serving"
CHART = "kubernetes:helm.sh/v4:Chart"
ZONES = tuple(f"{REGION}{letter}" for letter in "abc")
_DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Pool:
    """A node group and the services in it: half of the pools run each runtime."""

    name: str
    instance_type: str
    runtime: str


POOLS = (
    Pool("l4", "g6.2xlarge", "tgi"),
    Pool("a10g", "g5.2xlarge", "vllm"),
    Pool("l40s", "g6e.12xlarge", "vllm"),
    Pool("h100", "p5.48xlarge", "tgi"),
)


class _Charts(mocks.Mocks):
    """Stands for the engine, and keeps the inputs of each chart."""

    def __init__(self) -> None:
        self.inputs: list[Json] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        given: Any = args
        if given.typ != CHART:
            return given.name, {**given.inputs, "arn": f"arn:aws:iam::000000000000:role/{given.name}"}
        self.inputs.append(dict(given.inputs))
        return given.name, {**given.inputs, "resources": []}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        raise NotImplementedError(args.token)  # a model service calls no function


def charts(services: int = SERVICES) -> list[Json]:
    """The inputs of each service's chart, as the component `InferenceService` hands them to the Kubernetes provider.

    A process may call it once: it takes Pulumi's runtime of the process.
    """
    engine = _Charts()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(engine, project="bench", stack="bench")
    runtime: Any = pulumi.runtime

    def program() -> None:
        for number in range(services):
            InferenceService(f"model-{number}", arguments(number))

    runtime.test(program)()
    return sorted(engine.inputs, key=lambda chart: chart["name"])


def arguments(number: int) -> InferenceServiceArgs:
    """The arguments of one of the services; they take turns over the pools."""
    pool = POOLS[number % len(POOLS)]
    return {
        "cluster_name": "bench",
        "namespace": NAMESPACE,
        "model": f"model-{number}",
        "revision": "1",
        "weight_gb": 15.2,
        "bucket_name": "weights",
        "bucket_arn": "arn:aws:s3:::weights",
        "bucket_key_arn": f"arn:aws:kms:{REGION}:000000000000:key/1",
        "image": f"registry.example/{pool.runtime}@{_DIGEST}",
        "loader_image": f"registry.example/model-loader@{_DIGEST}",
        "pool": pool.name,
        "runtime": pool.runtime,
        "replicas": REPLICAS,
        "gpus": group(pool).instance.gpus,
        "max_input_tokens": 4096,
        "max_total_tokens": 8192,
        "max_concurrent_requests": 32,
    }


def group(pool: Pool) -> NodeGroup:
    """The node group of a pool, with a node for each of its services' pods."""
    size = SERVICES * REPLICAS // len(POOLS)
    described: Json = {
        "clusterName": "bench",
        "nodegroupName": pool.name,
        "instanceTypes": [pool.instance_type],
        "scalingConfig": {"desiredSize": size, "minSize": size, "maxSize": size},
        "labels": {taints.POOL_LABEL: pool.name},
        "taints": [taints.gpu_node_group_taint()],
    }
    return groups.from_description(described, ZONES, disk_gb=200)


def nodes(version: str) -> list[Json]:
    """The node objects of every pool, spread over the zones; `version` is Kubernetes', as a kubelet says it."""
    made: list[Json] = []
    for each in map(group, POOLS):
        for number in range(each.desired):
            made.append(simulated.manifest(each, len(made), each.zone(number), version))
    return made


def spread(pods: Sequence[Json], nodes: Sequence[Json]) -> dict[str, int]:
    """How many pods are in each zone."""
    zones: Mapping[str, str] = {
        node["metadata"]["name"]: node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes
    }
    found = dict.fromkeys(sorted(set(zones.values())), 0)
    for pod in pods:
        found[zones[pod["spec"]["nodeName"]]] += 1
    return found
