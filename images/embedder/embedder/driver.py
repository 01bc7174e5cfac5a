"""Whether a GPU's driver runs the CUDA of this image and of its PyTorch, and the GPU PyTorch's kernels: one line.

A driver that is too old, a GPU that a build has no kernels for, a container without a GPU: each comes up as another
error somewhere inside a library, minutes after the start. `judge` says it first, from facts that `gpu` has read.
"""

import re
from dataclasses import dataclass

Version = tuple[int, int]
"""Major and minor, as in CUDA 13.0 or compute capability 9.0."""

MINIMUM_BRANCH = {11: 450, 12: 525, 13: 580}
"""Driver branch below which no CUDA of a major version starts (docs.nvidia.com, CUDA compatibility, minor version
compatibility). `components/llm_serving/capacity/catalog/cuda.csv` has the same numbers; a test compares them."""
_OTHERWISE = "use the CPU image"
_FAILURES = {
    "CUDA_ERROR_NO_DEVICE": "ask for nvidia.com/gpu in the pod's resources",
    "CUDA_ERROR_SYSTEM_NOT_READY": "start NVIDIA's fabric manager on the node",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the node: its driver was updated while it was loaded",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "use a driver that has the image's CUDA itself: this GPU takes no"
    " compatibility package",
}
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that the process sees."""

    name: str
    capability: Version


@dataclass(frozen=True, slots=True)
class Facts:
    """What this process finds; `gpu.read` fills it in."""

    driver: str | None = None
    """The driver's version, as in `580.159.04`; None where there is none."""
    driver_cuda: Version | None = None
    """The newest CUDA of the driver library that the process loads. NVIDIA's compatibility package in an image brings a
    newer one than the node's driver has."""
    image_cuda: Version | None = None
    """The CUDA that the image is built on; None outside such an image."""
    torch: str = ""
    """PyTorch's version; empty where it cannot be imported."""
    torch_cuda: Version | None = None
    architectures: tuple[str, ...] = ()
    """What PyTorch has kernels for, as in `sm_90`, or `compute_120` for code that the driver must compile."""
    gpus: tuple[Gpu, ...] = ()
    failure: str = ""
    """CUDA's own word for why there is no GPU, or Python's for why there is no PyTorch."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the backend can start, and the line that says why, or why not and what to do."""

    fits: bool
    line: str


def judge(facts: Facts) -> Verdict:
    """The verdict on `facts`."""
    problem = _build(facts) or _driver(facts) or _missing(facts) or _kernels(facts)
    return Verdict(False, problem) if problem else Verdict(True, _fine(facts))


def _build(facts: Facts) -> str:
    if not facts.torch:
        return f"PyTorch cannot be imported ({facts.failure}): build the image from its requirements, or {_OTHERWISE}"
    if facts.torch_cuda is None:
        return f"PyTorch {facts.torch} is built without CUDA: install the build for CUDA, or {_OTHERWISE}"
    return ""


def _driver(facts: Facts) -> str:
    if facts.driver is None:
        reason = f" ({facts.failure})" if facts.failure else ""
        return (
            f"no NVIDIA driver is visible{reason}: ask for nvidia.com/gpu in the pod's resources, on a node with the"
            f" driver and NVIDIA's container toolkit, or {_OTHERWISE}"
        )
    branch = int(facts.driver.partition(".")[0])
    for what, cuda in _cudas(facts):
        needed = MINIMUM_BRANCH.get(cuda[0])
        runs = facts.driver_cuda is not None and facts.driver_cuda >= cuda
        if needed is None and facts.driver_cuda is not None and not runs:
            return (
                f"driver {facts.driver} has CUDA up to {_dotted(facts.driver_cuda)}, and {what} needs {_dotted(cuda)}:"
                f" use a node image with a newer driver"
            )
        if needed is not None and branch < needed and not runs:
            return (
                f"driver {facts.driver} is too old for CUDA {_dotted(cuda)} of {what}, which needs driver {needed} or"
                f" newer: use a node image with such a driver, or an image with {_older(branch)}"
            )
    return ""


def _older(branch: int) -> str:
    majors = [major for major, needed in MINIMUM_BRANCH.items() if needed <= branch]
    return f"CUDA {max(majors)}" if majors else "an older CUDA"


def _missing(facts: Facts) -> str:
    if facts.gpus:
        return ""
    remedy = next((text for name, text in _FAILURES.items() if name in facts.failure), "")
    reason = facts.failure or "no reason given"
    return f"driver {facts.driver} is there, but no GPU can be used ({reason}): {remedy or 'see the node'}"


def _kernels(facts: Facts) -> str:
    for gpu in facts.gpus:
        if any(_has_code(each, gpu.capability) for each in facts.architectures):
            continue
        named = f"{gpu.name} (compute capability {_dotted(gpu.capability)})"
        if not any(_can_be_compiled(each, gpu.capability) for each in facts.architectures):
            known = ", ".join(facts.architectures) or "nothing"
            return f"PyTorch {facts.torch} has no kernels for the {named}, only for {known}: use another GPU or build"
        if _limited(facts):
            return (
                f"PyTorch {facts.torch} has kernels for the {named} only as code that the driver compiles, and driver"
                f" {facts.driver} is older than its CUDA: use a driver with CUDA {_dotted(facts.torch_cuda)}"
            )
    return ""


def _has_code(architecture: str, capability: Version) -> bool:
    """Machine code runs on its own capability and later minors; `a` on its own only."""
    match = _ARCHITECTURE.fullmatch(architecture)
    if match is None or match[1] != "sm":
        return False
    built = (int(match[2]), int(match[3]))
    return built == capability if match[4] == "a" else built[0] == capability[0] and built[1] <= capability[1]


def _can_be_compiled(architecture: str, capability: Version) -> bool:
    match = _ARCHITECTURE.fullmatch(architecture)
    return match is not None and match[1] == "compute" and (int(match[2]), int(match[3])) <= capability


def _limited(facts: Facts) -> bool:
    """Whether the driver runs PyTorch's CUDA by minor-version compatibility only."""
    known, wanted = facts.driver_cuda, facts.torch_cuda
    return known is not None and wanted is not None and known < wanted


def _fine(facts: Facts) -> str:
    cudas = " and ".join(f"CUDA {_dotted(cuda)} of {what}" for what, cuda in _cudas(facts))
    gpus = ", ".join(f"{gpu.name} ({_dotted(gpu.capability)})" for gpu in facts.gpus)
    limits = ", by minor-version compatibility" if _limited(facts) else ""
    return f"driver {facts.driver} runs {cudas}{limits} on {gpus}"


def _cudas(facts: Facts) -> list[tuple[str, Version]]:
    found = (("the image", facts.image_cuda), (f"PyTorch {facts.torch}", facts.torch_cuda))
    return [(what, cuda) for what, cuda in found if cuda is not None]


def _dotted(version: Version | None) -> str:
    return ".".join(map(str, version or ()))
