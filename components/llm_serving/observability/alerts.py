"""Alerts as data. A page is for what callers notice or soon will, a ticket for what can wait for the morning.

Each has a page under docs/runbooks, named as the alert is. Burn rates are the multi-window, multi-burn-rate ones of
Google's SRE Workbook, chapter 5: an alert begins where the budget of 30 days burns so fast in a long window and still
does in a short one, so that it ends soon after what caused it does.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from llm_serving.observability.inputs import WINDOW_DAYS, MonitoringInputs, Slo
from llm_serving.observability.promql import any_of, one_of, renamed, selector
from llm_serving.observability.recording import slo_classes

PAGE = "page"
TICKET = "ticket"
DAY_SECONDS = 86_400

FATAL_XIDS = (46, 48, 54, 62, 63, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 142, 143, 151, 155, 156, 158)
"""NVIDIA driver errors after which the GPU is of no use until it is reset or replaced: the codes that the EKS Node
Monitoring Agent reports as fatal. All others are mostly an application's own fault."""


@dataclass(frozen=True)
class Burn:
    """A pair of windows, and the rate at which the budget burns in both when the alert begins."""

    long: str
    hours: int
    """Length of the long window in hours."""
    short: str
    rate: float
    """Multiple of the rate that would use the budget up in exactly its period."""
    severity: str


BURNS = (
    Burn("1h", 1, "5m", 14.4, PAGE),
    Burn("6h", 6, "30m", 6, PAGE),
    Burn("3d", 72, "6h", 1, TICKET),
)
"""2 % of the budget in an hour, 5 % in six, 10 % in three days."""


@dataclass(frozen=True)
class Alert:
    """An alerting rule. `summary` and `description` are templates over `$labels` and `$value`."""

    name: str
    severity: str
    expression: str
    minutes: int
    """How long the expression must hold."""
    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def runbook(self) -> str:
        """File of its page in docs/runbooks."""
        return runbook(self.name)

    def annotations(self, runbook_base_url: str) -> dict[str, str]:
        """What a notification says."""
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{runbook_base_url.rstrip('/')}/{self.runbook}",
        }

    def rule(self, runbook_base_url: str) -> dict[str, object]:
        """The rule as PrometheusRule has it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": f"{self.minutes}m",
            "labels": {"severity": self.severity, **self.labels},
            "annotations": self.annotations(runbook_base_url),
        }


def runbook(name: str) -> str:
    """The file name of an alert's page: LlmQueueGrowing has llm-queue-growing.md."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-") + ".md"


def objectives(inputs: MonitoringInputs) -> Iterator[Alert]:
    """Alerts on error budgets: requests that fail, answers that begin late, answers that end late."""
    kinds: tuple[tuple[str, str, str, Callable[[Slo], float]], ...] = (
        ("LlmErrorBudgetBurn", "request_errors", "fail", lambda slo: slo.availability),
        ("LlmFirstTokenLatencyBurn", "slow_first_tokens", "begin too late", lambda slo: slo.first_token_ratio),
        ("LlmRequestLatencyBurn", "slow_requests", "end too late", lambda slo: slo.request_ratio),
    )
    at = selector(inputs.in_namespace)
    for name, record, verb, ratio in kinds:
        for burn in BURNS:
            conditions = [
                _burns(burn, f"llm_serving:{record}:ratio_rate", selector(inputs.in_namespace, matcher), 1 - ratio(slo))
                for matcher, slo in slo_classes(inputs)
            ]
            enough = f"{inputs.minimum_requests / (burn.hours * 3600):.6g}"
            yield Alert(
                name,
                burn.severity,
                f"({any_of(conditions)}) and llm_serving:requests:rate{burn.long}{at} >= {enough}",
                minutes=2,
                summary=f"{{{{ $labels.model }}}}: too many answers {verb}",
                description=(
                    f"{{{{ $value | humanizePercentage }}}} of the answers of the last {burn.long} {verb}."
                    f" At this rate the budget of {WINDOW_DAYS} days is gone in {WINDOW_DAYS / burn.rate:.3g} days or"
                    " less."
                ),
                labels={"window": burn.long},
            )


