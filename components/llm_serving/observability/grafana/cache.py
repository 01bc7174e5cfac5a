"""The dashboard of the response cache: how often it answers, what that saves, and how it fails."""

from typing import Any

from llm_serving.observability.grafana.panels import (
    COUNT,
    PER_SECOND,
    RATIO,
    REQUESTS_PER_SECOND,
    SECONDS,
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
from llm_serving.observability.promql import narrowed, renamed, selector, zero_where_missing

UID = "llm-serving-cache"


def cache(inputs: MonitoringInputs) -> dict[str, Any]:
    """The dashboard's JSON."""
    at = selector(inputs.in_namespace, 'model=~"$model"')
    here = selector(inputs.in_namespace)
    return dashboard(
        UID,
        "LLM serving: cache",
        "The gateway's response cache.",
        variables=[Variable("model", "Model", "llm_gateway_cache_requests_total", "model")],
        rows=[
            Row("Now", _now(at, here)),
            Row("Answers", _answers(at)),
            Row("Savings", _savings(at)),
            Row("Faults", _faults(here)),
        ],
    )


def _requests(at: str, by: str) -> str:
    return f"sum by ({by}) (rate(llm_gateway_cache_requests_total{at}[$__rate_interval]))"


def _saved(at: str) -> str:
    saved = f"sum by (model) (rate(llm_gateway_cache_tokens_saved_total{at}[$__rate_interval]))"
    return zero_where_missing(saved, _requests(at, "model"))


def _now(at: str, here: str) -> list[Panel]:
    asked = narrowed(at, 'result=~"hit|miss"')
    saved = f"sum(increase(llm_gateway_cache_tokens_saved_total{at}[$__range]))"
    expiry = f"min(llm_gateway_cache_certificate_expiry_timestamp_seconds{here})"
    return [
        number(
            "Tokens saved",
            "Tokens of answers from the cache in the time that is shown: no model had to read or generate them.",
            COUNT,
            Ask(f"{saved} or vector(0)"),
            width=6,
        ),
        number(
            "Lookups",
            "Requests that the cache was asked for.",
            REQUESTS_PER_SECOND,
            Ask(f"sum(rate(llm_gateway_cache_requests_total{asked}[$__rate_interval]))"),
            width=6,
        ),
        number(
            "Gateway pods with the cache",
            "Share of the gateway's pods that use the cache.",
            RATIO,
            Ask(f"avg(llm_gateway_cache_available{here})"),
            width=6,
        ),
        number(
            "Certificate ends in",
            "Time left to the certificate that the cache showed; negative before the first connection over TLS.",
            SECONDS,
            Ask(f"{expiry} - time()"),
            width=6,
        ),
    ]


def _answers(at: str) -> list[Panel]:
    bypass = narrowed(at, 'result="bypass"')
    none = renamed(f"0 * {_requests(at, 'model')}", "reason", "none")
    return [
        graph(
            "Hit rate",
            "Share of lookups that the cache answers.",
            RATIO,
            Ask(f"llm_serving:cache_hits:ratio_rate5m{at}", "{{model}}"),
            maximum=1,
        ),
        graph(
            "Requests by result",
            "Requests a second by what the cache did with them.",
            REQUESTS_PER_SECOND,
            Ask(_requests(at, "result"), "{{result}}"),
        ),
        graph(
            "Lookups by meaning",
            "Lookups a second of the semantic tier, after an exact miss, by result; shadow_hit would have been a hit.",
            REQUESTS_PER_SECOND,
            Ask(
                f"sum by (result) (rate(llm_gateway_semantic_cache_lookups_total{at}[$__rate_interval]))", "{{result}}"
            ),
        ),
        graph(
            "Requests that pass it by",
            "Requests a second that the cache is not asked for, by the reason.",
            REQUESTS_PER_SECOND,
            Ask(f"{_requests(bypass, 'reason')} or sum by (reason) ({none})", "{{reason}}"),
        ),
    ]


def _savings(at: str) -> list[Panel]:
    price = f"sum by (model) (llm_serving:model_cost_per_million_tokens:usd{at})"
    return [
        graph(
            "Tokens saved by model",
            "Tokens a second in answers from the cache.",
            PER_SECOND,
            Ask(_saved(at), "{{model}}"),
            width=12,
        ),
        graph(
            "Cost saved",
            "USD an hour that these tokens would cost at the price that the model's other tokens have now.",
            USD,
            Ask(f"3600 * {_saved(at)} / 1000000 * {price}", "{{model}}"),
            width=12,
        ),
    ]


def _faults(here: str) -> list[Panel]:
    errors = f"sum by (operation) (rate(llm_gateway_cache_errors_total{here}[$__rate_interval]))"
    return [
        graph(
            "Failed operations",
            "Cache operations a second that fail, by what was tried. Requests are answered all the same.",
            PER_SECOND,
            Ask(
                f"{errors} or 0 * sum(rate(llm_gateway_cache_requests_total{here}[$__rate_interval]))", "{{operation}}"
            ),
            width=12,
        ),
        graph(
            "Pods that use the cache",
            "Whether each pod of the gateway has the cache in use.",
            COUNT,
            Ask(f"max by (pod) (llm_gateway_cache_available{here})", "{{pod}}"),
            maximum=1,
            width=12,
        ),
    ]
