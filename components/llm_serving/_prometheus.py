"""How Prometheus and its chart are set up, worked out from plain values. Pure, no Pulumi import."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_serving import taints
from llm_serving._quantities import Resources
from llm_serving.capacity import catalog
from llm_serving.observability import (
    NODE_LABEL_ALLOWLIST,
    MonitoredEmbedding,
    MonitoredModel,
    MonitoredPool,
    MonitoringInputs,
)

CHART = "kube-prometheus-stack"
CHART_VERSION = "88.5.3"
CHART_REPOSITORY = "https://prometheus-community.github.io/helm-charts"
PROMETHEUS_IMAGE = "quay.io/prometheus/prometheus"
PROMETHEUS_VERSION = "3.16.0"
STORAGE_CLASS = "llm-serving-gp3"
SERVICE_ACCOUNT = "prometheus"
ALERTMANAGER_ACCOUNT = "alertmanager"
DASHBOARD_LABEL = "grafana_dashboard"
OTHER_JOBS = ("dcgm-exporter", "kube-state-metrics")
_USER = 65534


def url(namespace: str) -> str:
    """Return the address of a namespace's Prometheus in the cluster: of the service that the operator makes for it."""
    return f"http://prometheus-operated.{namespace}.svc.cluster.local:9090"


def inputs(
    *,
    models: Mapping[str, Mapping[str, Any]],
    embeddings: Mapping[str, Mapping[str, Any]],
    pools: Mapping[str, Sequence[str]],
    prices: Mapping[str, float],
    namespace: str,
    cache: bool,
    budget_usd_per_hour: float | None,
    runbook_base_url: str,
) -> MonitoringInputs:
    """Return what dashboards and rules are made from.

    An instance type costs what `prices` says in USD per hour, or else what the catalog says, which is on demand in
    us-east-1. A price that neither knows stays unknown. Raises observability.InputsError, with every problem.
    """
    return MonitoringInputs(
        models=tuple(
            MonitoredModel(
                name,
                pool=model["pool"],
                runtime=model.get("runtime", "tgi"),
                gpus=int(model.get("gpus", 1)),
                version_of=model.get("version_of"),
            )
            for name, model in models.items()
        ),
        embeddings=tuple(
            MonitoredEmbedding(name, pool=service.get("pool", taints.SYSTEM_POOL), gpus=int(service.get("gpus", 0)))
            for name, service in embeddings.items()
        ),
        pools=tuple(
            MonitoredPool(name, {kind: prices.get(kind, _catalog_price(kind)) for kind in kinds})
            for name, kinds in pools.items()
        ),
        namespace=namespace,
        cache=cache,
        budget_usd_per_hour=budget_usd_per_hour,
        other_jobs=OTHER_JOBS,
        runbook_base_url=runbook_base_url,
    )


def _catalog_price(instance_type: str) -> float | None:
    known = catalog.instances().get(instance_type)
    return known.usd_per_hour if known else None


def server(
    *,
    replicas: int,
    retention_days: int,
    storage_gb: int,
    scrape_interval_seconds: int,
    container: Resources,
) -> dict[str, Any]:
    """Return what a Prometheus resource and the chart's `prometheusSpec` have in common.

    It takes every ServiceMonitor and rule of the cluster: the chart's own default, only those with its release's label,
    drops the others without a word. Without `storage_gb` its data go with its pod.
    """
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": STORAGE_CLASS,
        "resources": {"requests": {"storage": f"{storage_gb}Gi"}},
    }
    return {
        "replicas": replicas,
        "retention": f"{retention_days}d",
        # The disk fills before the days are over where there is more to keep than it was sized for.
        **({"retentionSize": f"{max(1, storage_gb * 85 // 100)}GiB"} if storage_gb else {}),
        "scrapeInterval": f"{scrape_interval_seconds}s",
        "evaluationInterval": f"{scrape_interval_seconds}s",
        "enableAdminAPI": False,
        "resources": container,
        "nodeSelector": {taints.POOL_LABEL: taints.SYSTEM_POOL},
        **({"storage": {"volumeClaimTemplate": {"spec": claim}}} if storage_gb else {}),
    }


