"""What an autoscaler asks Prometheus, from the same table as dashboards and alerts.

An autoscaler on a name that the runtime no longer exports does nothing and says little: so the name is never written
by hand, and one that nothing exports is refused before anything is deployed.
"""

from llm_serving.observability import promql
from llm_serving.observability.runtime_metrics import runtime


def queue_query(namespace: str, model: str, runtime_name: str, runtime_version: str | None = None) -> str:
    """PromQL for the requests that wait in all pods of a model: one value, to be divided by the number of pods.

    It is 0 where the pods are scraped and none has had a request yet, and has no answer where none is scraped: to know
    nothing must not look like having nothing to do.

    Raises UnknownRuntimeError for a runtime or version that is not known or exports no queue length.
    """
    queue = runtime(runtime_name, runtime_version).require_queue()
    at = _of_model(namespace, model)
    return f"sum({queue}{at}) or sum(0 * (up{at} == 1))"


def kv_cache_query(namespace: str, model: str, runtime_name: str, runtime_version: str | None = None) -> str | None:
    """PromQL for the use of the KV cache, 0 to 1, on average over a model's pods; None where it isn't exported.

    It is 0, or has no answer, as `queue_query`. Raises UnknownRuntimeError for a runtime or version that is not known.
    """
    at = _of_model(namespace, model)
    usage = runtime(runtime_name, runtime_version).kv_usage(at)
    return None if usage is None else f"avg({usage}) or avg(0 * (up{at} == 1))"


def requests_query(namespace: str, model: str) -> str:
    """PromQL for the requests that a model answers, or that the gateway holds for it: what keeps or makes its only pod.

    It has no answer where no gateway is scraped.
    """
    # Of the gateway's pods: the label `model` is the one that they export.
    return f"sum(llm_gateway_model_requests_in_flight{_of_model(namespace, model)})"


def _of_model(namespace: str, model: str) -> str:
    return promql.selector(promql.one_of("namespace", [namespace]), promql.one_of("model", [model]))


def check(query: str) -> str:
    """Return a query of somebody's own if it asks for known metrics only; raises UnknownMetricError otherwise."""
    promql.sources(query)
    return query