def _burns(burn: Burn, ratio: str, at: str, budget: float) -> str:
    limit = f"{burn.rate * budget:.6g}"
    return f"{ratio}{burn.long}{at} > {limit} and {ratio}{burn.short}{at} > {limit}"


def models(inputs: MonitoringInputs) -> Iterator[Alert]:
    """Alerts on the models' own load."""
    at, limits = selector(inputs.in_namespace), inputs.thresholds
    if any(item.queue for item in inputs.runtimes):
        queue = f"llm_serving:queue_requests:avg{at}"
        yield Alert(
            "LlmQueueGrowing",
            PAGE,
            f"{queue} > {limits.queue_per_pod:g} and deriv(llm_serving:queue_requests:sum{at}[10m]) >= 0",
            minutes=5,
            summary="{{ $labels.model }}: requests wait, and the queue does not get shorter",
            description=f"{{{{ $value | humanize }}}} requests wait in each pod; {limits.queue_per_pod:g} are allowed.",
        )
        yield _autoscaler_idle(inputs, queue)
    if any(item.kv_used for item in inputs.runtimes):
        yield Alert(
            "LlmKvCacheExhausted",
            TICKET,
            f"llm_serving:kv_cache_usage:max{at} > {limits.kv_cache_ratio:g}",
            minutes=10,
            summary="{{ $labels.model }}: the KV cache of a pod is full",
            description="{{ $value | humanizePercentage }} of it are in use: new requests wait, running ones may be"
            " put back.",
        )
    yield Alert(
        "LlmPodUnschedulable",
        TICKET,
        f"max by (namespace, pod) (kube_pod_status_unschedulable{at}) > 0",
        minutes=limits.scheduling_minutes,
        summary="{{ $labels.pod }}: no node takes this pod",
        description=f"It has been waiting for more than {limits.scheduling_minutes} minutes.",
    )
    condition = selector(inputs.in_namespace, 'condition="ScalingActive"', 'status="true"')
    yield Alert(
        "LlmAutoscalerInactive",
        TICKET,
        # An autoscaler is inactive on purpose while its target has no replicas.
        f"max by (namespace, horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_condition{condition}) == 0"
        " and on (namespace, horizontalpodautoscaler)"
        f" kube_horizontalpodautoscaler_status_desired_replicas{at} > 0",
        minutes=15,
        summary="{{ $labels.horizontalpodautoscaler }}: this autoscaler gets no metric and does nothing",
        description="Its condition ScalingActive is not true.",
    )


def _autoscaler_idle(inputs: MonitoringInputs, queue: str) -> Alert:
    at = selector(inputs.in_namespace)
    desired = f"kube_horizontalpodautoscaler_status_desired_replicas{at}"
    could_grow = (
        f"({desired} < kube_horizontalpodautoscaler_spec_max_replicas{at} and changes({desired}[15m]) == 0)"
        " * on (namespace, horizontalpodautoscaler) group_left (scaletargetref_name)"
        f" kube_horizontalpodautoscaler_info{at}"
    )
    return Alert(
        "LlmAutoscalerIdle",
        TICKET,
        f"{queue} > {inputs.thresholds.queue_per_pod:g}"
        f" and on (namespace, model) {renamed(could_grow, 'model', 'scaletargetref_name')}",
        minutes=10,
        summary="{{ $labels.model }}: requests wait, and the autoscaler adds no pod though it may",
        description="{{ $value | humanize }} requests wait in each pod. The number of pods is below its maximum and has"
        " not changed for 15 minutes.",
    )


