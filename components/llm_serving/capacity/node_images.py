"""EKS node images: which release a pool runs, whether it is pinned, and what it already has installed."""

from collections.abc import Iterable, Iterator

from llm_serving import _node_groups
from llm_serving.capacity import catalog
from llm_serving.capacity.catalog import InstanceType, NodeImage
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import joined

CHECKS = (
    Check("AMI_UNPINNED", "warning", "The node image is not pinned, so nodes may come up with another one.", ("F6",)),
    Check("AMI_UNKNOWN", "unchecked", "The catalog does not have the node image's release.", ("F5",)),
    Check("AMI_DRIVER", "error", "The node image of a GPU pool has no NVIDIA driver.", ("F5",)),
    Check("AMI_ARCHITECTURE", "error", "The node image is built for another processor than the instance's."),
    Check("DEVICE_PLUGIN", "error", "The device plugin or the driver is installed twice, or not at all.", ("F7",)),
)

_ARCHITECTURES = {"x86_64": "x86_64", "ARM_64": "arm64"}
"""What an AMI type says in its name, and what EC2 calls it."""


def version(numbers: tuple[int, ...]) -> str:
    """Write a driver's version as NVIDIA does: `580.159.03`."""
    return ".".join(f"{number:02}" if place == 2 else str(number) for place, number in enumerate(numbers))


def _bare(ami_type: str, release: str) -> str:
    """The release as the catalog has it.

    EKS says `1.36.1-20260714` for Amazon Linux, which the catalog has as `20260714`, and `1.68.0-0a1b2c3d` for
    Bottlerocket, which it has as `1.68.0`.
    """
    first, _, last = release.removeprefix("v").partition("-")
    return first if ami_type.startswith("BOTTLEROCKET") or not last else last


def _order(image: NodeImage) -> tuple[int, ...]:
    return tuple(int(part) for part in image.release.split("."))


def releases(ami_type: str, kubernetes_version: str) -> list[NodeImage]:
    """Return the releases of the catalog for a Kubernetes version, oldest first."""
    found = (
        each
        for each in catalog.node_images()
        if each.ami_type == ami_type and each.kubernetes_version == kubernetes_version
    )
    return sorted(found, key=_order)


def node_image(ami_type: str, release: str | None, kubernetes_version: str) -> NodeImage | None:
    """Return a node image of the catalog: the newest where no release is given, None where the catalog has none.

    :param release: As EKS names it (`1.36.1-20260714`), or without the Kubernetes version.
    """
    known = releases(ami_type, kubernetes_version)
    if release is None:
        return known[-1] if known else None
    return next((each for each in known if each.release == _bare(ami_type, release)), None)


def check_release(ami_type: str, release: str | None, kubernetes_version: str, *, setting: str) -> Iterator[Finding]:
    """Yield what is wrong with the release that a pool is pinned to, if any.

    :param setting: What findings name, as in cluster.gpuPools.l4.releaseVersion.
    """
    known = releases(ami_type, kubernetes_version)
    newest = known[-1].release if known else None
    names = tuple(each.release for each in reversed(known))
    if release is None:
        have = f"; newest of the catalog: {newest}" if newest else ""
        message = f"{ami_type} is not pinned: nodes that come up later may have another driver{have}"
        yield Finding("AMI_UNPINNED", "warning", setting, message, names)
    elif node_image(ami_type, release, kubernetes_version) is None:
        have = f"; the catalog has {joined(names)}" if names else ""
        message = f"driver of {ami_type} {release} for Kubernetes {kubernetes_version} is not in the catalog{have}"
        yield Finding("AMI_UNKNOWN", "unchecked", setting, message, names)


def check_type(ami_type: str, instances: Iterable[InstanceType], *, setting: str) -> Iterator[Finding]:
    """Yield why a GPU pool's instance types cannot run an image type.

    :param setting: What findings name, as in cluster.gpuPools.l4.amiType.
    """
    types = list(instances)
    architecture = next((ec2 for part, ec2 in _ARCHITECTURES.items() if part in ami_type), None)
    others = [each for each in types if architecture is not None and each.architecture != architecture]
    if others:
        fitting = _nvidia(others[0])[0]
        message = (
            f"{ami_type} is for {architecture}, and {joined(each.name for each in others)} is {others[0].architecture};"
            f" nearest valid: {fitting}"
        )
        yield Finding("AMI_ARCHITECTURE", "error", setting, message, (fitting,))
    if types and not ami_type.endswith(("_NVIDIA", "_GPU")) and ami_type != "CUSTOM":
        images = _nvidia(types[0])
        message = f"{ami_type} has no NVIDIA driver for {types[0].name}; nearest valid: {' or '.join(images)}"
        yield Finding("AMI_DRIVER", "error", setting, message, images)


def _nvidia(instance: InstanceType) -> tuple[str, ...]:
    processor = "ARM_64" if instance.architecture == "arm64" else "x86_64"
    return (f"AL2023_{processor}_NVIDIA", f"BOTTLEROCKET_{processor}_NVIDIA")


def device_plugin(
    ami_type: str, *, installs_device_plugin: bool, installs_operator_driver: bool, setting: str = "cluster.gpuPools"
) -> Iterator[Finding]:
    """Yield what is installed twice on GPU nodes, or not at all.

    Amazon Linux images have the driver and the container toolkit but no device plugin; Bottlerocket's have all three
    (EKS guide, ml-eks-optimized-ami and ml-eks-k8s-device-plugin).

    :param installs_device_plugin: Whether the stack installs NVIDIA's device plugin, alone or with the GPU operator.
    :param installs_operator_driver: Whether it has the GPU operator install the driver or the toolkit.
    """
    if not ami_type.endswith("_NVIDIA"):
        return
    has_plugin = _node_groups.has_device_plugin(ami_type)
    if installs_operator_driver:
        message = (
            f"{ami_type} has driver and container toolkit, and the GPU operator would install both again; set"
            " driver.enabled=false and toolkit.enabled=false"
        )
        yield Finding("DEVICE_PLUGIN", "error", setting, message, ("driver.enabled=false", "toolkit.enabled=false"))
    if has_plugin and installs_device_plugin:
        message = f"{ami_type} has a device plugin, and a second one would conflict with it; do not install one"
        yield Finding("DEVICE_PLUGIN", "error", setting, message)
    if not has_plugin and not installs_device_plugin:
        message = f"{ami_type} has no device plugin, so no node would offer nvidia.com/gpu; install one"
        yield Finding("DEVICE_PLUGIN", "error", setting, message, (ami_type.replace("AL2023", "BOTTLEROCKET"),))
