"""For each alert, what makes it fire and what makes it clear: input of `promtool test rules`.

A series' values are in promtool's notation: `0+5x10` is eleven samples from 0 in steps of 5, `7x3` four samples of 7,
`_x3` three missing ones, `stale` the end of a series. Samples are a minute apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.unit.observability.sample import NAMESPACE


@dataclass(frozen=True)
class Expected:
    """An alert that fires: its labels beside the severity, and `$value` as its description shows it."""

    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    value: str = ""
    severity: str = "ticket"


@dataclass(frozen=True)
class Case:
    """One story: its series, and what fires at which minute. Nothing does at the minutes of `quiet`."""

    alert: str
    title: str
    series: Mapping[str, str]
    fires: Mapping[int, tuple[Expected, ...]] = field(default_factory=dict[int, tuple[Expected, ...]])
    quiet: tuple[int, ...] = ()


_NS = f'namespace="{NAMESPACE}"'
_QWEN = {"namespace": NAMESPACE, "model": "qwen"}
_GPU_LABELS = {"Hostname": "node-1", "gpu": "0", "UUID": "GPU-1"}
_GPU = '{Hostname="node-1",gpu="0",UUID="GPU-1",pod="qwen-1"}'
_UP = {
    f'up{{{_NS},job="llm-gateway",pod="llm-gateway-1"}}': "1x300",
    f'up{{{_NS},job="llama",model="llama",pod="llama-1"}}': "1x300",
    f'up{{{_NS},job="minilm",model="minilm",pod="minilm-1"}}': "1x300",
    'up{namespace="monitoring",job="dcgm-exporter"}': "1x300",
    'up{namespace="monitoring",job="kube-state-metrics"}': "1x300",
}


def _burns(value: str, *windows: str) -> tuple[Expected, ...]:
    return tuple(
        Expected({**_QWEN, "window": window}, value, "ticket" if window == "3d" else "page") for window in windows
    )


def _requests(good: str, failed: str) -> dict[str, str]:
    requests = f'llm_gateway_requests_total{{{_NS},model="qwen",endpoint="/v1/chat/completions",code='
    return {requests + '"200"}': good, requests + '"502"}': failed}


def _latency(histogram: str, bound: str, within: str, count: str) -> dict[str, str]:
    labels = f'{_NS},model="qwen"'
    return {
        f'{histogram}_bucket{{{labels},le="{bound}"}}': within,
        f"{histogram}_count{{{labels}}}": count,
        **_requests("0+100x500", "0x500"),
    }


OBJECTIVES = (
    Case(
        "LlmErrorBudgetBurn",
        "a tenth of the requests fails for 40 minutes: all windows, one after another, as the failures go by",
        _requests("0+90x500", "0+10x40 400x460"),
        {30: _burns("10%", "1h", "6h", "3d")},
        quiet=(420,),
    ),
    Case(
        "LlmErrorBudgetBurn",
        "8 times the budget: too slow for the hour",
        _requests("0+96x500", "0+4x100 400x400"),
        {90: _burns("4%", "6h", "3d")},
        quiet=(480,),
    ),
    Case(
        "LlmErrorBudgetBurn",
        "twice the budget: a ticket",
        _requests("0+99x500", "0+1x60 60x440"),
        {60: _burns("1%", "3d")},
        quiet=(440,),
    ),
    Case(
        "LlmErrorBudgetBurn",
        "half of the few requests of a quiet night fail",
        _requests("0x10 1x20 2x400", "0x10 1x20 2x400"),
        quiet=(15, 40, 200),
    ),
    Case(
        "LlmErrorBudgetBurn",
        "what a caller did wrong, or did not wait for, is no failure",
        {
            f'llm_gateway_requests_total{{{_NS},model="qwen",code="404"}}': "0+50x100",
            f'llm_gateway_requests_total{{{_NS},model="qwen",code="499"}}': "0+50x100",
        },
        quiet=(60, 90),
    ),
    Case(
        "LlmFirstTokenLatencyBurn",
        "four of five streamed answers begin late for 40 minutes",
        _latency("llm_gateway_time_to_first_token_seconds", "2.0", "0+20x40 820+100x460", "0+100x500"),
        {30: _burns("80%", "1h", "6h", "3d")},
        quiet=(420,),
    ),
    Case(
        "LlmRequestLatencyBurn",
        "four of five answers end late for 40 minutes",
        _latency("llm_gateway_request_duration_seconds", "60.0", "0+20x40 820+100x460", "0+100x500"),
        {30: _burns("80%", "1h", "6h", "3d")},
        quiet=(420,),
    ),
)

_QUEUE = f'tgi_queue_size{{{_NS},model="qwen",pod="qwen-1"}}'
_HPA = f'{_NS},horizontalpodautoscaler="keda-hpa-qwen"'

MODELS = (
    Case(
        "LlmQueueGrowing",
        "a queue grows for an hour, and is worked off",
        {_QUEUE: "0+1x60 0x30"},
        {30: (Expected(_QWEN, "30", "page"),)},
        quiet=(10, 70),
    ),
    Case("LlmQueueGrowing", "a long queue gets shorter", {_QUEUE: "90-1x60"}, quiet=(20, 40)),
    Case(
        "LlmKvCacheExhausted",
        "one pod of two is full",
        {
            f'tgi_batch_current_max_tokens{{{_NS},model="qwen",pod="qwen-1"}}': "980x40 100x40",
            f'tgi_batch_current_max_tokens{{{_NS},model="qwen",pod="qwen-2"}}': "100x80",
            f'tgi_batch_max_total_tokens{{{_NS},model="qwen",pod="qwen-1"}}': "1000x80",
            f'tgi_batch_max_total_tokens{{{_NS},model="qwen",pod="qwen-2"}}': "1000x80",
        },
        {30: (Expected(_QWEN, "98%"),)},
        quiet=(5, 45),
    ),
    Case(
        "LlmKvCacheExhausted",
        "a runtime that says a ratio itself",
        {f'vllm:kv_cache_usage_perc{{{_NS},model="llama",model_name="llama",pod="llama-1"}}': "0.99x40 0.1x40"},
        {30: (Expected({"namespace": NAMESPACE, "model": "llama"}, "99%"),)},
        quiet=(45,),
    ),
    Case(
        "LlmPodUnschedulable",
        "a pod waits half an hour for a node",
        {f'kube_pod_status_unschedulable{{{_NS},pod="qwen-3",uid="1"}}': "1x30 stale"},
        {25: (Expected({"namespace": NAMESPACE, "pod": "qwen-3"}),)},
        quiet=(10, 35),
    ),
    Case(
        "LlmAutoscalerInactive",
        "an autoscaler whose metric nobody exports, until somebody does",
        {
            "kube_horizontalpodautoscaler_status_condition"
            f'{{{_HPA},condition="ScalingActive",status="true"}}': "0x40 1x40",
            f"kube_horizontalpodautoscaler_status_desired_replicas{{{_HPA}}}": "2x80",
        },
        {30: (Expected({"namespace": NAMESPACE, "horizontalpodautoscaler": "keda-hpa-qwen"}),)},
        quiet=(5, 45),
    ),
    Case(
        "LlmAutoscalerInactive",
        "an autoscaler at rest, because its target is scaled to nothing",
        {
            f'kube_horizontalpodautoscaler_status_condition{{{_HPA},condition="ScalingActive",status="true"}}': "0x80",
            f"kube_horizontalpodautoscaler_status_desired_replicas{{{_HPA}}}": "0x80",
        },
        quiet=(30, 60),
    ),
    Case(
        "LlmAutoscalerIdle",
        "requests wait while two of four pods are there, until the autoscaler moves",
        {
            _QUEUE: "30x100",
            f"kube_horizontalpodautoscaler_status_desired_replicas{{{_HPA}}}": "2x60 4x40",
            f"kube_horizontalpodautoscaler_spec_max_replicas{{{_HPA}}}": "4x100",
            f'kube_horizontalpodautoscaler_info{{{_HPA},scaletargetref_kind="Deployment",scaletargetref_name="qwen"}}'
            "": "1x100",
        },
        {40: (Expected(_QWEN, "30"),)},
        quiet=(5, 65),
    ),
)

GPUS = (
    Case(
        "LlmGpuXidFatal",
        "a GPU falls off the bus, and its node is replaced",
        {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": "0x5 79x30 stale"},
        {20: (Expected(_GPU_LABELS, "79", "page"),)},
        quiet=(5, 45),
    ),
    Case("LlmGpuXidFatal", "an application's error", {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": "0x5 13x60"}, quiet=(30,)),
    Case(
        "LlmGpuXidError",
        "an application's error, and an hour without another",
        {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": "0x5 13x120"},
        {20: (Expected(_GPU_LABELS, "13"),)},
        quiet=(3, 75),
    ),
    Case(
        "LlmGpuXidError", "a fatal one has its own alert", {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": "0x5 79x60"}, quiet=(20,)
    ),
    Case(
        "LlmGpuMemoryFull",
        "a GPU without memory left",
        {
            f"DCGM_FI_DEV_FB_USED{_GPU}": "990x30 900x30",
            f"DCGM_FI_DEV_FB_FREE{_GPU}": "5x30 95x30",
            f"DCGM_FI_DEV_FB_RESERVED{_GPU}": "5x60",
        },
        {20: (Expected(_GPU_LABELS, "99%"),)},
        quiet=(5, 40),
    ),
)

TARGETS = (
    Case(
        "LlmTargetMissing",
        "nothing scrapes a model for half an hour",
        {**_UP, f'up{{{_NS},job="qwen",model="qwen",pod="qwen-1"}}': "1x10 stale _x30 1x100"},
        {35: (Expected(_QWEN, severity="page"),)},
        quiet=(8, 50),
    ),
    Case(
        "LlmTargetMissing",
        "the gateway's monitor was never picked up",
        {
            **{name: values for name, values in _UP.items() if "gateway" not in name},
            f'up{{{_NS},model="qwen"}}': "1x60",
        },
        {30: (Expected({"namespace": NAMESPACE, "job": "llm-gateway"}, severity="page"),)},
    ),
    Case(
        "LlmTargetMissing",
        "nothing scrapes an embedding service",
        {
            **{name: values for name, values in _UP.items() if "minilm" not in name},
            f'up{{{_NS},model="qwen"}}': "1x60",
        },
        {30: (Expected({"namespace": NAMESPACE, "model": "minilm"}, severity="page"),)},
    ),
    Case(
        "LlmTargetMissing",
        "a model that is scaled to nothing has no target",
        {**_UP, f'kube_deployment_spec_replicas{{{_NS},deployment="qwen"}}': "0x60"},
        quiet=(30, 50),
    ),
    Case(
        "LlmTargetDown",
        "a pod does not answer for half an hour",
        {f'up{{{_NS},job="qwen",model="qwen",pod="qwen-1"}}': "0x30 1x30"},
        {20: (Expected({"namespace": NAMESPACE, "job": "qwen", "pod": "qwen-1"}),)},
        quiet=(5, 40),
    ),
)

_DAY = 86_400

CACHE = (
    Case(
        "LlmCacheUnavailable",
        "a gateway pod loses the cache and finds it again",
        {f'llm_gateway_cache_available{{{_NS},pod="llm-gateway-1"}}': "1x5 0x20 1x20"},
        {20: (Expected({"namespace": NAMESPACE, "pod": "llm-gateway-1"}),)},
        quiet=(4, 30),
    ),
    Case(
        "LlmCacheErrors",
        "a tenth of the lookups fails for half an hour",
        {
            f'llm_gateway_cache_errors_total{{{_NS},operation="get",kind="TimeoutError"}}': "0+10x30 300x40",
            f'llm_gateway_cache_requests_total{{{_NS},model="qwen",result="hit",reason=""}}': "0+90x70",
        },
        {25: (Expected({"namespace": NAMESPACE}, "10%"),)},
        quiet=(3, 45),
    ),
    Case(
        "LlmCacheErrors",
        "no lookup works at all, so that there are only failures",
        {f'llm_gateway_cache_errors_total{{{_NS},operation="connect",kind="ConnectionError"}}': "0+60x30 1800x40"},
        {25: (Expected({"namespace": NAMESPACE}, "100%"),)},
        quiet=(45,),
    ),
    Case(
        "LlmSemanticCacheFailing",
        "a fifth of the lookups by meaning finds no embedder for half an hour",
        {
            f'llm_gateway_semantic_cache_lookups_total{{{_NS},model="qwen",result="unavailable"}}': "0+20x30 600x40",
            f'llm_gateway_semantic_cache_lookups_total{{{_NS},model="qwen",result="miss"}}': "0+80x70",
        },
        {25: (Expected(_QWEN, "20%"),)},
        quiet=(3, 45),
    ),
    Case(
        "LlmSemanticCacheFailing",
        "a stack in which no model asks for the semantic tier",
        {f'llm_gateway_semantic_cache_lookups_total{{{_NS},model="qwen",result="unavailable"}}': "0x60"},
        quiet=(15, 40),
    ),
    Case(
        "LlmCertificateExpiring",
        "20 days are left, then it is renewed",
        {
            f'llm_gateway_cache_certificate_expiry_timestamp_seconds{{{_NS},pod="llm-gateway-1"}}': (
                f"{20 * _DAY}x150 {400 * _DAY}x60"
            )
        },
        {120: (Expected({"namespace": NAMESPACE}, "19d 22h 0m 0s"),)},
        quiet=(30, 180),
    ),
    Case(
        "LlmCertificateExpiring",
        "3 days are left",
        {f'llm_gateway_cache_certificate_expiry_timestamp_seconds{{{_NS},pod="llm-gateway-1"}}': f"{3 * _DAY}x150"},
        {
            120: (
                Expected({"namespace": NAMESPACE}, "2d 22h 0m 0s"),
                Expected({"namespace": NAMESPACE}, "2d 22h 0m 0s", "page"),
            )
        },
        quiet=(30,),
    ),
    Case(
        "LlmCertificateExpiring",
        "a gateway that has seen no certificate yet",
        {f'llm_gateway_cache_certificate_expiry_timestamp_seconds{{{_NS},pod="llm-gateway-1"}}': "0x150"},
        quiet=(120,),
    ),
    Case(
        "LlmSecretOld",
        "a secret of 92 days, then it is replaced",
        {f'kube_secret_created{{{_NS},secret="llm-gateway-cache"}}': "-8000000x130 7800x60"},
        {120: (Expected({"namespace": NAMESPACE, "secret": "llm-gateway-cache"}, "92d 16h 13m 20s"),)},
        quiet=(30, 140),
    ),
)


def _node(name: str, pool: str, instance_type: str) -> str:
    labels = f'label_llm_serving_pool="{pool}",label_node_kubernetes_io_instance_type="{instance_type}"'
    return f'kube_node_labels{{node="{name}",{labels}}}'


COST = (
    Case(
        "LlmCostOverBudget",
        "seven nodes cost more than the budget, six do not",
        {
            **{_node(f"n{number}", "l40s", "g6e.24xlarge"): "1x200" for number in range(6)},
            _node("n6", "l40s", "g6e.24xlarge"): "1x120 stale",
        },
        {100: (Expected({}, "105.9"),)},
        quiet=(30, 130),
    ),
    Case(
        "LlmNodePriceUnknown",
        "a node of a type without a price",
        {_node("n1", "system", "m7i.xlarge"): "1x60 stale", _node("n2", "l4", "g6.2xlarge"): "1x100"},
        {50: (Expected({"pool": "system", "instance_type": "m7i.xlarge"}, "1"),)},
        quiet=(10, 70),
    ),
)


@dataclass(frozen=True)
class Stories:
    """Cases that are about the same rules."""

    cases: tuple[Case, ...]
    groups: tuple[str, ...]
    """The groups of those rules: the others would only take time."""
    minutes: int = 1
    """Between two evaluations."""


EMBEDDINGS = (
    Case(
        "LlmEmbedderFull",
        "one of two pods refuses requests for half an hour",
        {
            f'llm_embedder_requests_rejected_total{{{_NS},model="minilm",pod="minilm-1"}}': "0x5 0+60x30 1800x40",
            f'llm_embedder_requests_rejected_total{{{_NS},model="minilm",pod="minilm-2"}}': "0x80",
        },
        {30: (Expected({"namespace": NAMESPACE, "model": "minilm"}, "1"),)},
        quiet=(5, 10, 60),
    ),
)

STORIES: Mapping[str, Stories] = {
    # Hours of them, in which nothing changes from one minute to the next.
    "objectives": Stories(OBJECTIVES, ("llm-serving.requests", "llm-serving.objectives"), minutes=5),
    "models": Stories(MODELS, ("llm-serving.runtimes", "llm-serving.models")),
    "gpus": Stories(GPUS, ("llm-serving.gpus", "llm-serving.gpu-alerts")),
    "embeddings": Stories(EMBEDDINGS, ("llm-serving.embeddings",)),
    "targets": Stories(TARGETS, ("llm-serving.targets",)),
    "cache": Stories(CACHE, ("llm-serving.cache", "llm-serving.cache-alerts")),
    "cost": Stories(COST, ("llm-serving.cost", "llm-serving.cost-alerts")),
}
CASES = tuple(case for stories in STORIES.values() for case in stories.cases)

COSTS_SERIES = {
    _node("a", "l4", "g6.2xlarge"): "1x60",
    _node("b", "l4", "g6.2xlarge"): "1x60",
    f'kube_deployment_status_replicas{{{_NS},deployment="qwen"}}': "2x60",
    f'llm_gateway_requests_total{{{_NS},model="qwen",code="200"}}': "0+10x60",
    f'llm_gateway_tokens_total{{{_NS},model="qwen",kind="completion"}}': "0+1000x60",
}
"""Two nodes of 0.978 USD an hour, whose one model answers 600 requests with 60,000 tokens in an hour."""
COSTS = {
    'sum(llm_serving:pool_cost:usd_per_hour{pool="l4"})': 2 * 0.978,
    "sum(llm_serving:total_cost:usd_per_hour)": 2 * 0.978 + 0.437,
    'sum(llm_serving:model_cost:usd_per_hour{model="qwen"})': 2 * 0.978,
    "sum(round(llm_serving:model_cost_per_1000_requests:usd, 0.001))": 3.26,
    "sum(round(llm_serving:model_cost_per_million_tokens:usd, 0.001))": 32.6,
}
