"""What is for sale and what runs on it: instance types, GPUs, runtimes, node images. Read from the files beside this.

Every row of a file names its source and the day it was read.
"""

import csv
import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from llm_serving.capacity.model_shape import CheckpointQuantization, Experts, LatentAttention, ModelShape

FOLDER = Path(__file__).parent
"""Where the files are."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU model."""

    name: str
    """As in A10G, H100, RTXPRO6000."""
    compute_capability: tuple[int, int]
    """Major and minor, as in (8, 6)."""
    cuda_memory_mib: int | None
    """MiB that CUDA sees; None where unknown, and then AWS's own number counts.

    Measured, with torch.cuda.mem_get_info, for the H100 and the H200: 81079 of the 81559 that nvidia-smi totals, 0.6 %
    less, and 143155 of 143771, 0.4 % less. The T4's is a total of nvidia-smi, and by their sizes so are those of the
    A10G and L4, which are unconfirmed († in `source`); aiconfigurator doesn't say how it came by the others. All of
    these may be as much too large.
    """
    bandwidth_gb_s: float
    """Memory bandwidth in GB/s (10^9 bytes)."""
    tflops_16bit: float
    """Dense bf16 or fp16 tensor-core throughput in TFLOP/s."""
    nvlink: bool
    """Whether the GPUs of an instance are joined by NVLink rather than PCIe."""
    minimum_driver: int
    """First driver branch that knows it, as in 595; 0 where every branch of the catalog does."""
    last_driver: int | None
    """Last driver branch that knows it; None where all do."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An EC2 instance type with NVIDIA GPUs."""

    name: str
    vcpus: int
    memory_gib: float
    gpu: Gpu
    gpus: int
    """Whole GPUs; 0 for fractional ones."""
    gpu_memory_mib: int
    """Of each GPU, as CUDA sees it: the smaller of AWS's number and the known one."""
    efa_interfaces: int
    nvme_gb: int
    """Local NVMe storage in GB (10^9 bytes)."""
    architecture: str
    """x86_64 or arm64."""
    usd_per_hour: float | None
    """On demand in us-east-1; None where unknown, never 0."""
    capacity_block: bool
    """Whether AWS sells it by capacity block."""

    @property
    def family(self) -> str:
        """As in g6e."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class RuntimeRelease:
    """A release of an inference runtime, as its container image has it."""

    name: str
    """tgi, vllm or tensorrt-llm."""
    version: str
    image: str
    """Upstream image with tag."""
    cuda: tuple[int, int]
    """CUDA of the image: what its NVIDIA_REQUIRE_CUDA asks of the driver."""
    framework_cuda: tuple[int, int]
    """CUDA that the image's PyTorch was built with."""
    capabilities: tuple[tuple[int, int], ...]
    """Compute capabilities that the image has machine code for."""
    ptx_from: tuple[int, int] | None
    """Capability whose PTX newer GPUs can compile at start; None where there is none."""
    image_gb: float
    """Size on disk in GB (10^9 bytes)."""
    memory_fraction: float
    """Fraction of a GPU's memory that it may use by default."""


@dataclass(frozen=True, slots=True)
class NodeImage:
    """A release of an EKS accelerated image for one Kubernetes version."""

    ami_type: str
    release: str
    kubernetes_version: str
    driver: tuple[int, ...]
    """NVIDIA driver, as in (580, 159, 3)."""
    has_device_plugin: bool


@dataclass(frozen=True, slots=True)
class CudaRelease:
    """A CUDA toolkit and the drivers that run it."""

    version: tuple[int, int]
    native_driver: tuple[int, ...]
    """First driver that has this CUDA itself."""
    minimum_driver: int
    """Driver branch below which minor-version compatibility ends."""


@dataclass(frozen=True, slots=True)
class KubernetesRelease:
    """A Kubernetes version on EKS."""

    version: str
    standard_support_ends: str | None
    """ISO date; None where no date was found."""
    extended_support_ends: str | None


class UnknownError(ValueError):
    """A name that no row of the catalog has."""


def row(table: str, name: str) -> Mapping[str, str]:
    """Return a row of a table of the catalog as its file has it, with its source and date.

    :param table: gpus, instances, prices, runtimes, node_images, cuda or kubernetes.
    :raises UnknownError: No row has this name in its first column.
    """
    return _named(table, name, {next(iter(line.values())): line for line in _rows(table)})


@lru_cache
def gpus() -> Mapping[str, Gpu]:
    """GPU models by name; gpus.csv."""
    return MappingProxyType(
        {
            line["name"]: Gpu(
                name=line["name"],
                compute_capability=_pair(line["compute_capability"]),
                cuda_memory_mib=_optional(line["cuda_memory_mib"], int),
                bandwidth_gb_s=float(line["bandwidth_gb_s"]),
                tflops_16bit=float(line["tflops_16bit"]),
                nvlink=line["nvlink"] == "yes",
                minimum_driver=int(line["minimum_driver"]),
                last_driver=_optional(line["last_driver"], int),
            )
            for line in _rows("gpus")
        }
    )


@lru_cache
def instances() -> Mapping[str, InstanceType]:
    """Instance types by name; instances.csv, with the prices of prices.csv."""
    prices = {line["name"]: _optional(line["usd_per_hour"], float) for line in _rows("prices")}
    return MappingProxyType({line["name"]: _instance(line, prices.get(line["name"])) for line in _rows("instances")})


