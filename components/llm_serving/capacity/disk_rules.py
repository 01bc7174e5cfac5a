"""Whether a node's disk and a pod's start-up budget are enough for images and weights.

What the chart does is taken as it is: weights go into a volume of `launch.volume_mib`, which counts as the pod's
ephemeral storage, unless the runtime reads them from the bucket itself; a pod may take its runtime's time to start.
"""

import math
from collections.abc import Iterator

from llm_serving.capacity import catalog, cluster_rules, embedding_rules, nodes, weights
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.stack import Pool, Service, Stack
from llm_serving.runtimes import launch

DISK = Check("DISK_TOO_SMALL", "error", "A node's disk doesn't hold the weights of its pods.", ("F9",))
DISK_IMAGES = Check(
    "DISK_IMAGES", "warning", "A node's disk may not hold old and new images beside its weights in an update.", ("F9",)
)
WEIGHT_SIZE = Check(
    "WEIGHT_SIZE", "error", "The stated size of a model's files is not that of its weights.", ("F9", "F19")
)
STARTUP = Check("STARTUP_BUDGET", "error", "A pod is started again before its weights can be loaded.", ("F19",))
MODEL_UNKNOWN = Check(
    "MODEL_UNKNOWN", "error", "A model is not known, so neither its memory nor its splits are checked.", ("F3",)
)
CHECKS = (DISK, DISK_IMAGES, WEIGHT_SIZE, STARTUP, MODEL_UNKNOWN)

GB = 10**9
MIB = 1024 * 1024
TMP_MIB = 1024
"""The chart's volume for /tmp, which counts as ephemeral storage too."""
USABLE_SHARE = 0.9
"""Of a disk: the kubelet evicts pods when less than a tenth is free (nodefs.available, its default)."""
RESERVED_GB = 1.1
"""Of the disk, for the kubelet itself (1 GiB, awslabs/amazon-eks-ami nodeadm)."""
SYSTEM_GB = 10
"""Assumed for the operating system, its journal, container logs and the images of the node's own pods."""
UNKNOWN_IMAGE_GB = 25
"""Of a runtime that the catalog lacks: what the largest images of GPU runtimes reach (vllm#17163)."""
TOLERANCE = 0.10
FILES_GB = 0.1
"""Assumed for what is in a model's folder besides weights: tokenizer, configuration."""
AT_START = ("bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-fp4", "eetq", "fp8")
"""Quantizations that TGI and vLLM make of an unquantized checkpoint when they load it."""


def check(stack: Stack) -> Iterator[Finding]:
    """Yield which disks and budgets are too small, and which sizes contradict the model."""
    for service in stack.services.values():
        yield from _model(service)
        yield from _weights(service)
    for pool in stack.gpu_pools.values():
        services = [service for service in stack.services.values() if service.pool == pool.name]
        embedder = any(service.pool == pool.name for service in stack.embeddings.values())
        yield from _disk(pool, services, embedding_rules.RELEASE.image_gb if embedder else 0)


def _model(service: Service) -> Iterator[Finding]:
    if service.model is not None:
        return
    yield Finding(
        MODEL_UNKNOWN.code,
        "error" if service.model_named else "unchecked",
        f"{service.setting}.model",
        f"{service.model_problem or 'nothing is known of this model'}; what fits is not checked"
        if service.model_named
        else f"names no model, and {service.model_reference!r} is none of the catalog: what fits is not checked;"
        " nearest valid value: a name of the catalog, or the path of the model's config.json",
    )


def checkpoint_bytes(service: Service) -> tuple[int, ...]:
    """Return what the model's files may weigh, in bytes: two sizes where the runtime may quantize at its start."""
    if service.model is None:
        return ()
    stored = service.model.checkpoint_bytes or weights.weight_bytes(service.model)
    if service.quantization is None or service.model.quantization is not None:
        return (stored,)
    quantized = weights.weight_bytes(service.model, quantization=service.quantization)
    return (quantized, stored) if service.quantization in AT_START else (quantized,)


