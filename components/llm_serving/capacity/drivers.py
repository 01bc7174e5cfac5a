"""The NVIDIA driver of a node's image against the CUDA of a runtime's image, its framework and the GPU.

A driver runs the CUDA that it came with and every older one. It runs a newer minor version too, down to the driver
branch of that CUDA's major version, but cannot compile such a version's PTX. Below that branch nothing starts
(docs.nvidia.com, CUDA compatibility). Node images and their rules that no model is needed for: `node_images`.
"""

from collections.abc import Callable, Iterator
from datetime import date

from llm_serving.capacity import catalog, kubernetes_support, node_images
from llm_serving.capacity.catalog import CudaRelease, NodeImage
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import INSTANCE, capability, joined, setting
from llm_serving.capacity.node_images import device_plugin, node_image, version
from llm_serving.capacity.placement import Hosted
from llm_serving.capacity.runtime_names import title

__all__ = ["CHECKS", "check", "device_plugin", "node_image"]

CHECKS = (
    Check("DRIVER_CUDA", "error", "The node's driver is too old for the CUDA of the runtime's image.", ("F5",)),
    Check(
        "DRIVER_MINOR", "warning", "The node's driver runs the image's CUDA by minor-version compatibility.", ("F5",)
    ),
    Check("DRIVER_FRAMEWORK", "error", "The node's driver is too old for the CUDA of the image's PyTorch.", ("F5",)),
    Check("DRIVER_GPU", "error", "The node's driver does not know the GPU.", ("F5",)),
    Check("DRIVER_END_OF_LIFE", "warning", "NVIDIA no longer mends the driver branch of the node image.", ("F5",)),
    *node_images.CHECKS,
    *kubernetes_support.CHECKS,
)

_END_OF_LIFE = {
    535: date(2026, 6, 30),
    570: date(2026, 2, 28),
    580: date(2028, 6, 30),
    595: date(2027, 3, 31),
    620: date(2029, 9, 30),
}
"""Last day of each driver branch: the end of the month that NVIDIA names (docs.nvidia.com, data center drivers)."""


def check(placement: Hosted, image: NodeImage, *, today: date) -> Iterator[Finding]:
    """Yield what the driver of a node image cannot run of a placement.

    :param today: Day on which driver branches count as still maintained.
    """
    yield from _check_gpu(placement, image)
    yield from _check_cuda(placement, image)
    yield from _check_framework(placement, image)
    yield from _check_end_of_life(placement, image, today)


