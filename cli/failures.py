"""The failures that people report who serve models on GPU clusters, and what this project does without being asked.

Numbers are those of the project's list of reported failures; a check says itself which of them it prevents.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that follows from configuration alone."""

    number: str
    happens: str
    """What goes wrong, and with what configuration."""
    default: str = ""
    """What is set without being asked; empty where checks alone handle it."""


FAILURES = (
    Failure(
        "F1",
        "Tensor parallelism with 64 MiB of /dev/shm: NCCL ends with a bus error",
        "a memory-backed /dev/shm of 1 GiB for each GPU where a pod has several, counted in its memory request",
    ),
    Failure("F2", "Attention heads, KV heads or widths that the GPUs do not divide evenly"),
    Failure("F3", "Model, context length and batch chosen apart from GPU memory: found after the download"),
    Failure("F4", "A bf16 checkpoint on a GPU without bf16, and the same for FP8 and AWQ kernels"),
    Failure("F5", "An image with a newer CUDA than the driver of the node's image"),
    Failure("F6", "An unpinned node image whose new toolkit or kernel breaks GPU containers"),
    Failure(
        "F7",
        "GPU operator, with driver and toolkit, on a node image that has both",
        "node images with NVIDIA drivers, and no GPU operator in the stack",
    ),
    Failure(
        "F9",
        "A root disk too small for image and weights",
        "GPU nodes get 100 GB: an old and a new image, and 50 GB; the model volume has a size limit",
    ),
    Failure("F10", "A new account's vCPU quota of 0 for GPU families: pods stay Pending"),
    Failure("F11", "An instance type that a zone does not offer, or P types without a reservation"),
    Failure(
        "F12",
        "A semantic cache on an engine without vector search",
        "node-based Valkey 8.2",
    ),
    Failure(
        "F13",
        "An AUTH token without TLS, or with characters that ElastiCache refuses",
        "TLS required, and a hexadecimal token of 64 characters that is made once and never given by hand",
    ),
    Failure(
        "F14",
        "A client that speaks plain Redis to a TLS endpoint",
        "one connection secret, whose URL has the scheme rediss",
    ),
    Failure(
        "F15",
        "A gateway that cuts generations at 29 s or buffers them",
        "a Regional REST API with streamed responses and a timeout of 300 s",
    ),
    Failure(
        "F16",
        "A VPC link to a load balancer that a Kubernetes Service makes",
        "load balancer, target group and listener belong to the stack; pods join by TargetGroupBinding",
    ),
    Failure(
        "F18",
        "Taints on GPU nodes that helpers do not tolerate, and clusters without other nodes",
        "one definition of the taint feeds nodes and tolerations; a system pool of at least one node is required",
    ),
    Failure(
        "F19",
        "A liveness probe that kills a pod while it loads weights",
        "a startup probe whose budget follows from the size of the weights, and a liveness probe only after it",
    ),
    Failure(
        "F20",
        "Autoscaling on a metric that the runtime's version does not export",
        "one table of each runtime's metrics, by version, that dashboards, alerts and autoscalers are checked against",
    ),
    Failure(
        "F28",
        "A disruption budget of a single replica that blocks node upgrades, or a rollout with no spare GPU",
        "a disruption budget only with two or more replicas",
    ),
)
"""Those that are functions of the configuration alone, so that a preview can refuse or prevent them."""
