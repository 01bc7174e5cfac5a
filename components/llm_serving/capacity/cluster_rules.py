"""Whether a stack's node groups hold what is to run on them, through rollouts and upgrades too."""

import bisect
from collections.abc import Iterator, Sequence

from llm_serving.capacity import catalog, nodes
from llm_serving.capacity.catalog import InstanceType
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.nodes import Room
from llm_serving.capacity.stack import Embedding, Pool, Service, Stack

SYSTEM_POOL = Check(
    "SYSTEM_POOL_ONE_NODE", "warning", "Cluster DNS and the gateway stop with the only system node.", ("F18",)
)
INSTANCE_UNKNOWN = Check(
    "POOL_INSTANCE_UNKNOWN", "unchecked", "An instance type is not in the catalog, so nothing about it is checked."
)
MIXED = Check("POOL_MIXED", "error", "The instance types of a pool have different GPUs, numbers of them or memory.")
POD = Check("POOL_POD_TOO_LARGE", "error", "A pod asks for more CPU or memory than an empty node of its pool has.")
TOO_SMALL = Check("POOL_TOO_SMALL", "error", "All pods of a pool need more nodes than it may have.")
MAXIMUM = Check(
    "SCALING_MAX_REPLICAS", "error", "An autoscaled model may have more pods than the nodes of its pool can hold."
)
NODES_NOW = Check(
    "POOL_NODES_NOW", "warning", "All pods of a pool need more nodes than it has now, and no autoscaler adds any."
)
UNUSED = Check("POOL_UNUSED", "warning", "A pool keeps GPU nodes that no model uses.")
ROLLOUT = Check(
    "ROLLOUT_ONE_REPLICA", "warning", "The only replica of a model stops in every rollout and node upgrade.", ("F28",)
)
SPREAD = Check("ROLLOUT_ONE_NODE", "warning", "All replicas of a model fit one node, and stop when it does.", ("F28",))
CHECKS = (SYSTEM_POOL, INSTANCE_UNKNOWN, MIXED, POD, TOO_SMALL, MAXIMUM, NODES_NOW, UNUSED, ROLLOUT, SPREAD)

SHARED_MEMORY_MIB_PER_GPU = 1024
"""What the chart adds to a pod's memory for /dev/shm, for each GPU where there are several."""


def check(stack: Stack) -> Iterator[Finding]:
    """Yield what is wrong with the node groups and what runs on them."""
    if stack.system_pool.min_size < 2:
        yield Finding(
            SYSTEM_POOL.code,
            SYSTEM_POOL.severity,
            "cluster.systemPool.minSize",
            f"{stack.system_pool.min_size} node runs cluster DNS and the gateway alone; nearest valid value: 2",
            ("2",),
        )
    for pool in stack.gpu_pools.values():
        services = [service for service in stack.workloads if service.pool == pool.name]
        yield from _pool(pool, services)
    for service in stack.workloads:
        if service.replicas == 1:
            # On CPUs a rollout starts a new pod first.
            stops = (
                "rollout, for as long as its weights take to load" if service.gpus else "of those, until another runs"
            )
            yield Finding(
                ROLLOUT.code,
                ROLLOUT.severity,
                f"{service.setting}.{'replicas' if service.max_replicas is None else 'autoscaling.minReplicas'}",
                f"1 replica has no disruption budget, which would block node upgrades, and stops in each {stops};"
                " nearest valid value: 2",
                ("2",),
            )


def instances(pool: Pool) -> list[InstanceType]:
    """Return the pool's instance types that the catalog has."""
    known = catalog.instances()
    return [known[name] for name in pool.instance_types if name in known]


def pod(service: Service | Embedding) -> Room:
    """Return what one pod of a service asks for, as `llm_serving._values` makes it."""
    shared_mib = SHARED_MEMORY_MIB_PER_GPU * service.gpus if service.gpus > 1 else 0
    return Room(service.gpus, service.cpu_millicores, service.memory_mib + shared_mib)


def _pods_of(service: Service | Embedding) -> list[Room]:
    return [pod(service)] * (service.replicas * service.nodes)


def _counted(service: Service | Embedding) -> str:
    spans = f" on {service.nodes} nodes each" if service.nodes > 1 else ""
    return f"{service.replicas} of {service.name}{spans}"


def _pool(pool: Pool, services: Sequence[Service | Embedding]) -> Iterator[Finding]:
    setting = f"cluster.gpuPools.{pool.name}"
    known = instances(pool)
    for name in pool.instance_types:
        if name not in catalog.instances():
            yield Finding(
                INSTANCE_UNKNOWN.code,
                INSTANCE_UNKNOWN.severity,
                f"{setting}.instanceTypes",
                f"{name} is not in the catalog of instance types, so what fits it is not known",
            )
    if not services:
        if pool.min_size:
            yield Finding(
                UNUSED.code,
                UNUSED.severity,
                f"{setting}.minSize",
                f"{pool.min_size} nodes run for no model; nearest valid value: 0",
                ("0",),
            )
        return
    if known:
        yield from _mixed(setting, known)
        yield from _pods(pool, setting, services, known)


