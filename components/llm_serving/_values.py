"""The Helm values of our charts, as typed functions: a chart's values are untyped, and a typo in one is silent."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from llm_serving import _quantities, taints
from llm_serving.observability import metrics
from llm_serving.runtimes.embedder import EmbedderSpec
from llm_serving.runtimes.launch import Launch, ServiceSpec, transfer_seconds, volume_mib

PULL_SECONDS = 900
"""For pulling a runtime image of 25 GB onto a new node, and for the node itself to come."""
WEIGHTS_SECONDS = 600
"""For a revision that is still being pushed to the bucket when its pods come up."""
SHARED_MEMORY_MIB_PER_GPU = 1024
"""What NCCL needs in /dev/shm for each GPU where GPUs have no direct link."""


def llm_gateway(
    *,
    image: pulumi.Input[str],
    replicas: int,
    cpu_millicores: int,
    memory_mib: int,
    models: Mapping[str, Mapping[str, Any]],
    cache_enabled: bool,
    cache_ttl_seconds: int,
    cache_secret_name: str,
    cache_semantic: Mapping[str, Any] | None = None,
    target_group_arn: pulumi.Input[str],
    node_pool: str,
    limits: Mapping[str, int] | None = None,
    jwt: Mapping[str, Any] | None = None,
    cors_origins: Sequence[str] = (),
    traces: Mapping[str, Any] | None = None,
    network_cidrs: pulumi.Input[Sequence[str]] = (),
    cache_port: int = 6379,
) -> dict[str, Any]:
    """Return the values of charts/llm-gateway."""
    return {
        "image": image,
        "replicas": replicas,
        "resources": _quantities.resources(cpu_millicores, memory_mib),
        "models": {model: dict(route) for model, route in models.items()},
        "cache": {
            "enabled": cache_enabled,
            "ttlSeconds": cache_ttl_seconds,
            "secretName": cache_secret_name,
            "port": cache_port,
            **({"semantic": dict(cache_semantic)} if cache_semantic else {}),
        },
        **({"limits": dict(limits)} if limits else {}),
        **({"jwt": dict(jwt)} if jwt else {}),
        **({"corsOrigins": list(cors_origins)} if cors_origins else {}),
        **({"traces": dict(traces)} if traces else {}),
        "targetGroupARN": target_group_arn,
        "networkCidrs": network_cidrs,
        "nodeSelector": {taints.POOL_LABEL: node_pool},
    }


def inference_service(
    *,
    spec: ServiceSpec,
    launch: Launch,
    image: pulumi.Input[str],
    loader_image: pulumi.Input[str],
    weights: pulumi.Input[str],
    adapters: Mapping[str, pulumi.Input[str]] | None = None,
    replicas: int,
    cpu_millicores: int,
    memory_mib: int,
    pool: str,
    release: str | None = None,
    autoscaling: pulumi.Input[Mapping[str, Any]] | None = None,
    pods_service: bool = False,
) -> dict[str, Any]:
    """Return the values of charts/inference-service: with `replicas`, or with what decides their number.

    A `release` not named like its model says which it is. `adapters` are the addresses of the spec's adapters by name:
    they are copied also where the model's weights are not.
    """
    copies = not launch.streams_weights
    copied_gb = spec.adapters_gb + (spec.weight_gb if copies else 0)
    fetch_seconds = WEIGHTS_SECONDS + transfer_seconds(copied_gb)
    shared_mib = SHARED_MEMORY_MIB_PER_GPU * spec.gpus if spec.gpus > 1 else 0
    return {
        "image": image,
        "loader": {
            "image": loader_image,
            "source": weights,
            "copies": copies,
            "timeoutSeconds": WEIGHTS_SECONDS,
            **({} if release in (None, spec.model) else {"folder": spec.model}),
            **({"adapters": [{"name": name, "source": at} for name, at in adapters.items()]} if adapters else {}),
        },
        **({"replicas": replicas} if autoscaling is None else {"autoscaling": autoscaling}),
        **({"podsService": True} if pods_service else {}),
        **_launched(launch),
        "progressDeadlineSeconds": PULL_SECONDS + fetch_seconds + launch.startup_seconds,
        **({"nodes": spec.nodes, "workerArgs": launch.worker_args} if spec.nodes > 1 else {}),
        "gpus": spec.gpus,
        "sharedMemoryMib": shared_mib,
        "modelVolumeMib": volume_mib(copied_gb) if copied_gb else 0,
        "cacheVolumeMib": launch.cache_mib,
        # What is written to /dev/shm counts as the container's memory.
        "resources": _quantities.resources(cpu_millicores, memory_mib + shared_mib),
        "nodeSelector": {taints.POOL_LABEL: pool},
        "tolerations": [taints.gpu_toleration()],
    }


def embedding_service(
    *,
    spec: EmbedderSpec,
    launch: Launch,
    image: pulumi.Input[str],
    replicas: int,
    memory_mib: int,
    pool: str,
) -> dict[str, Any]:
    """Return the values of charts/inference-service for a service whose weights are in its image."""
    return {
        "image": image,
        "loader": {"copies": False},
        "replicas": replicas,
        **_launched(launch),
        "progressDeadlineSeconds": PULL_SECONDS + launch.startup_seconds,
        # CPUs are not so scarce that an old pod must go before there is a new one.
        **({} if spec.gpu else {"rollout": {"maxSurge": 1, "maxUnavailable": 0}}),
        "gpus": int(spec.gpu),
        "resources": _quantities.resources(spec.cpu_millicores, memory_mib),
        "nodeSelector": {taints.POOL_LABEL: pool},
        "tolerations": [taints.gpu_toleration()] if spec.gpu else [],
    }


def gpu_agents(
    *,
    dcgm_exporter_image: pulumi.Input[str],
    device_plugin_image: pulumi.Input[str],
    device_plugin_pools: Sequence[str],
    scrape_interval_seconds: int,
) -> dict[str, Any]:
    """Return the values of charts/gpu-agents."""
    return {
        "devicePlugin": {"image": device_plugin_image, "pools": list(device_plugin_pools)},
        "dcgmExporter": {
            "image": dcgm_exporter_image,
            "counters": [
                {"name": metric.name, "type": metric.kind.value, "help": metric.name} for metric in metrics.GPU
            ],
            "scrapeIntervalSeconds": scrape_interval_seconds,
        },
        "poolLabel": taints.POOL_LABEL,
        "gpuLabel": taints.GPU_PRESENT_LABEL,
        "tolerations": [taints.gpu_toleration()],
    }


def _launched(launch: Launch) -> dict[str, Any]:
    return {
        "args": launch.args,
        "env": launch.env,
        "files": launch.files,
        "healthPath": launch.health_path,
        "startupSeconds": launch.startup_seconds,
        "preStopSeconds": launch.pre_stop_seconds,
        "terminationGracePeriodSeconds": launch.grace_seconds,
        "cacheVolumeMib": launch.cache_mib,
    }
