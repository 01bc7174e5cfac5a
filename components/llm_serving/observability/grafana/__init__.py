"""Grafana dashboards, built with Grafana's own SDK: the same inputs give the same JSON, under the same uids."""

from typing import Any

from llm_serving.observability.grafana import cache, cost, gpu, service
from llm_serving.observability.inputs import MonitoringInputs


def dashboards(inputs: MonitoringInputs) -> dict[str, dict[str, Any]]:
    """Each dashboard's JSON by its uid. Without a response cache there is none for it."""
    made = [service.service(inputs), gpu.gpu(inputs), cost.cost(inputs)]
    if inputs.cache:
        made.append(cache.cache(inputs))
    return {str(document["uid"]): document for document in made}