def _mixed(setting: str, known: Sequence[InstanceType]) -> Iterator[Finding]:
    """A pod is sized for one kind of node: on another it doesn't fit, or wastes what it pays for."""
    kinds = {instance.name: f"{instance.gpus} x {instance.gpu.name}" for instance in known}
    if len(set(kinds.values())) > 1:
        same = [name for name, kind in kinds.items() if kind == kinds[known[0].name]]
        yield Finding(
            MIXED.code,
            MIXED.severity,
            f"{setting}.instanceTypes",
            f"{', '.join(f'{name} has {kind}' for name, kind in kinds.items())};"
            f" nearest valid value: [{', '.join(same)}]",
            tuple(same),
        )


def _pods(
    pool: Pool, setting: str, services: Sequence[Service | Embedding], known: Sequence[InstanceType]
) -> Iterator[Finding]:
    smallest = min(known, key=lambda instance: (instance.gpus, instance.memory_gib, instance.vcpus))
    node = nodes.allocatable(smallest)
    fitting: list[Service | Embedding] = []
    for service in services:
        problems = list(_too_large(service, smallest, node))
        yield from problems
        # More GPUs than the node has is what the rules of tensor parallelism report.
        if not problems and service.gpus <= node.gpus:
            fitting.append(service)
    needed = nodes.nodes_needed(node, [each for service in fitting for each in _pods_of(service)])
    if needed is None or not fitting:
        return
    # The pods of a replica that spans nodes are kept apart, however small they are.
    needed = max(needed, *(service.nodes for service in fitting))
    pods = ", ".join(_counted(service) for service in fitting)
    if needed > pool.max_size:
        yield Finding(
            TOO_SMALL.code,
            TOO_SMALL.severity,
            f"{setting}.maxSize",
            f"{pool.max_size} nodes of {smallest.name} don't hold {pods}: {needed} are needed;"
            f" nearest valid value: {needed}",
            (str(needed),),
        )
    elif needed > pool.desired_size and not pool.autoscaled:
        yield Finding(
            NODES_NOW.code,
            NODES_NOW.severity,
            f"{setting}.desiredSize",
            f"{pool.desired_size} nodes of {smallest.name} don't hold {pods}: {needed} are needed, and pods wait until"
            f" somebody adds them; nearest valid value: {needed}",
            (str(needed),),
        )
    if needed <= pool.max_size:
        yield from _most(pool, smallest.name, fitting, node)
    yield from _spread(pool, setting, fitting, node)


def _most(pool: Pool, instance: str, services: Sequence[Service | Embedding], node: Room) -> Iterator[Finding]:
    """Each autoscaled model alone at its most, beside the fewest of the others: pods that no node takes stay pending.

    That all are at their most at once is what a shared pool need not hold.
    """
    for service in services:
        others = [each for other in services if other is not service for each in _pods_of(other)]
        counts = range(service.replicas, service.most_replicas + 1)
        held = _held(counts, node, others, pod(service), pool.max_size)
        if held < service.most_replicas:
            yield Finding(
                MAXIMUM.code,
                MAXIMUM.severity,
                f"models.{service.name}.autoscaling.maxReplicas",
                f"{service.most_replicas} is more than the {held} that {pool.max_size} nodes of {instance} hold, the"
                f" most of cluster.gpuPools.{pool.name}.maxSize; nearest valid value: {held}",
                (str(held),),
            )


def _held(counts: range, node: Room, others: Sequence[Room], one: Room, most_nodes: int) -> int:
    """The last of `counts` for which so many pods and the others fit the nodes; they fit for the first."""
    fitting = bisect.bisect_right(
        counts, most_nodes, key=lambda count: nodes.nodes_needed(node, [*others, *[one] * count]) or 0
    )
    return counts[max(0, fitting - 1)]


def _too_large(service: Service | Embedding, instance: InstanceType, node: Room) -> Iterator[Finding]:
    asked = pod(service)
    shared = asked.memory_mib - service.memory_mib
    if asked.cpu_millicores > node.cpu_millicores:
        yield Finding(
            POD.code,
            POD.severity,
            f"{service.setting}.cpuMillicores",
            f"{asked.cpu_millicores} is more than the {node.cpu_millicores} that a node of {instance.name} has for"
            f" pods; nearest valid value: {node.cpu_millicores}",
            (str(node.cpu_millicores),),
        )
    if asked.memory_mib > node.memory_mib:
        most = max(0, node.memory_mib - shared)
        beside = f" and {shared} of shared memory" if shared else ""
        yield Finding(
            POD.code,
            POD.severity,
            f"{service.setting}.memoryMib",
            f"{service.memory_mib}{beside} is more than the {node.memory_mib} MiB that a node of {instance.name} has"
            f" for pods; nearest valid value: {most}",
            (str(most),),
        )


def _spread(pool: Pool, setting: str, services: Sequence[Service | Embedding], node: Room) -> Iterator[Finding]:
    """Replicas of one model on a single node are as good as one when the node fails."""
    for service in services:
        if service.replicas > 1 and pool.max_size == 1:
            yield Finding(
                SPREAD.code,
                SPREAD.severity,
                f"{setting}.maxSize",
                f"1 node runs all {service.replicas} replicas of {service.name}, and has"
                f" {node.gpus} GPUs for them; nearest valid value: 2",
                ("2",),
            )