def embeddings(inputs: MonitoringInputs) -> Iterator[Alert]:
    """Alerts on the embedding services, which may be asked by others than the gateway."""
    if inputs.embeddings:
        at = selector(inputs.in_namespace)
        yield Alert(
            "LlmEmbedderFull",
            TICKET,
            f"sum by (namespace, model) (rate(llm_embedder_requests_rejected_total{at}[5m])) > 0",
            minutes=10,
            summary="{{ $labels.model }}: requests for embeddings are refused, as too much waits",
            description="{{ $value | humanize }} requests a second are refused with 503.",
        )


def gpus(inputs: MonitoringInputs) -> Iterator[Alert]:
    """Alerts on the GPUs."""
    xid = "max by (Hostname, gpu, UUID) (DCGM_FI_DEV_XID_ERRORS)"
    fatal = any_of(f"{xid} == {code}" for code in FATAL_XIDS)
    yield Alert(
        "LlmGpuXidFatal",
        PAGE,
        fatal,
        minutes=1,
        summary="GPU {{ $labels.gpu }} of {{ $labels.Hostname }} is broken until it is reset",
        description="Its driver reported XID {{ $value }}.",
    )
    yield Alert(
        "LlmGpuXidError",
        TICKET,
        f"{xid} > 0 and max by (Hostname, gpu, UUID) (changes(DCGM_FI_DEV_XID_ERRORS[1h])) > 0 unless ({fatal})",
        minutes=1,
        summary="GPU {{ $labels.gpu }} of {{ $labels.Hostname }} reported an error",
        description="Its driver reported XID {{ $value }}, which is mostly an application's fault.",
    )
    limit = inputs.thresholds.gpu_memory_ratio
    yield Alert(
        "LlmGpuMemoryFull",
        TICKET,
        f"max by (Hostname, gpu, UUID) (llm_serving:gpu_memory_usage:ratio) > {limit:g}",
        minutes=10,
        summary="GPU {{ $labels.gpu }} of {{ $labels.Hostname }} has hardly any memory left",
        description=f"{{{{ $value | humanizePercentage }}}} are in use, more than {limit:.0%}.",
    )


def targets(inputs: MonitoringInputs) -> Iterator[Alert]:
    """Alerts on what is to be scraped: an alert on a metric that nothing scrapes never fires."""
    gateway = selector(inputs.in_namespace, f'job="{inputs.gateway_job}"')
    missing = [f"absent(up{gateway})"]
    with_versions = {model.version_of for model in inputs.models}
    for model in inputs.models:
        deployment = selector(inputs.in_namespace, f'deployment="{model.name}"')
        version = f'version="{model.version}"' if model.version or model.name in with_versions else ""
        up = selector(inputs.in_namespace, f'model="{model.model}"', version)
        missing.append(f"(absent(up{up}) unless on () kube_deployment_spec_replicas{deployment} == 0)")
    for service in inputs.embeddings:
        deployment = selector(inputs.in_namespace, f'deployment="{service.name}"')
        up = selector(inputs.in_namespace, f'model="{service.name}"')
        missing.append(f"(absent(up{up}) unless on () kube_deployment_spec_replicas{deployment} == 0)")
    missing += [f'absent(up{{job="{job}"}})' for job in inputs.other_jobs]
    yield Alert(
        "LlmTargetMissing",
        PAGE,
        any_of(missing),
        minutes=10,
        summary="Nothing scrapes {{ $labels.job }}{{ $labels.model }}",
        description="Prometheus has no target for it: its dashboards are empty and its alerts cannot fire.",
    )
    yield Alert(
        "LlmTargetDown",
        TICKET,
        f"min by (namespace, job, pod) (up{selector(inputs.in_namespace)}) == 0",
        minutes=10,
        summary="{{ $labels.pod }} ({{ $labels.job }}) does not answer scrapes",
        description="Prometheus knows this target and cannot read its metrics.",
    )


