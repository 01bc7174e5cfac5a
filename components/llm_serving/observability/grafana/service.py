"""The dashboard of the service: what callers see, and what the models say of their load."""

from collections.abc import Callable, Iterator
from typing import Any

from llm_serving.observability.grafana.panels import (
    COUNT,
    PER_SECOND,
    RATIO,
    REQUESTS_PER_SECOND,
    SECONDS,
    Ask,
    Panel,
    Row,
    Variable,
    dashboard,
    graph,
    number,
)
from llm_serving.observability.inputs import MonitoringInputs, Slo
from llm_serving.observability.promql import any_of, narrowed, selector, zero_where_missing
from llm_serving.observability.recording import FAILED, slo_classes
from llm_serving.observability.runtime_metrics import RuntimeMetrics

UID = "llm-serving-service"
_MODEL = 'model=~"$model"'
_PERCENTILES = (50, 95, 99)


def service(inputs: MonitoringInputs) -> dict[str, Any]:
    """The dashboard's JSON."""
    at = selector(inputs.in_namespace, 'model!=""', _MODEL)
    return dashboard(
        UID,
        "LLM serving: service",
        "Traffic, latency, tokens, load and objectives of every model, measured in the gateway and in the runtimes.",
        variables=[Variable("model", "Model", "llm_gateway_requests_total", "model")],
        rows=[
            Row("Now", list(_now(at, selector(inputs.in_namespace)))),
            Row("Traffic", list(_traffic(inputs, at))),
            Row("Versions", list(_versions(at))),
            Row("Latency", list(_latency(inputs, at))),
            Row("Tokens", list(_tokens(at))),
            Row("Load", list(_load(inputs, at))),
            Row("Embeddings", list(_embeddings(inputs, at))),
            Row("Objectives", list(_objectives(inputs))),
        ],
    )


def _rate(counter: str, at: str, by: str = "model") -> str:
    return f"sum by ({by}) (rate({counter}{at}[$__rate_interval]))"


def _quantile(percent: int, histogram: str, at: str, by: str = "model") -> str:
    buckets = f"sum by ({by}, le) (rate({histogram}_bucket{at}[$__rate_interval]))"
    return f"histogram_quantile({percent / 100:g}, {buckets})"


def _percentiles(histogram: str, at: str) -> list[Ask]:
    return [Ask(_quantile(percent, histogram, at), f"{{{{model}}}} p{percent}") for percent in _PERCENTILES]


def _now(at: str, here: str) -> Iterator[Panel]:
    generated = narrowed(at, 'kind="completion"')
    yield number(
        "Requests",
        "Requests a second, all models together.",
        REQUESTS_PER_SECOND,
        Ask(f"sum(llm_serving:requests:rate5m{at})"),
    )
    yield number(
        "Failed",
        "Share of the requests of the last 5 minutes that were answered with 5xx, or with 429 by a full model; the"
        " worst model's.",
        RATIO,
        Ask(f"max(llm_serving:request_errors:ratio_rate5m{at})"),
    )
    yield number(
        "Time to first token",
        "95th percentile of streamed answers, measured in the gateway.",
        SECONDS,
        Ask(f"max({_quantile(95, 'llm_gateway_time_to_first_token_seconds', at)})"),
    )
    yield number(
        "Generated",
        "Tokens that the models generate a second.",
        PER_SECOND,
        Ask(f"sum({_rate('llm_gateway_tokens_total', generated)})"),
    )
    yield number(
        "Waiting",
        "Requests that wait in the models' queues.",
        COUNT,
        Ask(f"sum(llm_serving:queue_requests:sum{at})"),
    )
    yield number(
        "In flight",
        "Requests that the gateway's pods are answering.",
        COUNT,
        Ask(f"sum(llm_gateway_requests_in_flight{here})"),
    )