def _instance(line: Mapping[str, str], price: float | None) -> InstanceType:
    gpu = gpus()[line["gpu"]]
    # AWS overstates some: a T4 has 16384 MiB there, and 15360 for CUDA.
    memory = min(int(line["gpu_memory_mib"]), gpu.cuda_memory_mib or sys.maxsize)
    return InstanceType(
        name=line["name"],
        vcpus=int(line["vcpus"]),
        memory_gib=float(line["memory_gib"]),
        gpu=gpu,
        gpus=int(line["gpus"]),
        gpu_memory_mib=memory,
        efa_interfaces=int(line["efa_interfaces"]),
        nvme_gb=int(line["nvme_gb"]),
        architecture=line["architecture"],
        usd_per_hour=price,
        capacity_block=line["capacity_block"] == "yes",
    )


@lru_cache
def runtimes() -> Mapping[str, RuntimeRelease]:
    """Runtime releases by the runtime's name; runtimes.csv."""
    return MappingProxyType(
        {
            line["name"]: RuntimeRelease(
                name=line["name"],
                version=line["version"],
                image=line["image"],
                cuda=_pair(line["cuda"]),
                framework_cuda=_pair(line["framework_cuda"]),
                capabilities=tuple(_pair(value) for value in line["capabilities"].split()),
                ptx_from=_optional(line["ptx_from"], _pair),
                image_gb=float(line["image_gb"]),
                memory_fraction=float(line["memory_fraction"]),
            )
            for line in _rows("runtimes")
        }
    )


@lru_cache
def node_images() -> tuple[NodeImage, ...]:
    """Node images, those of one type from old to new; node_images.csv.

    `release` is the date of an AL2023 release, as in 20260714, and the version of a Bottlerocket one, as in 1.68.0.
    A driver of one number is a branch: its release notes say no more.
    """
    return tuple(
        NodeImage(
            ami_type=line["ami_type"],
            release=line["release"],
            kubernetes_version=line["kubernetes_version"],
            driver=_numbers(line["driver"]),
            has_device_plugin=line["has_device_plugin"] == "yes",
        )
        for line in _rows("node_images")
    )


@lru_cache
def cuda_releases() -> Mapping[tuple[int, int], CudaRelease]:
    """CUDA toolkits by version; cuda.csv."""
    releases = (
        CudaRelease(_pair(line["version"]), _numbers(line["native_driver"]), int(line["minimum_driver"]))
        for line in _rows("cuda")
    )
    return MappingProxyType({release.version: release for release in releases})


@lru_cache
def kubernetes_releases() -> Mapping[str, KubernetesRelease]:
    """Kubernetes versions on EKS, as in 1.36; kubernetes.csv."""
    return MappingProxyType(
        {
            line["version"]: KubernetesRelease(
                line["version"], line["standard_support_ends"] or None, line["extended_support_ends"] or None
            )
            for line in _rows("kubernetes")
        }
    )


@lru_cache
def models() -> Mapping[str, ModelShape]:
    """Models by name; models.json."""
    return MappingProxyType({entry["name"]: _model(entry) for entry in _model_entries()})


def _model(entry: Mapping[str, Any]) -> ModelShape:
    fields = {key: value for key, value in entry.items() if key not in {"aliases", "source", "date"}}
    if "experts" in fields:
        fields["experts"] = Experts(**fields["experts"])
    if "latent_attention" in fields:
        fields["latent_attention"] = LatentAttention(**fields["latent_attention"])
    if "quantization" in fields:
        quantization = dict[str, Any](fields["quantization"])
        quantization["block"] = tuple(quantization["block"]) if "block" in quantization else None
        fields["quantization"] = CheckpointQuantization(**quantization)
    return ModelShape(**fields)


@lru_cache
def _model_entries() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads((FOLDER / "models.json").read_text(encoding="utf-8")))


@lru_cache
def _model_names() -> Mapping[str, str]:
    return {_folded(name): entry["name"] for entry in _model_entries() for name in (entry["name"], *entry["aliases"])}


def _folded(name: str) -> str:
    """Upper and lower case, the organization, and what stands between words make no difference to a model's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.rpartition("/")[2].casefold()).strip("-")


def instance(name: str) -> InstanceType:
    """Return an instance type; raises UnknownError for one that the catalog has not."""
    return _named("instance type", name, instances())


def runtime(name: str) -> RuntimeRelease:
    """Return a runtime's release; raises UnknownError for one that the catalog has not."""
    return _named("runtime", name, runtimes())


def model(name: str) -> ModelShape:
    """Return a model's shape; raises UnknownError for one that the catalog has not.

    :param name: A name or an alias of the catalog, in any case, with or without an organization before it, and with
        dashes for dots, as in meta-llama/Llama-3.3-70B-Instruct and llama-3-3-70b-instruct.
    """
    known = _model_names().get(_folded(name))
    if known is None:
        entries = [alias for entry in _model_entries() for alias in (entry["name"], *entry["aliases"])]
        raise UnknownError(f"{name!r} is no model of the catalog; {near_matches(name.rpartition('/')[2], entries)}")
    return models()[known]


_T = TypeVar("_T")


def _named(kind: str, name: str, known: Mapping[str, _T]) -> _T:
    found = known.get(name)
    if found is None:
        raise UnknownError(f"{name!r} is no {kind} of the catalog; {near_matches(name, known)}")
    return found


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return `nearest: a, b, c`, the names of `known` that are spelt most like `name`, for the end of a message."""
    names = list(known)
    folded = {entry.casefold(): entry for entry in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.5)
    if not close and len(names) > 3:
        close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0)
    return "nearest: " + ", ".join([folded[entry] for entry in close] or names)


@lru_cache
def _rows(table: str) -> tuple[Mapping[str, str], ...]:
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def _optional(text: str, read: Callable[[str], _T]) -> _T | None:
    """An empty cell is something unknown, never 0."""
    return read(text) if text else None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _pair(text: str) -> tuple[int, int]:
    major, minor = _numbers(text)
    return major, minor
