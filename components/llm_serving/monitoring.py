"""Monitoring from the first day: Prometheus, rules, dashboards, and alerts that reach somebody."""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgs

from llm_serving import _checks, _iam, _prometheus, _quantities, observability
from llm_serving._keys import encryption_key

OPERATORS = ("install", "existing")
_WATCH = ("get", "list", "watch")
"""What Prometheus may do with what it finds its targets by."""
_GRAFANA_SECRET = "grafana-admin"  # noqa: S105 - the name of a secret


class MonitoredModelArgs(TypedDict):
    """A model, or one of its versions, to watch, by the name of its inference service."""

    pool: str
    """Pool that its pods run in."""
    runtime: NotRequired[str]
    """What serves it. Default: tgi."""
    gpus: NotRequired[int]
    """GPUs of each pod. Default: 1."""
    version_of: NotRequired[str]
    """Model that this is a version of, which its series count for. Default: none, it is a model itself."""


class MonitoredEmbeddingArgs(TypedDict):
    """An embedding service to watch, by its name."""

    pool: NotRequired[str]
    """Pool that its pods run in. Default: system."""
    gpus: NotRequired[int]
    """GPUs of each pod. Default: 0."""


class MonitoringArgs(TypedDict):
    """Arguments of `Monitoring`."""

    cluster_name: pulumi.Input[str]
    """EKS cluster."""
    models: Mapping[str, MonitoredModelArgs]
    """Models, and the versions that have services of their own, by the service's name."""
    embeddings: NotRequired[Mapping[str, MonitoredEmbeddingArgs]]
    """Embedding services by name. Default: none."""
    pools: Mapping[str, Sequence[str]]
    """Instance types of each node pool, for the cost of its nodes."""
    workload_namespace: NotRequired[str]
    """Namespace of the gateway and the models. Default: llm-serving."""
    namespace: NotRequired[str]
    """Kubernetes namespace to make for Prometheus. Default: monitoring."""
    operator: NotRequired[str]
    """`install` brings kube-prometheus-stack; `existing` uses the operator that the cluster has. Default: install."""
    replicas: NotRequired[int]
    """Prometheus servers, 1 or 2; each scrapes everything. Default: 1."""
    retention_days: NotRequired[int]
    """Days that metrics are kept. Default: 15."""
    storage_gb: NotRequired[int]
    """Disk of each server in GB; 0 keeps metrics for as long as its pod lives. Default: 50."""
    scrape_interval_seconds: NotRequired[int]
    """How often targets are scraped and rules evaluated. Default: 30."""
    cpu_millicores: NotRequired[int]
    """CPU that a server asks for, in thousandths of a core. Default: 500."""
    memory_mib: NotRequired[int]
    """Memory of a server in MiB, asked for and limited to. Default: 2048."""
    prices_usd_per_hour: NotRequired[Mapping[str, float]]
    """Price of an instance by type where it is not the on-demand one of us-east-1, or not a GPU instance."""
    budget_usd_per_hour: NotRequired[float]
    """More than this is an alert. Default: none."""
    cache: NotRequired[bool]
    """Whether the gateway has a response cache to watch. Default: true."""
    alert_emails: NotRequired[Sequence[str]]
    """Addresses that are told of alerts, once each has confirmed. Default: none."""
    runbook_base_url: NotRequired[str]
    """Where the pages of docs/runbooks can be read. Default: docs/runbooks, which is a path and no link."""


