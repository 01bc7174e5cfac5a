"""The dashboard of costs: nodes by the prices that the stack gives, shared by the models that use them."""

from typing import Any

from llm_serving.observability.grafana.panels import (
    COUNT,
    USD,
    Ask,
    Panel,
    Row,
    Variable,
    dashboard,
    graph,
    number,
)
from llm_serving.observability.inputs import MonitoringInputs
from llm_serving.observability.promql import selector

UID = "llm-serving-cost"
HOURS_A_MONTH = 730


def cost(inputs: MonitoringInputs) -> dict[str, Any]:
    """The dashboard's JSON."""
    at = selector(inputs.in_namespace, 'model=~"$model"')
    return dashboard(
        UID,
        "LLM serving: cost",
        "What the environment costs by the hour, by the request and by the token. Prices are the stack's, without"
        " discounts.",
        variables=[Variable("model", "Model", "llm_serving:model_cost:usd_per_hour", "model")],
        rows=[
            Row("Now", _now()),
            Row("By the hour", _by_hour(at)),
            Row("By what is got for it", _by_use(at)),
        ],
    )


def _now() -> list[Panel]:
    total = "llm_serving:total_cost:usd_per_hour"
    unpriced = "unless on (pool, instance_type) llm_serving:instance_price:usd_per_hour"
    return [
        number("An hour", "All nodes, and what else the stack says it pays for.", USD, Ask(total), width=6),
        number("A month", f"The same for {HOURS_A_MONTH} hours.", USD, Ask(f"{total} * {HOURS_A_MONTH}"), width=6),
        number("Nodes", "Nodes that are there.", COUNT, Ask("sum(llm_serving:pool_nodes:count)"), width=6),
        number(
            "Nodes without a price",
            "Nodes that are missing from every cost here, because the stack gives no price for their type.",
            COUNT,
            Ask(f"sum(llm_serving:pool_nodes:count {unpriced}) or vector(0)"),
            width=6,
        ),
    ]


def _by_hour(at: str) -> list[Panel]:
    return [
        graph(
            "Cost by pool",
            "USD an hour of each pool's nodes.",
            USD,
            Ask("llm_serving:pool_cost:usd_per_hour", "{{pool}}"),
        ),
        graph(
            "Cost by model",
            "USD an hour: a pool's cost, shared by the GPUs that its models' pods have. Idle nodes are somebody's too.",
            USD,
            Ask(f"sum by (model) (llm_serving:model_cost:usd_per_hour{at})", "{{model}}"),
        ),
        graph(
            "Nodes by type",
            "Nodes of each pool and instance type.",
            COUNT,
            Ask("llm_serving:pool_nodes:count", "{{pool}} {{instance_type}}"),
        ),
    ]


def _by_use(at: str) -> list[Panel]:
    return [
        graph(
            "Cost of 1,000 requests",
            "A model's cost over an hour by the requests that it got in it, with those that the cache answered.",
            USD,
            Ask(f"llm_serving:model_cost_per_1000_requests:usd{at}", "{{model}}"),
            width=12,
        ),
        graph(
            "Cost of a million tokens",
            "A model's cost over an hour by the tokens that it read and generated in it.",
            USD,
            Ask(f"llm_serving:model_cost_per_million_tokens:usd{at}", "{{model}}"),
            width=12,
        ),
    ]
