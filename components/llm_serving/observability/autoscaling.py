"""What an autoscaler asks Prometheus, from the same table as dashboards and alerts.

An autoscaler on a name that the runtime no longer exports does nothing and says little: so the name is never written
by hand, and one that nothing exports is refused before anything is deployed.
"""

from llm_serving.observability import promql
from llm_serving.observability.runtime_metrics import runtime


def queue_query(namespace: str, model: str, runtime_name: str, runtime_version: str | None = None) -> str:
    """PromQL for the requests that wait in all pods of a model: one value, to be divided by the number of pods.

    Raises UnknownRuntimeError for a runtime or version that is not known or exports no queue length.
    """
    queue = runtime(runtime_name, runtime_version).require_queue()
    at = promql.selector(promql.one_of("namespace", [namespace]), promql.one_of("model", [model]))
    return f"sum({queue}{at})"


def check(query: str) -> str:
    """Return a query of somebody's own if it asks for known metrics only; raises UnknownMetricError otherwise."""
    promql.sources(query)
    return query
