"""What an EKS node group is made of, worked out from a pool's settings. Pure, no Pulumi import."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal, get_args

from llm_serving import taints

RUNTIME_IMAGE_GB = 25
"""Unpacked size to expect of a GPU runtime image (vLLM, TensorRT-LLM and TGI images reach this)."""
GPU_DISK_GB = 2 * RUNTIME_IMAGE_GB + 50
"""Root disk of a GPU node where the pool names none: an old and a new image side by side during a rollout, and 50 GB
for model weights, logs and the operating system."""
SMALLEST_GPU_DISK_GB = 2 * RUNTIME_IMAGE_GB + 10
SYSTEM_DISK_GB = 50
LARGEST_DISK_GB = 16384
"""Largest gp3 volume."""

GpuAmiType = Literal["AL2023_x86_64_NVIDIA", "AL2023_ARM_64_NVIDIA", "BOTTLEROCKET_x86_64_NVIDIA"]
SystemAmiType = Literal[
    "AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD", "BOTTLEROCKET_x86_64", "BOTTLEROCKET_ARM_64"
]
GPU_AMI_TYPES: tuple[str, ...] = get_args(GpuAmiType)
SYSTEM_AMI_TYPES: tuple[str, ...] = get_args(SystemAmiType)
CAPACITY_TYPES = ("ON_DEMAND", "SPOT")
GPU_FAMILIES = (
    *("g4dn", "g5", "g5g", "g6", "g6e", "g6f", "g7e", "gr6", "gr6f"),
    *("p3", "p3dn", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300"),
)
"""Instance families with NVIDIA GPUs that the EKS accelerated images have drivers for."""


def check_gpu_instance_type(field: str, instance_type: str) -> None:
    """Check that an instance type has an NVIDIA GPU; raises ValueError that names a family that has one otherwise."""
    family, _, size = instance_type.partition(".")
    if family not in GPU_FAMILIES or not size:
        near = difflib.get_close_matches(family, GPU_FAMILIES, n=1) or ["g6"]
        raise ValueError(
            f"{field}: {instance_type!r} is no instance type with an NVIDIA GPU;"
            f" nearest valid value: {near[0]}.{size or 'xlarge'}"
        )


def default_ami_type(*, gpu: bool) -> str:
    """Return the image family of a pool that names none. EKS would fall back to one without GPU drivers."""
    return GPU_AMI_TYPES[0] if gpu else SYSTEM_AMI_TYPES[0]


def has_device_plugin(ami_type: str) -> bool:
    """Return whether nodes of an image family run NVIDIA's device plugin by themselves: Bottlerocket's do."""
    return ami_type.startswith("BOTTLEROCKET")


def default_disk_gb(*, gpu: bool) -> int:
    """Return the root disk, in GB, of a pool that names none."""
    return GPU_DISK_GB if gpu else SYSTEM_DISK_GB


def root_device(ami_type: str) -> str:
    """Return the device that holds images and pods: Bottlerocket keeps them on a second volume."""
    return "/dev/xvdb" if ami_type.startswith("BOTTLEROCKET") else "/dev/xvda"


def launch_template(ami_type: str, disk_gb: int, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return a launch template's arguments: encrypted gp3 root disk of `disk_gb` GB, IMDSv2 with one hop.

    One hop keeps pods from the node's credentials: they get theirs from EKS Pod Identity.
    """
    return {
        "block_device_mappings": [
            {
                "device_name": root_device(ami_type),
                "ebs": {
                    "volume_size": disk_gb,
                    "volume_type": "gp3",
                    "encrypted": "true",
                    "delete_on_termination": "true",
                },
            }
        ],
        "metadata_options": {
            "http_endpoint": "enabled",
            "http_tokens": "required",
            "http_put_response_hop_limit": 1,
        },
        "tag_specifications": [
            {"resource_type": "instance", "tags": dict(tags)},
            {"resource_type": "volume", "tags": dict(tags)},
        ],
        "update_default_version": True,
    }


def labels(pool: str, *, gpu: bool) -> dict[str, str]:
    """Return the labels of a pool's nodes."""
    return {taints.POOL_LABEL: pool, **({taints.GPU_PRESENT_LABEL: "true"} if gpu else {})}
