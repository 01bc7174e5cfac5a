"""Recording rules: what several dashboards, alerts and autoscalers ask for, computed once."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from llm_serving.observability.inputs import MonitoringInputs, Slo
from llm_serving.observability.promql import any_of, none_of, one_of, renamed, selector, zero_where_missing
from llm_serving.observability.runtime_metrics import RuntimeMetrics

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
"""The windows that the burn rate alerts compare."""
_BY_MODEL = "by (namespace, model)"
FAILED = 'code=~"5..|429"'
"""429 counts: a caller's own limits are enforced before the gateway, so one from here is a model that is full."""


@dataclass(frozen=True)
class Recording:
    """A recording rule."""

    record: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def rule(self) -> dict[str, object]:
        """The rule as PrometheusRule has it."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.record, "expr": self.expression, **labels}


def slo_classes(inputs: MonitoringInputs) -> Iterator[tuple[str, Slo]]:
    """Each different objective, with the matcher of the models that it is for."""
    own = {name: slo for name, slo in inputs.slos.items() if slo != inputs.slo}
    if len(own) < len(inputs.slos):
        yield none_of("model", own), inputs.slo
    by_slo: defaultdict[Slo, list[str]] = defaultdict(list)
    for name, slo in own.items():
        by_slo[slo].append(name)
    for slo, names in by_slo.items():
        yield one_of("model", names), slo


def _thresholds(inputs: MonitoringInputs, threshold: Callable[[Slo], float]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Each different threshold, with the matchers of its models."""
    by_value: defaultdict[float, list[str]] = defaultdict(list)
    for name, slo in inputs.slos.items():
        by_value[threshold(slo)].append(name)
    common = threshold(inputs.slo)
    for value, names in by_value.items():
        others = [name for name in inputs.slos if name not in names]
        yield (('model!=""', none_of("model", others)) if value == common else (one_of("model", names),)), value


def requests(inputs: MonitoringInputs) -> Iterator[Recording]:
    """Rates and shares of bad requests, for each window and model."""
    for window in WINDOWS:
        total = f"llm_serving:requests:rate{window}"
        at_model = selector(inputs.in_namespace, 'model!=""')
        failed = selector(inputs.in_namespace, 'model!=""', FAILED)
        yield Recording(total, f"sum {_BY_MODEL} (rate(llm_gateway_requests_total{at_model}[{window}]))")
        errors = f"sum {_BY_MODEL} (rate(llm_gateway_requests_total{failed}[{window}]))"
        yield Recording(
            f"llm_serving:request_errors:ratio_rate{window}",
            f"{zero_where_missing(errors, total)} / ({total} > 0)",
        )
        for record, histogram, threshold in (
            ("slow_first_tokens", "llm_gateway_time_to_first_token_seconds", _first_token_seconds),
            ("slow_requests", "llm_gateway_request_duration_seconds", _request_seconds),
        ):
            slower = [
                _slower(histogram, (inputs.in_namespace, *matchers), seconds, window)
                for matchers, seconds in _thresholds(inputs, threshold)
            ]
            yield Recording(f"llm_serving:{record}:ratio_rate{window}", any_of(slower))


def _first_token_seconds(slo: Slo) -> float:
    return slo.first_token_seconds


def _request_seconds(slo: Slo) -> float:
    return slo.request_seconds


def _slower(histogram: str, matchers: tuple[str, ...], seconds: float, window: str) -> str:
    """The share of a histogram's observations above `seconds`, which is one of its buckets."""
    within = selector(*matchers, f'le="{float(seconds)}"')
    all_of_them = selector(*matchers)
    return (
        f"1 - sum {_BY_MODEL} (rate({histogram}_bucket{within}[{window}]))"
        f" / (sum {_BY_MODEL} (rate({histogram}_count{all_of_them}[{window}])) > 0)"
    )


def runtimes(inputs: MonitoringInputs) -> Iterator[Recording]:
    """What the runtimes say of themselves, under one name for all of them."""
    at_model = selector(inputs.in_namespace, 'model!=""')

    def merged(ask: Callable[[RuntimeMetrics], str | None]) -> str:
        return any_of(asked for item in inputs.runtimes if (asked := ask(item)) is not None)

    queue = merged(lambda item: item.queue and item.queue + at_model)
    running = merged(lambda item: item.running and item.running + at_model)
    usage = merged(lambda item: item.kv_usage(at_model))
    if queue:
        yield Recording("llm_serving:queue_requests:sum", f"sum {_BY_MODEL} ({queue})")
        yield Recording("llm_serving:queue_requests:avg", f"avg {_BY_MODEL} ({queue})")
    if running:
        yield Recording("llm_serving:running_requests:sum", f"sum {_BY_MODEL} ({running})")
    if usage:
        yield Recording("llm_serving:kv_cache_usage:max", f"max {_BY_MODEL} ({usage})")


def gpus(_: MonitoringInputs) -> Iterator[Recording]:
    """Use of the GPUs' memory."""
    total = "(DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE + DCGM_FI_DEV_FB_RESERVED)"
    yield Recording("llm_serving:gpu_memory_usage:ratio", f"DCGM_FI_DEV_FB_USED / {total}")