class Monitoring(pulumi.ComponentResource):
    """Prometheus over everything that the environment has, with alert rules, dashboards and a topic for alerts.

    Where `operator` is `install`, Alertmanager tells the topic, and Grafana shows the dashboards. Where it is
    `existing`, those of the cluster do: rules are PrometheusRules and dashboards are ConfigMaps with the label that
    Grafana's sidecar looks for. Raises ValueError at construction for a number out of range, and for an unknown pool or
    runtime.
    """

    namespace: pulumi.Output[str]
    """Its namespace. Known once the operator's custom resources can be used: make ServiceMonitors after it."""
    prometheus_url: pulumi.Output[str]
    """Address of Prometheus in the cluster, where there are several servers of any that is ready."""
    alert_topic_arn: pulumi.Output[str]
    """SNS topic of the alerts."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:Monitoring", name, {}, opts)
        self._name = name
        self._args = args
        operator = _checks.one_of("operator", args.get("operator", "install"), OPERATORS)
        inputs = _inputs(args)
        self._common = _common(args)
        namespace = self._create_namespace()
        self._namespace = namespace.metadata.name.apply(str)
        topic = self._topic()
        if args.get("storage_gb", 50):
            self._storage_class()
        server = self._install(topic) if operator == "install" else self._use_existing()
        self._monitors(inputs, server)
        self._rules(inputs, server)
        self._dashboards(inputs)
        self.namespace = pulumi.Output.all(namespace.metadata.name, server.urn).apply(lambda known: str(known[0]))
        self.prometheus_url = self.namespace.apply(_prometheus.url)
        self.alert_topic_arn = topic.arn
        self.register_outputs(
            {
                "namespace": self.namespace,
                "prometheusUrl": self.prometheus_url,
                "alertTopicArn": self.alert_topic_arn,
            }
        )

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on))

    def _create_namespace(self) -> kubernetes.core.v1.Namespace:
        return kubernetes.core.v1.Namespace(
            f"{self._name}-namespace",
            metadata={
                "name": self._args.get("namespace", "monitoring"),
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
            opts=self._child(),
        )

    def _storage_class(self) -> None:
        kubernetes.storage.v1.StorageClass(
            f"{self._name}-disks",
            metadata={"name": _prometheus.STORAGE_CLASS},
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true"},
            # A disk is made in the zone where its pod was placed, and outlives a claim deleted by mistake.
            volume_binding_mode="WaitForFirstConsumer",
            reclaim_policy="Retain",
            allow_volume_expansion=True,
            opts=self._child(),
        )

    def _topic(self) -> aws.sns.Topic:
        key = encryption_key(f"{self._name}-key", "Alerts of the environment", parent=self)
        topic = aws.sns.Topic(f"{self._name}-alerts", kms_master_key_id=key.arn, opts=self._child())
        for position, address in enumerate(self._args.get("alert_emails", [])):
            aws.sns.TopicSubscription(
                f"{self._name}-alerts-{position}",
                topic=topic.arn,
                protocol="email",
                endpoint=address,
                opts=self._child(),
            )
        role = aws.iam.Role(
            f"{self._name}-alertmanager",
            description="Alertmanager, to publish alerts",
            assume_role_policy=_iam.pod_identity_trust(),
            opts=self._child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-publish",
            role=role.name,
            policy=pulumi.Output.all(topic.arn, key.arn).apply(lambda arns: _iam.publish(arns[0], arns[1])),
            opts=self._child(),
        )
        aws.eks.PodIdentityAssociation(
            f"{self._name}-alertmanager",
            cluster_name=self._args["cluster_name"],
            namespace=self._namespace,
            service_account=_prometheus.ALERTMANAGER_ACCOUNT,
            role_arn=role.arn,
            opts=self._child(policy),
        )
        return topic

    def _install(self, topic: aws.sns.Topic) -> pulumi.Resource:
        lookup = pulumi.InvokeOptions(parent=self)
        admin = kubernetes.core.v1.Secret(
            f"{self._name}-grafana",
            metadata={"name": _GRAFANA_SECRET, "namespace": self._namespace},
            type="Opaque",
            data=pulumi.Output.secret({"user": _base64("admin"), "password": _base64(secrets.token_urlsafe(24))}),
            # Made once: the password of each run that follows is ignored.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["data"]),
        )
        return kubernetes.helm.v3.Release(
            f"{self._name}-stack",
            name=_prometheus.CHART,
            chart=_prometheus.CHART,
            version=_prometheus.CHART_VERSION,
            repository_opts={"repo": _prometheus.CHART_REPOSITORY},
            namespace=self._namespace,
            values=_prometheus.chart_values(
                common=self._common,
                grafana_secret=_GRAFANA_SECRET,
                topic_arn=topic.arn,
                region=aws.get_region_output(opts=lookup).region,
                storage_gb=int(self._args.get("storage_gb", 50)),
            ),
            # A release that fails half-way is taken back whole, rather than left to be found pending.
            atomic=True,
            timeout=900,
            opts=self._child(admin),
        )

    def _use_existing(self) -> pulumi.Resource:
        account = kubernetes.core.v1.ServiceAccount(
            f"{self._name}-prometheus",
            metadata={"name": _prometheus.SERVICE_ACCOUNT, "namespace": self._namespace},
            opts=self._child(),
        )
        role = kubernetes.rbac.v1.ClusterRole(
            f"{self._name}-prometheus",
            metadata={"name": "llm-serving-prometheus"},
            rules=[
                PolicyRuleArgs(api_groups=[""], resources=["services", "endpoints", "pods"], verbs=_WATCH),
                PolicyRuleArgs(api_groups=["discovery.k8s.io"], resources=["endpointslices"], verbs=_WATCH),
            ],
            opts=self._child(),
        )
        binding = kubernetes.rbac.v1.ClusterRoleBinding(
            f"{self._name}-prometheus",
            metadata={"name": "llm-serving-prometheus"},
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role.metadata.name},
            subjects=[{"kind": "ServiceAccount", "name": _prometheus.SERVICE_ACCOUNT, "namespace": self._namespace}],
            opts=self._child(),
        )
        return kubernetes.apiextensions.CustomResource(
            f"{self._name}-server",
            api_version="monitoring.coreos.com/v1",
            kind="Prometheus",
            metadata={"name": "llm-serving", "namespace": self._namespace},
            spec=_prometheus.prometheus(self._common),
            opts=self._child(account, binding),
        )

    def _monitors(self, inputs: observability.MonitoringInputs, server: pulumi.Resource) -> None:
        """Have the gateway and every model scraped, and the kube-state-metrics that the cluster has."""
        specs = _prometheus.service_monitors(inputs)
        if self._args.get("operator") == "existing":
            specs["kube-state-metrics"] = _prometheus.kube_state_metrics_monitor()
        for name, spec in specs.items():
            kubernetes.apiextensions.CustomResource(
                f"{self._name}-{name}",
                api_version="monitoring.coreos.com/v1",
                kind="ServiceMonitor",
                metadata={"name": name, "namespace": self._namespace},
                spec=spec,
                opts=self._child(server),
            )

    def _rules(self, inputs: observability.MonitoringInputs, server: pulumi.Resource) -> None:
        kubernetes.apiextensions.CustomResource(
            f"{self._name}-rules",
            api_version="monitoring.coreos.com/v1",
            kind="PrometheusRule",
            metadata={"name": "llm-serving", "namespace": self._namespace},
            spec=observability.rules(inputs),
            opts=self._child(server),
        )

    def _dashboards(self, inputs: observability.MonitoringInputs) -> None:
        for uid, dashboard in observability.dashboards(inputs).items():
            kubernetes.core.v1.ConfigMap(
                f"{self._name}-dashboard-{uid}",
                metadata={
                    "name": f"dashboard-{uid}",
                    "namespace": self._namespace,
                    "labels": {_prometheus.DASHBOARD_LABEL: "1"},
                },
                data={f"{uid}.json": json.dumps(dashboard, indent=1, sort_keys=True)},
                opts=self._child(),
            )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _inputs(args: MonitoringArgs) -> observability.MonitoringInputs:
    models: Mapping[str, Any] = args["models"]
    embeddings: Mapping[str, Any] = args.get("embeddings", {})
    return _prometheus.inputs(
        models=models,
        embeddings=embeddings,
        pools=args["pools"],
        prices=args.get("prices_usd_per_hour", {}),
        namespace=args.get("workload_namespace", "llm-serving"),
        cache=args.get("cache", True),
        budget_usd_per_hour=args.get("budget_usd_per_hour"),
        runbook_base_url=args.get("runbook_base_url", "docs/runbooks"),
    )


def _common(args: MonitoringArgs) -> dict[str, Any]:
    return _prometheus.server(
        replicas=_checks.whole("replicas", args.get("replicas", 1), low=1, high=2),
        retention_days=_checks.whole("retention_days", args.get("retention_days", 15), low=1, high=3650, unit="days"),
        storage_gb=_checks.whole("storage_gb", args.get("storage_gb", 50), low=0, high=16384, unit="GB"),
        scrape_interval_seconds=_checks.whole(
            "scrape_interval_seconds", args.get("scrape_interval_seconds", 30), low=1, high=300, unit="s"
        ),
        container=_quantities.resources(
            _checks.whole("cpu_millicores", args.get("cpu_millicores", 500), low=10, high=64_000),
            _checks.whole("memory_mib", args.get("memory_mib", 2048), low=64, high=1_048_576, unit="MiB"),
        ),
    )
