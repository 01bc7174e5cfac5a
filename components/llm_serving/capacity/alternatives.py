"""Which instance types would do for a model that does not fit where it was placed."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from llm_serving.capacity import catalog, legality, parallelism
from llm_serving.capacity.catalog import InstanceType
from llm_serving.capacity.fit import fit
from llm_serving.capacity.placement import Placement


def cheapest(placement: Placement, most: int) -> list[Placement]:
    """Return the placement on up to `most` other instance types, the cheapest first, those of unknown price last.

    Each has the fewest GPUs that the runtime can split the model over and that hold one longest sequence, on one node,
    and breaks no rule of legality. Of types with the same GPUs, only the cheapest is named.
    """
    inherent = _inherent_problems(placement)
    # What the same GPUs and memory cannot hold on one type they cannot hold on another.
    done: set[tuple[str, int, int]] = set()
    found: list[Placement] = []
    for instance in _by_price():
        machine = (instance.gpu.name, instance.gpus, instance.gpu_memory_mib)
        if machine in done:
            continue
        done.add(machine)
        other = next((each for each in _on(instance, placement) if _would_do(each, inherent)), None)
        if other is not None:
            found.append(other)
            if len(found) == most:
                break
    return found


@lru_cache
def _by_price() -> tuple[InstanceType, ...]:
    whole = [instance for instance in catalog.instances().values() if instance.gpus > 0]
    return tuple(sorted(whole, key=lambda instance: (instance.usd_per_hour is None, instance.usd_per_hour or 0)))


def _on(instance: InstanceType, placement: Placement) -> Iterator[Placement]:
    sizes = parallelism.legal_sizes(placement.model, placement.runtime.name, instance.gpus)
    # More GPUs hold more: where the most do not hold it, fewer don't.
    if fit(replace(placement, instance=instance, gpus=sizes[-1], nodes=1)).fits:
        for gpus in sizes:
            yield replace(placement, instance=instance, gpus=gpus, nodes=1)


def _would_do(placement: Placement, inherent: frozenset[str]) -> bool:
    return fit(placement).fits and _problems(placement) <= inherent


def _inherent_problems(placement: Placement) -> frozenset[str]:
    """What is wrong wherever it runs, as in a limit on tokens: that is no reason against an instance type."""
    mine = placement.instance.gpu.name
    other = next(instance for instance in _by_price() if instance.gpu.name != mine)
    newest = max(_by_price(), key=lambda instance: (instance.gpu.name != mine, instance.gpu.compute_capability))
    elsewhere = [_problems(replace(placement, instance=instance)) for instance in (other, newest)]
    return _problems(placement).intersection(*elsewhere)


def _problems(placement: Placement) -> frozenset[str]:
    return frozenset(str(finding) for finding in legality.check(placement) if finding.severity == "error")