def _older(driver: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a driver is older than another, as far as both are known: some are known by their branch only."""
    known = min(len(driver), len(other))
    return driver[:known] < other[:known]


def _cuda(wanted: tuple[int, int]) -> CudaRelease | None:
    return catalog.cuda_releases().get(wanted)


def _named(image: NodeImage) -> str:
    return (
        f"{image.ami_type} {image.release} for Kubernetes {image.kubernetes_version} has driver {version(image.driver)}"
    )


def _check_gpu(placement: Hosted, image: NodeImage) -> Iterator[Finding]:
    gpu, branch, name = placement.instance.gpu, image.driver[0], setting(placement, INSTANCE)
    if branch < gpu.minimum_driver:
        working = _images(image, lambda driver: driver[0] >= gpu.minimum_driver)
        way = (
            f"nearest valid: release {working[0].release}"
            if working
            else "no release of the catalog has it, so it takes an image of your own"
        )
        message = (
            f"the {gpu.name} of {placement.instance.name} needs driver {gpu.minimum_driver} or newer, and"
            f" {_named(image)}; {way}"
        )
        yield Finding("DRIVER_GPU", "error", name, message, tuple(each.release for each in working))
    elif gpu.last_driver is not None and branch > gpu.last_driver:
        last = gpu.last_driver
        working = _images(image, lambda driver: driver[0] <= last)[::-1]
        way = f"nearest valid: release {working[0].release}" if working else "no release of the catalog has one"
        message = (
            f"the {gpu.name} of {placement.instance.name} needs driver {last} or older, and {_named(image)}; {way}"
        )
        yield Finding("DRIVER_GPU", "error", name, message, tuple(each.release for each in working))


def _images(image: NodeImage, runs: Callable[[tuple[int, ...]], bool]) -> list[NodeImage]:
    """The releases of the same kind whose driver does, oldest first."""
    return [each for each in node_images.releases(image.ami_type, image.kubernetes_version) if runs(each.driver)]


def _check_cuda(placement: Hosted, image: NodeImage) -> Iterator[Finding]:
    runtime, name = placement.runtime, setting(placement, INSTANCE)
    cuda = _cuda(runtime.cuda)
    if cuda is None:
        message = f"CUDA {capability(runtime.cuda)} of {title(runtime)} is not in the catalog"
        yield Finding("DRIVER_CUDA", "unchecked", name, message)
    elif image.driver[0] < cuda.minimum_driver:
        message = (
            f"CUDA {capability(cuda.version)} of {title(runtime)} needs driver {cuda.minimum_driver} or newer, and"
            f" {_named(image)}; {_ways_out(image, cuda)}"
        )
        yield Finding("DRIVER_CUDA", "error", name, message, _alternatives(image, cuda))
    elif _older(image.driver, cuda.native_driver):
        message = (
            f"CUDA {capability(cuda.version)} of {title(runtime)} came with driver {version(cuda.native_driver)}, and"
            f" {_named(image)}: it runs with limits, and a container runtime that reads NVIDIA_REQUIRE_CUDA refuses it"
            f" unless NVIDIA_DISABLE_REQUIRE=1 is set; {_ways_out(image, cuda)}"
        )
        yield Finding("DRIVER_MINOR", "warning", name, message, _alternatives(image, cuda))


def _working(image: NodeImage, cuda: CudaRelease) -> list[NodeImage]:
    """The releases that have this CUDA itself, oldest first; those that run it with limits where this one does not."""
    native = _images(image, lambda driver: not _older(driver, cuda.native_driver))
    if native or image.driver[0] >= cuda.minimum_driver:
        return native
    return _images(image, lambda driver: driver[0] >= cuda.minimum_driver)


def _runtimes(image: NodeImage) -> list[str]:
    """The runtimes of the catalog whose CUDA this image's driver has itself."""
    names: list[str] = []
    for runtime in catalog.runtimes().values():
        cuda = _cuda(runtime.cuda)
        if cuda is not None and not _older(image.driver, cuda.native_driver):
            names.append(title(runtime))
    return names


def _ways_out(image: NodeImage, cuda: CudaRelease) -> str:
    working = _working(image, cuda)
    if working:
        release = f"nearest valid: release {working[0].release} with driver {version(working[0].driver)}"
    else:
        release = "no release of the catalog has a newer one that is better"
    runs = [each.version for each in catalog.cuda_releases().values() if not _older(image.driver, each.native_driver)]
    highest = f"; this driver has CUDA up to {capability(max(runs))}" if runs else ""
    runtimes = _runtimes(image)
    return release + highest + (f", enough for {joined(runtimes)}" if runtimes and runs else "")


def _alternatives(image: NodeImage, cuda: CudaRelease) -> tuple[str, ...]:
    return tuple(each.release for each in _working(image, cuda))


def _check_framework(placement: Hosted, image: NodeImage) -> Iterator[Finding]:
    runtime, name = placement.runtime, setting(placement, INSTANCE)
    if runtime.framework_cuda == runtime.cuda:
        return
    cuda = _cuda(runtime.framework_cuda)
    what = f"PyTorch of {title(runtime)} is built with CUDA {capability(runtime.framework_cuda)}"
    if cuda is None:
        yield Finding("DRIVER_FRAMEWORK", "unchecked", name, f"{what}, which is not in the catalog")
    elif image.driver[0] < cuda.minimum_driver:
        message = f"{what}, which needs driver {cuda.minimum_driver} or newer, and {_named(image)}"
        yield Finding(
            "DRIVER_FRAMEWORK", "error", name, f"{message}; {_ways_out(image, cuda)}", _alternatives(image, cuda)
        )
    elif _older(image.driver, cuda.native_driver):
        message = (
            f"{what}, which came with driver {version(cuda.native_driver)}, and {_named(image)}: it starts, but cannot"
            f" compile kernels for a GPU that the image has no machine code for; {_ways_out(image, cuda)}"
        )
        yield Finding("DRIVER_FRAMEWORK", "warning", name, message, _alternatives(image, cuda))


def _check_end_of_life(placement: Hosted, image: NodeImage, today: date) -> Iterator[Finding]:
    ended = _END_OF_LIFE.get(image.driver[0])
    if ended is not None and today > ended:
        maintained = {branch for branch, end in _END_OF_LIFE.items() if end >= today}
        working = _images(image, lambda driver: driver[0] in maintained and driver > image.driver)[::-1]
        way = f"nearest valid: release {working[0].release}" if working else "no release of the catalog has a newer one"
        message = f"{_named(image)}, whose branch NVIDIA maintained until {ended.isoformat()}; {way}"
        name = setting(placement, INSTANCE)
        yield Finding("DRIVER_END_OF_LIFE", "warning", name, message, tuple(each.release for each in working))
