"""A stack's plan as a page: what `stack_table` shows on a terminal, with a chart in place of the bars."""

from cli import output
from cli.page import Bar, Table, page
from cli.plan_stack import PRICES, Placed, PoolCost, StackPlan, monthly
from llm_serving.capacity.cost import usd


def write(planned: StackPlan) -> str:
    """The page."""
    hourly = planned.usd_per_hour
    verdict = "A preview would refuse this stack." if planned.refused else "Nothing stops a preview."
    summary = [
        f"{planned.stack.region}, Kubernetes {planned.stack.kubernetes_version}. {verdict}",
        f"USD {usd(hourly)} an hour, {usd(monthly(hourly))} a month. {PRICES}.",
    ]
    bars = [bar for placed in planned.services if (bar := _bar(placed))]
    tables = [("Services", _services(planned)), ("GPU pools", _pools(planned))]
    if planned.stack.embeddings:
        tables.insert(1, ("Embedding services", _embeddings(planned)))
    return page(f"Plan of stack {planned.stack.name}", summary, bars, tables, planned.findings)


def _bar(placed: Placed) -> Bar | None:
    if placed.fit is None or placed.instance is None:
        return None
    budget = placed.fit.per_gpu
    gpus = f", 1 of {placed.service.gpus} GPUs" if placed.service.gpus > 1 else ""
    detail = f"{placed.instance.name}, {placed.instance.gpu.name}{gpus}"
    return Bar(placed.service.name, detail, output.parts(budget), budget.total, budget.usable)


def _services(planned: StackPlan) -> Table:
    headings = [
        *("service", "model", "runtime", "instance", "replicas", "GPUs each"),
        *(
            "GiB of a GPU",
            "usable",
            "weights",
            "overhead",
            "KV cache",
            "KV tokens",
            "longest context",
            "requests at once",
        ),
    ]
    return Table(headings, [_service(placed) for placed in planned.services], frozenset(range(4, len(headings))))


def _service(placed: Placed) -> list[str]:
    service, result = placed.service, placed.fit
    head = [
        service.name,
        service.model.name if service.model else f"{service.model_reference} (unknown)",
        service.runtime,
        placed.instance.name if placed.instance else "unknown",
        service.replicas_text,
        str(service.gpus),
    ]
    if result is None:
        return [*head, *["unknown"] * 8]
    budget = result.per_gpu
    sizes = (budget.total, budget.usable, budget.weights, budget.overhead, budget.kv_cache)
    tokens = (result.kv_pool_tokens, result.max_context, result.concurrent_requests)
    return [*head, *(f"{size:.1f}" for size in sizes), *(str(count) for count in tokens)]


def _embeddings(planned: StackPlan) -> Table:
    headings = ["service", "pool", "replicas", "GPUs each", "CPUs each", "MiB each"]
    rows = [
        [
            *(service.name, service.pool, str(service.replicas), str(service.gpus)),
            *(f"{service.cpu_millicores / 1000:g}", str(service.memory_mib)),
        ]
        for service in planned.stack.embeddings.values()
    ]
    return Table(headings, rows, frozenset(range(2, len(headings))))


def _pools(planned: StackPlan) -> Table:
    headings = ["pool", "instance", "nodes", "at most", "USD an hour", "USD a month", "USD an hour at most"]
    total = planned.usd_per_hour
    rows = [
        *(_pool(cost) for cost in planned.pools),
        ["all", "", "", "", usd(total), usd(monthly(total)), usd(planned.most_usd_per_hour)],
    ]
    return Table(headings, rows, frozenset(range(2, len(headings))))


def _pool(cost: PoolCost) -> list[str]:
    pool = cost.pool
    sizes = [str(pool.desired_size), str(pool.max_size)]
    return [pool.name, cost.instance, *sizes, usd(cost.now), usd(monthly(cost.now)), usd(cost.most)]