def cache(inputs: MonitoringInputs) -> Iterator[Alert]:
    """Alerts on the response cache, and on the secrets and certificates around it."""
    at, limits = selector(inputs.in_namespace), inputs.thresholds
    if inputs.cache:
        yield Alert(
            "LlmCacheUnavailable",
            TICKET,
            f"min by (namespace, pod) (llm_gateway_cache_available{at}) == 0",
            minutes=5,
            summary="{{ $labels.pod }} works without the cache",
            description="Every request goes to a model until the gateway reaches the cache again.",
        )
        yield Alert(
            "LlmCacheErrors",
            TICKET,
            f"llm_serving:cache_errors:ratio_rate5m{at} > {limits.cache_error_ratio:g}",
            minutes=10,
            summary="Cache operations fail",
            description="{{ $value | humanizePercentage }} of the gateway's cache operations fail.",
        )
        lookups = "sum by (namespace, model) (rate(llm_gateway_semantic_cache_lookups_total{}[5m]))"
        failed = lookups.format(selector(inputs.in_namespace, 'result="unavailable"'))
        yield Alert(
            "LlmSemanticCacheFailing",
            TICKET,
            f"{failed} / ({lookups.format(at)} > 0) > {limits.cache_error_ratio:g}",
            minutes=10,
            summary="{{ $labels.model }}: lookups by meaning fail",
            description="{{ $value | humanizePercentage }} of them fail, and a model answers instead.",
        )
        left = f"min by (namespace) (llm_gateway_cache_certificate_expiry_timestamp_seconds{at} > 0) - time()"
        for days, severity in ((limits.certificate_page_days, PAGE), (limits.certificate_days, TICKET)):
            yield Alert(
                "LlmCertificateExpiring",
                severity,
                f"{left} < {days * DAY_SECONDS:g}",
                minutes=60,
                summary="The cache's certificate ends soon",
                description="It ends in {{ $value | humanizeDuration }}; the gateway will then refuse to connect.",
            )
    if inputs.secrets:
        secrets = selector(inputs.in_namespace, one_of("secret", inputs.secrets))
        yield Alert(
            "LlmSecretOld",
            TICKET,
            f"time() - max by (namespace, secret) (kube_secret_created{secrets})"
            f" > {limits.secret_days * DAY_SECONDS:g}",
            minutes=60,
            summary="{{ $labels.secret }} has not been replaced for a long time",
            description=f"It is {{{{ $value | humanizeDuration }}}} old; {limits.secret_days:g} days are allowed.",
        )


def cost(inputs: MonitoringInputs) -> Iterator[Alert]:
    """Alerts on what the environment costs."""
    if inputs.budget_usd_per_hour is not None:
        yield Alert(
            "LlmCostOverBudget",
            TICKET,
            f"llm_serving:total_cost:usd_per_hour > {inputs.budget_usd_per_hour:g}",
            minutes=60,
            summary="The environment costs more than its budget",
            description=f"{{{{ $value | humanize }}}} USD an hour; the budget is {inputs.budget_usd_per_hour:g}.",
        )
    yield Alert(
        "LlmNodePriceUnknown",
        TICKET,
        "llm_serving:pool_nodes:count unless on (pool, instance_type) llm_serving:instance_price:usd_per_hour",
        minutes=30,
        summary="Nodes of type {{ $labels.instance_type }} in pool {{ $labels.pool }} have no price",
        description="{{ $value }} nodes are missing from every cost.",
    )


GROUPS: Mapping[str, Callable[[MonitoringInputs], Iterator[Alert]]] = {
    "llm-serving.objectives": objectives,
    "llm-serving.models": models,
    "llm-serving.embeddings": embeddings,
    "llm-serving.gpu-alerts": gpus,
    "llm-serving.targets": targets,
    "llm-serving.cache-alerts": cache,
    "llm-serving.cost-alerts": cost,
}


def alerts(inputs: MonitoringInputs) -> tuple[Alert, ...]:
    """Every alert of an environment."""
    return tuple(alert for group in GROUPS.values() for alert in group(inputs))