def prometheus(common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of a Prometheus resource, for an operator that the cluster has already."""
    everything: dict[str, Any] = {
        f"{kind}{scope}": {}
        for kind in ("serviceMonitor", "podMonitor", "rule")
        for scope in ("Selector", "NamespaceSelector")
    }
    return {
        **common,
        **everything,
        "version": f"v{PROMETHEUS_VERSION}",
        "image": f"{PROMETHEUS_IMAGE}:v{PROMETHEUS_VERSION}",
        "serviceAccountName": SERVICE_ACCOUNT,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "podMetadata": {"labels": {"app.kubernetes.io/part-of": "llm-serving"}},
    }


def chart_values(
    *, common: Mapping[str, Any], grafana_secret: str, topic_arn: Any, region: Any, storage_gb: int
) -> dict[str, Any]:
    """Return the values of kube-prometheus-stack: Prometheus, Alertmanager that tells an SNS topic, and Grafana.

    On EKS the control plane's own metrics can't be scraped, and a node exporter would need pods that the restricted
    profile refuses: the kubelet's metrics tell of nodes.
    """
    spec = {key: value for key, value in common.items() if key != "storage"}
    if storage_gb:
        spec["storageSpec"] = common["storage"]
    system = {"nodeSelector": {taints.POOL_LABEL: taints.SYSTEM_POOL}}
    absent = ("kubeControllerManager", "kubeScheduler", "kubeEtcd", "kubeProxy", "nodeExporter")
    return {
        **{part: {"enabled": False} for part in absent},
        "fullnameOverride": "llm-serving",
        "prometheus": {
            "serviceAccount": {"name": SERVICE_ACCOUNT},
            "prometheusSpec": {
                **spec,
                **{f"{kind}SelectorNilUsesHelmValues": False for kind in ("serviceMonitor", "podMonitor", "rule")},
            },
        },
        "prometheusOperator": system,
        "kube-state-metrics": {**system, "metricLabelsAllowlist": NODE_LABEL_ALLOWLIST.split(";")},
        "alertmanager": {
            "serviceAccount": {"create": True, "name": ALERTMANAGER_ACCOUNT},
            "alertmanagerSpec": system,
            "config": alertmanager_config(topic_arn, region),
        },
        "grafana": {
            **system,
            "admin": {"existingSecret": grafana_secret, "userKey": "user", "passwordKey": "password"},
            "sidecar": {"dashboards": {"enabled": True, "label": DASHBOARD_LABEL, "searchNamespace": "ALL"}},
            "grafana.ini": {"analytics": {"reporting_enabled": False, "check_for_updates": False}},
        },
    }


def alertmanager_config(topic_arn: Any, region: Any) -> dict[str, Any]:
    """Return Alertmanager's configuration: every alert of ours and of the chart goes to one SNS topic, pages at once.

    A watchdog alert fires all the time, to show that alerts arrive at all; it is kept out of people's way.
    """
    return {
        "route": {
            "receiver": "topic",
            "group_by": ["alertname", "namespace", "model"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                {"receiver": "none", "matchers": ['alertname=~"Watchdog|InfoInhibitor"']},
                {"receiver": "topic", "matchers": ['severity="page"'], "group_wait": "0s", "repeat_interval": "1h"},
            ],
        },
        "receivers": [
            {"name": "none"},
            {
                "name": "topic",
                "sns_configs": [{"topic_arn": topic_arn, "sigv4": {"region": region}, "send_resolved": True}],
            },
        ],
    }


def service_monitors(inputs: MonitoringInputs) -> dict[str, dict[str, Any]]:
    """Return the spec of a ServiceMonitor for the gateway, each model and each embedding service, by name.

    A model's series get its name as the label `model`, and those of a version that has a service of its own the
    label `version`; the gateway's have both already.
    """
    namespace = {"matchNames": [inputs.namespace]}
    gateway = {
        "namespaceSelector": namespace,
        "selector": {"matchLabels": {"app.kubernetes.io/name": "llm-gateway"}},
        "endpoints": [{"port": "http", "path": "/metrics"}],
    }
    return {
        inputs.gateway_job: gateway,
        **{f"model-{each.name}": _service_monitor(namespace, each, each.metrics.path) for each in inputs.models},
        **{f"model-{each.name}": _service_monitor(namespace, each, "/metrics") for each in inputs.embeddings},
    }


def _service_monitor(
    namespace: Mapping[str, Any], service: MonitoredModel | MonitoredEmbedding, path: str
) -> dict[str, Any]:
    return {
        "namespaceSelector": namespace,
        "selector": {
            "matchLabels": {
                "app.kubernetes.io/name": "inference-service",
                "app.kubernetes.io/instance": service.name,
            }
        },
        "endpoints": [
            {
                "port": "http",
                "path": path,
                # Of the target, not of its series, so that a pod that does not answer has it too.
                "relabelings": [
                    {"targetLabel": label, "replacement": value} for label, value in service.labels.items()
                ],
            }
        ],
    }


def kube_state_metrics_monitor() -> dict[str, Any]:
    """Return the spec of a ServiceMonitor for a kube-state-metrics in any namespace."""
    return {
        "namespaceSelector": {"any": True},
        "selector": {"matchLabels": {"app.kubernetes.io/name": "kube-state-metrics"}},
        # Its series are about other objects, whose namespace and pod they name.
        "endpoints": [{"port": "http-metrics", "honorLabels": True}],
    }
