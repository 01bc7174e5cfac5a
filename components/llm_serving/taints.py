"""The taint of GPU nodes, defined once: node groups set it, and every workload that belongs there tolerates it.

A toleration that is spelt apart from its taint fails silently: a DaemonSet then wants no pods at all.
"""

GPU_TAINT_KEY = "nvidia.com/gpu"
GPU_TAINT_VALUE = "present"

GPU_PRESENT_LABEL = "nvidia.com/gpu.present"
"""Set on GPU nodes by the node group, as the NVIDIA feature discovery would, so that selectors work before it runs."""
POOL_LABEL = "llm-serving/pool"
"""Names the pool that a node belongs to."""
GPU_RESOURCE = "nvidia.com/gpu"

SYSTEM_POOL = "system"
"""The pool without GPUs. Cluster DNS, controllers and the gateway run there."""


def gpu_node_group_taint() -> dict[str, str]:
    """Return the taint as an EKS node group wants it."""
    return {"key": GPU_TAINT_KEY, "value": GPU_TAINT_VALUE, "effect": "NO_SCHEDULE"}


def gpu_toleration() -> dict[str, str]:
    """Return the toleration as a pod wants it."""
    return {
        "key": GPU_TAINT_KEY,
        "operator": "Equal",
        "value": GPU_TAINT_VALUE,
        "effect": "NoSchedule",
    }
