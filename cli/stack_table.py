"""A stack's plan on a terminal: services with a bar of a GPU's memory each, pools with their cost, findings."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import output
from cli.plan_stack import PRICES, PoolCost, StackPlan, monthly
from llm_serving.capacity.cost import usd


def show(planned: StackPlan, html: Path | None) -> None:
    """Print everything."""
    console = output.console()
    console.print(f"{planned.stack.name}, {planned.stack.region}", style="bold")
    console.print()
    console.print(services(planned))
    console.print()
    if any(placed.fit for placed in planned.services):
        console.print(memory(planned))
        console.print(legend(planned))
        console.print()
    if planned.stack.embeddings:
        console.print(embeddings(planned))
        console.print()
    console.print(pools(planned))
    console.print(PRICES, style="dim")
    console.print()
    _findings(console, planned)
    if html is not None:
        console.print(f"written to {html}")


def _table(*headings: str, numbers: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def services(planned: StackPlan) -> Table:
    """What runs where, and how much of it at once."""
    table = _table("service", "model", "on", numbers=("KV tokens", "context", "at once"))
    for placed in planned.services:
        service, result = placed.service, placed.fit
        model = service.model.name if service.model else f"{service.model_reference} (unknown)"
        split = f" x {service.nodes} nodes" if service.nodes > 1 else ""
        split += f" x {service.gpus} GPUs" if service.gpus > 1 else ""
        instance = placed.instance.name if placed.instance else "unknown type"
        counts = ["unknown", "unknown", "unknown"]
        if result is not None:
            at_once = f"{result.concurrent_requests} x {service.max_total_tokens}"
            counts = [str(result.kv_pool_tokens), str(result.max_context), at_once]
        table.add_row(service.name, model, f"{service.replicas_text}{split} on {instance} ({service.pool})", *counts)
    return table


def embeddings(planned: StackPlan) -> Table:
    """Embedding services, and what each of their pods asks for."""
    table = _table("embedding service", "on", numbers=("CPUs", "MiB"))
    for service in planned.stack.embeddings.values():
        on = "1 GPU" if service.gpus else "CPUs"
        cpus = f"{service.cpu_millicores / 1000:g}"
        table.add_row(service.name, f"{service.replicas} on {on} ({service.pool})", cpus, str(service.memory_mib))
    return table


def memory(planned: StackPlan) -> Table:
    """A bar for the memory of one GPU of each service, and the same as numbers."""
    table = _table("memory of a GPU", "", numbers=("GiB", "usable", "weights", "overhead", "KV cache"))
    for placed in planned.services:
        if placed.fit is None:
            continue
        budget = placed.fit.per_gpu
        bar = Text()
        for text, part in output.segments(budget, unicode=output.unicode()):
            bar.append(text, style=part.colour)
        sizes = (budget.total, budget.usable, budget.weights, budget.overhead, budget.kv_cache)
        table.add_row(placed.service.name, bar, *(f"{size:.1f}" for size in sizes))
    return table


def legend(planned: StackPlan) -> Text:
    """What the shapes of a bar mean."""
    text = Text()
    for part in output.legend(placed.fit.per_gpu for placed in planned.services if placed.fit):
        text.append(output.glyph(part), style=part.colour).append(f" {part.name}  ")
    return text


def pools(planned: StackPlan) -> Table:
    """A row for each GPU pool, and one for all."""
    table = _table("pool", "instances", numbers=("USD/h", "USD/month", "USD/h at most"))
    for cost in planned.pools:
        table.add_row(*_pool(cost))
    hourly = planned.usd_per_hour
    table.add_row("all", "", usd(hourly), usd(monthly(hourly)), usd(planned.most_usd_per_hour))
    return table


def _pool(cost: PoolCost) -> list[str]:
    pool = cost.pool
    others = f" (or {', '.join(pool.instance_types[1:])})" if len(pool.instance_types) > 1 else ""
    spot = ", spot" if pool.capacity_type == "SPOT" else ""
    sizes = f"{pool.desired_size} of {pool.min_size} to {pool.max_size} x {cost.instance}{others}{spot}"
    return [pool.name, sizes, usd(cost.now), usd(monthly(cost.now)), usd(cost.most)]


def _findings(console: Console, planned: StackPlan) -> None:
    if not planned.findings:
        console.print("no findings")
        return
    output.emit(output.finding_lines(planned.findings))
    console.print("a preview would refuse this stack" if planned.refused else "nothing stops a preview")
