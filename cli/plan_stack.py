"""`llm-serving plan --stack`: what a stack runs where, with how much room, what that costs, and what is wrong."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cli import output
from cli.inputs import FILE, refuse
from cli.stack_file import project, settings, stack_name
from infra.checks import stack_of
from llm_serving.capacity import catalog, checks, cloud
from llm_serving.capacity.catalog import InstanceType
from llm_serving.capacity.cloud_facts import CloudFacts
from llm_serving.capacity.cost import HOURS_PER_MONTH
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.fit import Fit, fit
from llm_serving.capacity.stack import Embedding, Pool, Service, Stack

PRICES = "GPU nodes only, on demand in us-east-1"
"""What a cost of a plan is the cost of."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A service on the instance type that its pool wants most."""

    service: Service
    instance: InstanceType | None
    """None where the catalog does not have the type."""
    fit: Fit | None
    """None where the model or the type is not known."""


@dataclass(frozen=True, slots=True)
class PoolCost:
    """What a pool costs, in USD per hour; None where the price is unknown."""

    pool: Pool
    instance: str
    """The type that it wants most, and whose price counts."""
    now: float | None
    """With the desired nodes."""
    most: float | None
    """With as many nodes as it may have."""


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What there is to say about a stack."""

    stack: Stack
    services: Sequence[Placed]
    pools: Sequence[PoolCost]
    findings: Sequence[Finding]

    @property
    def usd_per_hour(self) -> float | None:
        """Of all GPU pools with their desired nodes; None where a price is unknown."""
        return _sum([pool.now for pool in self.pools])

    @property
    def most_usd_per_hour(self) -> float | None:
        """Of all GPU pools with as many nodes as they may have; None where a price is unknown."""
        return _sum([pool.most for pool in self.pools])

    @property
    def refused(self) -> bool:
        """Whether a finding would stop a preview."""
        return any(finding.severity == "error" for finding in self.findings)


def _sum(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def monthly(hourly: float | None) -> float | None:
    """USD per month of 730 hours, as AWS's calculator has it."""
    return None if hourly is None else hourly * HOURS_PER_MONTH


def plan(stack: Stack, findings: Sequence[Finding]) -> StackPlan:
    """Place every service, and price every pool."""
    known = catalog.instances()
    return StackPlan(
        stack=stack,
        services=[_placed(stack, service, known) for service in stack.services.values()],
        pools=[_cost(pool, known) for pool in stack.gpu_pools.values()],
        findings=findings,
    )


def _placed(stack: Stack, service: Service, known: Mapping[str, InstanceType]) -> Placed:
    instance = known.get(stack.gpu_pools[service.pool].instance_types[0])
    found = (each for each in checks.placements(stack, service) if each.instance == instance)
    placement = next(found, None)
    return Placed(service, instance, fit(placement) if placement else None)


def _cost(pool: Pool, known: Mapping[str, InstanceType]) -> PoolCost:
    name = pool.instance_types[0]
    price = known[name].usd_per_hour if name in known else None
    return PoolCost(
        pool,
        name,
        None if price is None else price * pool.desired_size,
        None if price is None else price * pool.max_size,
    )


def plan_json(planned: StackPlan) -> dict[str, Any]:
    """The plan for a program."""
    return {
        "stack": planned.stack.name,
        "region": planned.stack.region,
        "services": [_service_json(placed) for placed in planned.services],
        "embeddings": [_embedding_json(service) for service in planned.stack.embeddings.values()],
        "pools": [_pool_json(cost) for cost in planned.pools],
        "usd_per_hour": planned.usd_per_hour,
        "usd_per_month": monthly(planned.usd_per_hour),
        "most_usd_per_hour": planned.most_usd_per_hour,
        "prices": PRICES,
        "findings": output.findings_json(planned.findings),
    }


def _service_json(placed: Placed) -> dict[str, Any]:
    service, result = placed.service, placed.fit
    return {
        "name": service.name,
        "model": service.model.name if service.model else None,
        "runtime": service.runtime,
        "pool": service.pool,
        "instance": placed.instance.name if placed.instance else None,
        "replicas": service.replicas,
        "max_replicas": service.most_replicas,
        "tensor_parallel": service.gpus,
        "nodes": service.nodes,
        "quantization": service.quantization,
        "max_total_tokens": service.max_total_tokens,
        "fits": result.fits if result else None,
        "kv_pool_tokens": result.kv_pool_tokens if result else None,
        "max_context": result.max_context if result else None,
        "concurrent_requests": result.concurrent_requests if result else None,
        "per_gpu_gib": output.budget_json(result.per_gpu) if result else None,
    }


def _embedding_json(service: Embedding) -> dict[str, Any]:
    return {
        "name": service.name,
        "pool": service.pool,
        "gpus": service.gpus,
        "replicas": service.replicas,
        "cpu_millicores": service.cpu_millicores,
        "memory_mib": service.memory_mib,
    }


def _pool_json(cost: PoolCost) -> dict[str, Any]:
    return {
        "name": cost.pool.name,
        "instance": cost.instance,
        "nodes": cost.pool.desired_size,
        "most_nodes": cost.pool.max_size,
        "usd_per_hour": cost.now,
        "usd_per_month": monthly(cost.now),
        "most_usd_per_hour": cost.most,
    }


def run(given: argparse.Namespace, today: date) -> int:
    """Plan a stack file, print it, and return the exit status: 1 where a finding would stop a preview."""
    path: Path = given.stack
    read = settings(path)
    stack = stack_of(read, stack_name(path), project(path))
    if given.account:
        facts = cloud.gather(stack, account_id=read.aws.account_id)
    else:
        facts = CloudFacts.unchecked("the account is only asked with --account")
    planned = plan(stack, checks.check(stack, today=today, cloud=facts))
    if given.html is not None:
        from cli import stack_page  # noqa: PLC0415

        _write(given.html, stack_page.write(planned))
    if given.as_json:
        output.emit_json(plan_json(planned))
    else:
        from cli import stack_table  # noqa: PLC0415  a program's answer does without

        stack_table.show(planned, given.html)
    return 1 if planned.refused else 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise refuse(FILE, "--html", f"{path} cannot be written: {error.strerror}") from None