def _traffic(inputs: MonitoringInputs, at: str) -> Iterator[Panel]:
    yield graph(
        "Requests by model",
        "Requests a second that the gateway answered.",
        REQUESTS_PER_SECOND,
        Ask(f"llm_serving:requests:rate5m{at}", "{{model}}"),
    )
    yield graph(
        "Requests by status",
        "Requests a second by HTTP status; 499 is a caller that went away.",
        REQUESTS_PER_SECOND,
        Ask(_rate("llm_gateway_requests_total", at, "code"), "{{code}}"),
    )
    yield graph(
        "Failed requests",
        "Share of requests answered with 5xx, or with 429 by a model that is full.",
        RATIO,
        Ask(f"llm_serving:request_errors:ratio_rate5m{at}", "{{model}}"),
        maximum=1,
    )
    requests = _rate("llm_gateway_requests_total", at)
    deployments = selector(inputs.in_namespace, 'deployment=~"$model"')
    yield graph(
        "Upstream failures and retries",
        "Failures of an inference service towards the gateway, and requests that were sent again for one.",
        PER_SECOND,
        Ask(zero_where_missing(_rate("llm_gateway_upstream_errors_total", at), requests), "{{model}} failures"),
        Ask(zero_where_missing(_rate("llm_gateway_upstream_retries_total", at), requests), "{{model}} retries"),
        width=12,
    )
    yield graph(
        "Pods",
        "Pods of each model, as its Deployment counts them.",
        COUNT,
        Ask(f"max by (deployment) (kube_deployment_status_replicas{deployments})", "{{deployment}}"),
        width=12,
    )


def _versions(at: str) -> Iterator[Panel]:
    by = "model, version"
    requests, legend = _rate("llm_gateway_requests_total", at, by), "{{model}} {{version}}"
    failed = _rate("llm_gateway_requests_total", narrowed(at, FAILED), by)
    yield graph(
        "Requests by version",
        "Requests a second that each version answered.",
        REQUESTS_PER_SECOND,
        Ask(requests, legend),
        width=12,
    )
    yield graph(
        "Failed requests by version",
        "Share of each version's requests answered with 5xx, or with 429 because it is full.",
        RATIO,
        Ask(f"{zero_where_missing(failed, requests)} / ({requests} > 0)", legend),
        maximum=1,
        width=12,
    )
    for title, histogram in (
        ("Time to first token by version", "llm_gateway_time_to_first_token_seconds"),
        ("Time to the end of an answer by version", "llm_gateway_request_duration_seconds"),
    ):
        asked = Ask(_quantile(95, histogram, at, by), legend)
        yield graph(title, "95th percentile, measured in the gateway.", SECONDS, asked, width=12)


def _latency(inputs: MonitoringInputs, at: str) -> Iterator[Panel]:
    yield graph(
        "Time to first token by model",
        "From a streamed request's arrival at the gateway to the first bytes of its answer. Not every runtime measures"
        " it, so the gateway does.",
        SECONDS,
        *_percentiles("llm_gateway_time_to_first_token_seconds", at),
    )
    yield graph(
        "Time to the end of an answer",
        "From a request's arrival at the gateway to the last byte of its answer, streamed or not.",
        SECONDS,
        *_percentiles("llm_gateway_request_duration_seconds", at),
    )
    yield _of_runtimes(
        inputs,
        "Time for a token",
        "95th percentile of the time that a runtime takes for each token after the first.",
        lambda item: item.token_seconds,
        at,
    )
    yield _of_runtimes(
        inputs,
        "Time in the queue",
        "95th percentile of the wait before a request joins a batch.",
        lambda item: item.queue_seconds,
        at,
    )
    yield _of_runtimes(
        inputs,
        "Time in the runtime",
        "95th percentile of the time from a request's arrival at the runtime to its end.",
        lambda item: item.request_seconds,
        at,
    )


def _of_runtimes(
    inputs: MonitoringInputs, title: str, description: str, histogram: Callable[[RuntimeMetrics], str], at: str
) -> Panel:
    """A graph of the 95th percentile of a histogram that each runtime has under a name of its own."""
    asked = any_of(_quantile(95, name, at) for name in dict.fromkeys(histogram(item) for item in inputs.runtimes))
    return graph(title, description, SECONDS, Ask(asked, "{{model}}"))


