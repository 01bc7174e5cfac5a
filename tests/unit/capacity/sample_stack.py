"""A stack with which nothing is wrong, for tests to break one thing of."""

from dataclasses import replace
from typing import Any

from llm_serving.capacity import catalog
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.stack import Cache, Pool, Service, Stack

SYSTEM = Pool("system", ("m7i.large",), 2, 2, 4, "AL2023_x86_64_STANDARD", 50, gpu=False)
GPU = Pool("l4", ("g6.2xlarge",), 2, 2, 4, "AL2023_x86_64_NVIDIA", 150, gpu=True, release_version="1.36.2-20260714")
SERVICE = Service(
    name="chat",
    model=catalog.model("Llama-3.1-8B"),
    model_reference="Llama-3.1-8B",
    runtime="tgi",
    pool="l4",
    replicas=2,
    gpus=1,
    weight_gb=16.1,
    max_input_tokens=4096,
    max_total_tokens=5500,
    max_concurrent_requests=128,
    timeout_seconds=300,
    cpu_millicores=4000,
    memory_mib=16384,
    model_named=True,
)
CACHE = Cache("valkey", "8.2", "cache.r7g.large", 1)
STACK = Stack(
    name="test",
    region="us-east-1",
    zones=("us-east-1a", "us-east-1b"),
    kubernetes_version="1.36",
    system_pool=SYSTEM,
    gpu_pools={"l4": GPU},
    services={"chat": SERVICE},
    cache=CACHE,
    response_transfer_mode="STREAM",
    api_timeout_seconds=None,
    gateway_replicas=2,
    installs_device_plugin=True,
)


def with_service(**values: Any) -> Stack:
    """Return the stack with something else about its model."""
    return replace(STACK, services={"chat": replace(SERVICE, **values)})


def with_pool(**values: Any) -> Stack:
    """Return the stack with something else about its GPU pool."""
    return replace(STACK, gpu_pools={"l4": replace(GPU, **values)})


def with_cache(**values: Any) -> Stack:
    """Return the stack with something else about its cache."""
    return replace(STACK, cache=replace(CACHE, **values))


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    """Return code, severity and setting of each finding."""
    return [(finding.code, finding.severity, finding.setting) for finding in findings]