def _weights(service: Service) -> Iterator[Finding]:
    sizes = checkpoint_bytes(service)
    if not sizes:
        return
    stated = service.weight_gb * GB
    nearest = min(sizes, key=lambda size: abs(size - stated))
    if abs(nearest - stated) > TOLERANCE * nearest + FILES_GB * GB:
        right = f"{nearest / GB:.1f}"
        overflows = not service.streams_weights and nearest > launch.volume_mib(service.weight_gb) * MIB
        what = "is less than" if nearest > stated else "is more than"
        effect = (
            f"the volume of {launch.volume_mib(service.weight_gb)} MiB that follows from it doesn't hold them"
            if overflows
            else f"{'' if service.streams_weights else 'disk and '}start-up budgets follow from it"
        )
        yield Finding(
            WEIGHT_SIZE.code,
            "error" if overflows else "warning",
            f"{service.setting}.weightGb",
            f"{service.weight_gb:g} GB {what} the {right} GB of {_named(service)}, and {effect};"
            f" nearest valid value: {right}",
            (right,),
        )
    budget = service.startup_seconds or launch.startup_seconds(service.weight_gb)
    seconds = math.ceil(min(sizes) / launch.DISK_BYTES_PER_SECOND)
    if seconds > budget:
        yield Finding(
            STARTUP.code,
            STARTUP.severity,
            f"{service.setting}.weightGb",
            f"{service.weight_gb:g} GB gives a pod {budget} s to start, and reading the {min(sizes) / GB:.1f} GB of"
            f" {_named(service)} takes {seconds} s at {launch.DISK_BYTES_PER_SECOND // 10**6} MB/s;"
            f" nearest valid value: {min(sizes) / GB:.1f}",
            (f"{min(sizes) / GB:.1f}",),
        )


def _named(service: Service) -> str:
    name = service.model.name if service.model else service.model_reference
    return f"{name} as {service.quantization}" if service.quantization else name


def _disk(pool: Pool, services: list[Service], embedder_gb: float) -> Iterator[Finding]:
    known = cluster_rules.instances(pool)
    if not (services or embedder_gb) or not known:
        return
    node = nodes.allocatable(max(known, key=lambda instance: instance.gpus))
    volumes_gb = _volumes_gb(node, services)
    images_gb = embedder_gb + sum(_image_gb(runtime) for runtime in {service.runtime for service in services})
    wanted = math.ceil((SYSTEM_GB + 2 * images_gb + volumes_gb) / USABLE_SHARE)
    setting = f"cluster.gpuPools.{pool.name}.diskGb"
    if pool.disk_gb * USABLE_SHARE - RESERVED_GB < volumes_gb:
        yield Finding(
            DISK.code,
            DISK.severity,
            setting,
            f"{pool.disk_gb} GB, a tenth kept free, don't hold the {volumes_gb:.0f} GB of volumes for weights that the"
            f" pods of one node ask for, so some pods never start; nearest valid value: {wanted}",
            (str(wanted),),
        )
    elif pool.disk_gb < wanted:
        yield Finding(
            DISK_IMAGES.code,
            DISK_IMAGES.severity,
            setting,
            f"{pool.disk_gb} GB, a tenth kept free, may not hold {volumes_gb:.0f} GB of volumes for weights,"
            f" {images_gb:g} GB of images, as many again in an update, and {SYSTEM_GB} GB for the system;"
            f" nearest valid value: {wanted}",
            (str(wanted),),
        )


def _image_gb(runtime: str) -> float:
    known = catalog.runtimes().get(runtime)
    return known.image_gb if known else UNKNOWN_IMAGE_GB


def _volumes_gb(node: nodes.Room, services: list[Service]) -> float:
    """The most that the pods' volumes on one node may take, in GB: as many pods as its GPUs allow, largest first."""
    gpus = node.gpus
    total = 0.0
    for service in sorted(services, key=lambda each: each.weight_gb / each.gpus, reverse=True):
        # Of a replica that spans nodes, each node has one pod.
        pods = min(service.most_replicas, gpus // service.gpus)
        gpus -= pods * service.gpus
        total += pods * _pod_mib(service) * MIB / GB
    return total


def _pod_mib(service: Service) -> int:
    copied_gb = service.adapters_gb + (0 if service.streams_weights else service.weight_gb)
    weights_mib = launch.volume_mib(copied_gb) if copied_gb else 0
    return weights_mib + TMP_MIB + service.cache_mib
