"""Dashboards, alerts and recording rules of an environment, as data: pure functions of what the environment has.

`rules(inputs)` is the spec of a PrometheusRule, `dashboards(inputs)` the JSON of each Grafana dashboard. Both use
metrics of one table only (`metrics.py`, `runtime_metrics.py`), which autoscalers share.
"""

import importlib
from typing import Any

from llm_serving.observability.inputs import (
    InputsError,
    MonitoredEmbedding,
    MonitoredModel,
    MonitoredPool,
    MonitoringInputs,
    Slo,
    Thresholds,
)
from llm_serving.observability.metric import Kind, Metric, Source
from llm_serving.observability.metrics import NODE_LABEL_ALLOWLIST, UnknownMetricError
from llm_serving.observability.queries import Query, queries
from llm_serving.observability.rules import expressions, needs, rules
from llm_serving.observability.runtime_metrics import RuntimeMetrics, UnknownRuntimeError, runtime

__all__ = [
    "NODE_LABEL_ALLOWLIST",
    "InputsError",
    "Kind",
    "Metric",
    "MonitoredEmbedding",
    "MonitoredModel",
    "MonitoredPool",
    "MonitoringInputs",
    "Query",
    "RuntimeMetrics",
    "Slo",
    "Source",
    "Thresholds",
    "UnknownMetricError",
    "UnknownRuntimeError",
    "dashboards",
    "expressions",
    "needs",
    "queries",
    "rules",
    "runtime",
]


def dashboards(inputs: MonitoringInputs) -> dict[str, dict[str, Any]]:
    """The JSON of each Grafana dashboard by its uid. Without a response cache there is none for it."""
    # Grafana's SDK takes longer to load than all the rest, which most callers don't need it for.
    return importlib.import_module("llm_serving.observability.grafana").dashboards(inputs)