def cache(inputs: MonitoringInputs) -> Iterator[Recording]:
    """How often the response cache answers, and how often it fails."""
    if not inputs.cache:
        return
    looked_up = selector(inputs.in_namespace, 'result=~"hit|miss"')
    hit = selector(inputs.in_namespace, 'result="hit"')
    asked = f"sum {_BY_MODEL} (rate(llm_gateway_cache_requests_total{looked_up}[5m]))"
    hits = f"sum {_BY_MODEL} (rate(llm_gateway_cache_requests_total{hit}[5m]))"
    yield Recording("llm_serving:cache_hits:ratio_rate5m", f"{zero_where_missing(hits, asked)} / ({asked} > 0)")
    worked = f"sum by (namespace) (rate(llm_gateway_cache_requests_total{looked_up}[5m]))"
    failed = f"sum by (namespace) (rate(llm_gateway_cache_errors_total{selector(inputs.in_namespace)}[5m]))"
    errors = zero_where_missing(failed, worked)
    yield Recording(
        "llm_serving:cache_errors:ratio_rate5m", f"{errors} / ({errors} + {zero_where_missing(worked, failed)} > 0)"
    )


def cost(inputs: MonitoringInputs) -> Iterator[Recording]:
    """What nodes cost, and what that makes for each model: a pool's cost is shared by the GPUs that its models have."""
    for pool in inputs.pools:
        for instance_type, price in pool.price_usd_per_hour.items():
            if price is not None:
                yield Recording(
                    "llm_serving:instance_price:usd_per_hour",
                    f"vector({price:g})",
                    {"pool": pool.name, "instance_type": instance_type},
                )
    for item, price in inputs.other_usd_per_hour.items():
        yield Recording("llm_serving:other_cost:usd_per_hour", f"vector({price:g})", {"item": item})
    nodes = renamed("kube_node_labels", "pool", "label_llm_serving_pool")
    nodes = renamed(nodes, "instance_type", "label_node_kubernetes_io_instance_type")
    yield Recording("llm_serving:pool_nodes:count", f"count by (pool, instance_type) ({nodes})")
    yield Recording(
        "llm_serving:pool_cost:usd_per_hour",
        "sum by (pool) (llm_serving:pool_nodes:count"
        " * on (pool, instance_type) llm_serving:instance_price:usd_per_hour)",
    )
    other = " + sum(llm_serving:other_cost:usd_per_hour)" if inputs.other_usd_per_hour else ""
    yield Recording("llm_serving:total_cost:usd_per_hour", f"sum(llm_serving:pool_cost:usd_per_hour){other}")
    yield from _model_cost(inputs)


def _model_cost(inputs: MonitoringInputs) -> Iterator[Recording]:
    by_pool: defaultdict[str, defaultdict[tuple[int, str | None], list[str]]] = defaultdict(lambda: defaultdict(list))
    for model in inputs.models:
        by_pool[model.pool][model.gpus, model.version_of].append(model.name)
    for service in inputs.embeddings:
        if service.gpus:
            by_pool[service.pool][service.gpus, None].append(service.name)
    for pool, alike in by_pool.items():
        counts = any_of(_gpus(inputs, names, of, each) for (each, of), names in alike.items())
        yield Recording("llm_serving:model_gpus:count", f"sum {_BY_MODEL} ({counts})", {"pool": pool})
    yield Recording(
        "llm_serving:model_cost:usd_per_hour",
        "llm_serving:model_gpus:count"
        " / on (pool) group_left () (sum by (pool) (llm_serving:model_gpus:count) > 0)"
        " * on (pool) group_left () llm_serving:pool_cost:usd_per_hour",
    )
    # Versions of a model may be in different pools.
    cost_of_model = f"sum {_BY_MODEL} (llm_serving:model_cost:usd_per_hour)"
    yield Recording(
        "llm_serving:model_cost_per_1000_requests:usd",
        f"1000 * {cost_of_model} / on (namespace, model) (3600 * llm_serving:requests:rate1h > 0)",
    )
    tokens = f"sum {_BY_MODEL} (rate(llm_gateway_tokens_total{selector(inputs.in_namespace)}[1h]))"
    yield Recording(
        "llm_serving:model_cost_per_million_tokens:usd",
        f"1000000 * {cost_of_model} / on (namespace, model) (3600 * {tokens} > 0)",
    )


def _gpus(inputs: MonitoringInputs, deployments: list[str], version_of: str | None, gpus_each: int) -> str:
    """The GPUs of some Deployments by model, which is the Deployment's name where it is not a version's."""
    replicas = f"kube_deployment_status_replicas{selector(inputs.in_namespace, one_of('deployment', deployments))}"
    if version_of is None:
        return f"{renamed(replicas, 'model', 'deployment')} * {gpus_each}"
    return f'label_replace({replicas}, "model", "{version_of}", "", "") * {gpus_each}'


GROUPS: Mapping[str, Callable[[MonitoringInputs], Iterable[Recording]]] = {
    "llm-serving.requests": requests,
    "llm-serving.runtimes": runtimes,
    "llm-serving.gpus": gpus,
    "llm-serving.cache": cache,
    "llm-serving.cost": cost,
}
"""The groups. A rule may read those before it in its own group, and those of other groups one evaluation later."""