def _tokens(at: str) -> Iterator[Panel]:
    for kind, title, verb in (("completion", "Tokens generated", "generate"), ("prompt", "Prompt tokens", "read")):
        matched = narrowed(at, f'kind="{kind}"')
        yield graph(
            title,
            f"Tokens a second that the models {verb}, as they report them. Answers from the cache are not in it.",
            PER_SECOND,
            Ask(_rate("llm_gateway_tokens_total", matched), "{{model}}"),
            width=12,
        )


def _load(inputs: MonitoringInputs, at: str) -> Iterator[Panel]:
    if any(item.queue for item in inputs.runtimes):
        yield graph(
            "Requests waiting",
            "Requests in the models' queues. Autoscaling follows the mean of a model's pods.",
            COUNT,
            Ask(f"llm_serving:queue_requests:sum{at}", "{{model}}"),
            Ask(f"llm_serving:queue_requests:avg{at}", "{{model}} mean of its pods"),
        )
    if any(item.running for item in inputs.runtimes):
        yield graph(
            "Requests running",
            "Requests that are in a batch.",
            COUNT,
            Ask(f"llm_serving:running_requests:sum{at}", "{{model}}"),
        )
    if any(item.kv_used for item in inputs.runtimes):
        yield graph(
            "KV cache in use",
            "Share of the KV cache that running requests take up, in the fullest pod of each model.",
            RATIO,
            Ask(f"llm_serving:kv_cache_usage:max{at}", "{{model}}"),
            maximum=1,
        )


def _embeddings(inputs: MonitoringInputs, at: str) -> Iterator[Panel]:
    if not inputs.embeddings:
        return
    legend = "{{model}}"
    yield graph(
        "Inputs embedded",
        "Inputs a second that the embedding services made vectors of, whoever asked.",
        PER_SECOND,
        Ask(_rate("llm_embedder_inputs_total", at), legend),
    )
    yield graph(
        "Tokens embedded",
        "Tokens a second that the embedding services read.",
        PER_SECOND,
        Ask(_rate("llm_embedder_tokens_total", at), legend),
    )
    yield graph(
        "Time for a request",
        "95th percentile, measured in the embedding services: in the queue, and computed.",
        SECONDS,
        Ask(_quantile(95, "llm_embedder_request_duration_seconds", at), legend),
    )
    yield graph(
        "Tokens that wait",
        "Tokens that wait or are computed, all pods of a service together.",
        COUNT,
        Ask(f"sum by (model) (llm_embedder_queued_tokens{at})", legend),
    )
    yield graph(
        "Inputs of a batch",
        "Inputs that are computed at once, on average: batches grow with the load.",
        COUNT,
        Ask(
            f"{_rate('llm_embedder_batch_inputs_sum', at)} / ({_rate('llm_embedder_batch_inputs_count', at)} > 0)",
            legend,
        ),
    )
    yield graph(
        "Refused and failed",
        "Requests a second that were refused as too much waits, and batches that could not be computed.",
        PER_SECOND,
        Ask(_rate("llm_embedder_requests_rejected_total", at), "{{model}} refused"),
        Ask(_rate("llm_embedder_batch_errors_total", at), "{{model}} failed batches"),
    )


def _objectives(inputs: MonitoringInputs) -> Iterator[Panel]:
    kinds: tuple[tuple[str, str, str, Callable[[Slo], float]], ...] = (
        ("Budget burn: failed requests", "request_errors", "fail", lambda slo: slo.availability),
        ("Budget burn: first tokens", "slow_first_tokens", "begin late", lambda slo: slo.first_token_ratio),
        ("Budget burn: whole answers", "slow_requests", "end late", lambda slo: slo.request_ratio),
    )
    for title, record, verb, ratio in kinds:
        yield graph(
            title,
            f"How many times faster than allowed answers {verb}, over an hour: at 1 the budget lasts exactly its 30"
            " days, at 14.4 it is gone in two.",
            COUNT,
            Ask(
                any_of(
                    f"llm_serving:{record}:ratio_rate1h{selector(inputs.in_namespace, matcher, _MODEL)}"
                    f" / {1 - ratio(slo):.6g}"
                    for matcher, slo in slo_classes(inputs)
                ),
                "{{model}}",
            ),
        )
