"""EC2 instance types: what a node of each type has. From the EC2 instance type pages and NVIDIA's feature discovery."""

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True)
class Gpu:
    """The labels that NVIDIA's GPU feature discovery gives: the product's name, and the memory in MiB."""

    product: str
    memory: int


@dataclass(frozen=True)
class InstanceType:
    """What a type has. `memory` is in GiB."""

    vcpus: int
    memory: float
    gpus: int = 0
    gpu: Gpu | None = None


V100 = Gpu("Tesla-V100-SXM2-16GB", 16384)
V100_32 = Gpu("Tesla-V100-SXM2-32GB", 32768)
T4 = Gpu("Tesla-T4", 15360)
A10G = Gpu("NVIDIA-A10G", 23028)
L4 = Gpu("NVIDIA-L4", 23034)
L40S = Gpu("NVIDIA-L40S", 46068)
A100_40 = Gpu("NVIDIA-A100-SXM4-40GB", 40960)
A100_80 = Gpu("NVIDIA-A100-SXM4-80GB", 81920)
H100 = Gpu("NVIDIA-H100-80GB-HBM3", 81559)
H200 = Gpu("NVIDIA-H200", 143771)
B200 = Gpu("NVIDIA-B200", 183359)

_GPU_SIZES = {
    "xlarge": (4, 1), "2xlarge": (8, 1), "4xlarge": (16, 1), "8xlarge": (32, 1), "16xlarge": (64, 1),
    "12xlarge": (48, 4), "24xlarge": (96, 4), "48xlarge": (192, 8),
}  # fmt: skip
"""vCPUs and GPUs by size: the same in the g4dn, g5, g6 and g6e families."""
_GPU_FAMILIES = {"g4dn": (4, T4), "g5": (4, A10G), "g6": (4, L4), "g6e": (8, L40S)}
"""GiB for each vCPU, and the GPU."""
_GPU_TYPES = {
    "g4dn.metal": InstanceType(96, 384, 8, T4),
    "gr6.4xlarge": InstanceType(16, 128, 1, L4),
    "gr6.8xlarge": InstanceType(32, 256, 1, L4),
    "p3.2xlarge": InstanceType(8, 61, 1, V100),
    "p3.8xlarge": InstanceType(32, 244, 4, V100),
    "p3.16xlarge": InstanceType(64, 488, 8, V100),
    "p3dn.24xlarge": InstanceType(96, 768, 8, V100_32),
    "p4d.24xlarge": InstanceType(96, 1152, 8, A100_40),
    "p4de.24xlarge": InstanceType(96, 1152, 8, A100_80),
    "p5.4xlarge": InstanceType(16, 256, 1, H100),
    "p5.48xlarge": InstanceType(192, 2048, 8, H100),
    "p5e.48xlarge": InstanceType(192, 2048, 8, H200),
    "p5en.48xlarge": InstanceType(192, 2048, 8, H200),
    "p6-b200.48xlarge": InstanceType(192, 2048, 8, B200),
}
_CPU_SIZES = {
    "medium": 1, "large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "12xlarge": 48,
    "16xlarge": 64, "24xlarge": 96, "32xlarge": 128, "48xlarge": 192,
}  # fmt: skip
_GIB_PER_VCPU = {"c": 2, "m": 4, "r": 8}
_BURSTABLE = {
    "medium": (2, 4), "large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32),
}  # fmt: skip
"""vCPUs and GiB of the t3, t3a and t4g types that can hold a node's own pods."""


def find(name: str) -> InstanceType | None:
    """What an instance type has; None for a type that isn't known here."""
    family, _, size = name.partition(".")
    if known := _GPU_TYPES.get(name):
        return known
    if family in _GPU_FAMILIES and size in _GPU_SIZES:
        (vcpus, gpus), (ratio, gpu) = _GPU_SIZES[size], _GPU_FAMILIES[family]
        # g4dn has neither a 24xlarge nor a 48xlarge
        return None if family == "g4dn" and vcpus > 64 else InstanceType(vcpus, vcpus * ratio, gpus, gpu)
    if family in ("t3", "t3a", "t4g") and size in _BURSTABLE:
        return InstanceType(*_BURSTABLE[size])
    ratio = _GIB_PER_VCPU.get(family[:1]) if family[1:2].isdigit() else None
    return InstanceType(_CPU_SIZES[size], _CPU_SIZES[size] * ratio) if ratio and size in _CPU_SIZES else None


def get(name: str) -> InstanceType:
    """As `find`; an unknown type counts as the smallest that EKS runs well on: 2 vCPUs, 8 GiB, no GPU."""
    return find(name) or InstanceType(2, 8)
