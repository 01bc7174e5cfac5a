"""How many pods a model has, by what waits for it: its numbers, checked, as the chart's ScaledObject wants them."""

from dataclasses import dataclass
from typing import Any

from llm_serving import _checks
from llm_serving.observability.autoscaling import kv_cache_query, queue_query, requests_query

MOST_WAITING = 16
"""Above this many waiting requests in each pod the alert LlmAutoscalerIdle says that the autoscaler should have acted
(`observability.inputs.Thresholds.queue_per_pod`)."""

NEVER = "1000000"
"""A threshold that nothing reaches."""


@dataclass(frozen=True)
class Scaling:
    """Between which numbers of pods a model is kept, and by what."""

    min_replicas: int
    max_replicas: int
    queue_target: int
    """Requests that may wait for each pod."""
    kv_cache_target_percent: int
    """Use of the pods' KV caches, in percent."""
    scale_up_stabilization_seconds: int
    scale_down_stabilization_seconds: int


def checked(
    *,
    min_replicas: float = 1,
    max_replicas: float,
    queue_target: float = 8,
    kv_cache_target_percent: float = 80,
    scale_up_stabilization_seconds: float = 30,
    scale_down_stabilization_seconds: float = 300,
) -> Scaling:
    """Return the numbers as whole ones within their ranges; raises ValueError for one that isn't."""
    least = _checks.whole("min_replicas", min_replicas, low=0, high=1000)
    most = _checks.whole("max_replicas", max_replicas, low=1, high=1000)
    _checks.ordered("min_replicas", least, "max_replicas", most)
    return Scaling(
        min_replicas=least,
        max_replicas=most,
        queue_target=_checks.whole("queue_target", queue_target, low=1, high=MOST_WAITING),
        kv_cache_target_percent=_checks.whole(
            "kv_cache_target_percent", kv_cache_target_percent, low=10, high=100, unit="%"
        ),
        scale_up_stabilization_seconds=_checks.whole(
            "scale_up_stabilization_seconds", scale_up_stabilization_seconds, low=0, high=3600, unit="s"
        ),
        scale_down_stabilization_seconds=_checks.whole(
            "scale_down_stabilization_seconds", scale_down_stabilization_seconds, low=0, high=3600, unit="s"
        ),
    )


def chart_values(scaling: Scaling, *, namespace: str, model: str, runtime: str, prometheus_url: str) -> dict[str, Any]:
    """Return the value `autoscaling` of charts/inference-service.

    The queue calls for pods; the KV cache's use keeps them while they are busy, when the queue is gone because they
    came. Raises UnknownRuntimeError, a ValueError, for a runtime that exports no queue length.
    """
    to_zero = scaling.min_replicas == 0
    # Without a pod there is nobody to ask how many wait, and that is no failure.
    otherwise = " or vector(0)" if to_zero else ""
    triggers = [
        {
            "name": "queue",
            "query": queue_query(namespace, model, runtime) + otherwise,
            "threshold": str(scaling.queue_target),
            # Of all pods together, and so to be divided by their number.
            "metricType": "AverageValue",
        }
    ]
    if usage := kv_cache_query(namespace, model, runtime):
        triggers.append(
            {
                "name": "kv-cache",
                "query": usage + otherwise,
                "threshold": f"{scaling.kv_cache_target_percent / 100:g}",
                "metricType": "Value",
            }
        )
    if to_zero:
        for trigger in triggers:
            trigger["activationThreshold"] = NEVER
        requests = requests_query(namespace, model)
        # It decides whether there is a pod at all, and never how many.
        triggers.append({"name": "requests", "query": requests, "threshold": NEVER, "metricType": "AverageValue"})
    return {
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "scaleUpStabilizationSeconds": scaling.scale_up_stabilization_seconds,
        "scaleDownStabilizationSeconds": scaling.scale_down_stabilization_seconds,
        "prometheusUrl": prometheus_url,
        "triggers": triggers,
    }
