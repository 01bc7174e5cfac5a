"""Which instance types of the catalog would do: what a finding about a GPU names as the way out."""

from collections.abc import Callable, Mapping
from functools import lru_cache

from llm_serving.capacity import catalog
from llm_serving.capacity.catalog import Gpu, InstanceType
from llm_serving.capacity.naming import joined

_NAMED = 4
"""Families that a message names: enough to choose from, short enough to read. `alternatives` has all."""


def _price(instance: InstanceType) -> tuple[float, str]:
    # Types without a known price come last: none is said to be cheap that might not be.
    return (float("inf") if instance.usd_per_hour is None else instance.usd_per_hour, instance.name)


class _Same:
    """A catalog, equal only to itself: a key for what was found in it."""

    __slots__ = ("instances",)

    def __init__(self, instances: Mapping[str, InstanceType]) -> None:
        self.instances = instances

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.instances is other.instances

    def __hash__(self) -> int:
        return id(self.instances)


def has_code(built: tuple[tuple[int, int], ...], capability: tuple[int, int]) -> bool:
    """Whether machine code for one of `built` runs on a GPU: the same major capability, no newer minor one."""
    return any(capability[0] == each[0] and each[1] <= capability[1] for each in built)


def families_from(
    minimum: tuple[int, int],
    *,
    nvlink: bool = False,
    built: tuple[tuple[int, int], ...] | None = None,
    listed: frozenset[str] | None = None,
) -> tuple[str, ...]:
    """Return the instance families with whole GPUs that would do, the one with the cheapest type first.

    Families that need another processor's images, or a node image that EKS does not make, are no way out.

    :param minimum: Compute capability that the GPUs must have.
    :param nvlink: Whether there must be several that NVLink joins.
    :param built: Capabilities that a runtime's image has machine code for, one of which must run on them.
    :param listed: Names of GPUs, of which they must be.
    """
    # A plan asks this for hundreds of placements, and the answers are few.
    return _families(_Same(catalog.instances()), minimum, nvlink, built, listed)


@lru_cache(maxsize=64)
def _families(
    known: _Same,
    minimum: tuple[int, int],
    nvlink: bool,
    built: tuple[tuple[int, int], ...] | None,
    listed: frozenset[str] | None,
) -> tuple[str, ...]:
    def suits(gpu: Gpu) -> bool:
        capable = gpu.compute_capability >= minimum and (built is None or has_code(built, gpu.compute_capability))
        wanted = (gpu.nvlink or not nvlink) and (listed is None or gpu.name in listed)
        return capable and wanted and not gpu.minimum_driver

    # A single GPU has nothing to be joined to.
    alone = 1 if nvlink else 0
    found = [
        each
        for each in known.instances.values()
        if each.gpus > alone and each.architecture == "x86_64" and suits(each.gpu)
    ]
    return tuple(dict.fromkeys(each.family for each in sorted(found, key=_price)))


def or_families(names: tuple[str, ...]) -> str:
    """End a message with families that would do: `; or run on g6, g5`; empty where the catalog has none."""
    return f"; or run on {joined(names[:_NAMED])}" if names else ""


def same_gpu(gpu: Gpu, counts: Callable[[int], bool]) -> list[InstanceType]:
    """Return the cheapest type for each number of whole GPUs of this model that suits, fewest GPUs first."""
    name = gpu.name.removesuffix("-fraction")
    cheapest: dict[int, InstanceType] = {}
    for each in catalog.instances().values():
        if each.gpu.name == name and each.gpus > 0 and counts(each.gpus):
            cheapest[each.gpus] = min(each, cheapest.get(each.gpus, each), key=_price)
    return [cheapest[count] for count in sorted(cheapest)]
