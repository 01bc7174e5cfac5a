"""Monitoring: with the chart or with the cluster's own operator, the same rules, dashboards and topic."""

import json
from typing import Any

import pytest

from llm_serving import Monitoring
from llm_serving.monitoring import MonitoringArgs
from tests.recording import Recording, record

CUSTOM = "kubernetes:apiextensions.k8s.io:CustomResource"
RELEASE = "kubernetes:helm.sh/v3:Release"
CONFIG = "kubernetes:core/v1:ConfigMap"


def monitoring(**args: Any) -> Recording:
    given: dict[str, Any] = {
        "cluster_name": "c",
        "models": {"m": {"pool": "l4"}},
        "pools": {"system": ["m7i.large"], "l4": ["g6.xlarge"]},
        **args,
    }
    return record(lambda: Monitoring("m", MonitoringArgs(**given)))


def kinds(made: Recording) -> dict[str, int]:
    return {kind.removeprefix("kubernetes:"): count for kind, count in made.types().items()}


COMMON = {
    "llm-serving:index:Monitoring": 1,
    "core/v1:Namespace": 1,
    "core/v1:ConfigMap": 4,
    "aws:kms/key:Key": 1,
    "aws:sns/topic:Topic": 1,
    "aws:iam/role:Role": 1,
    "aws:iam/rolePolicy:RolePolicy": 1,
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": 1,
    "monitoring.coreos.com/v1:PrometheusRule": 1,
    "monitoring.coreos.com/v1:ServiceMonitor": 2,
}


def test_installed() -> None:
    assert kinds(monitoring()) == COMMON | {
        "storage.k8s.io/v1:StorageClass": 1,
        "core/v1:Secret": 1,
        "helm.sh/v3:Release": 1,
    }


def test_where_prometheus_answers() -> None:
    assert monitoring(namespace="watch").outputs["m"]["prometheusUrl"] == (
        "http://prometheus-operated.watch.svc.cluster.local:9090"
    )


def test_existing() -> None:
    assert kinds(monitoring(operator="existing", storage_gb=0)) == COMMON | {
        "core/v1:ServiceAccount": 1,
        "rbac.authorization.k8s.io/v1:ClusterRole": 1,
        "rbac.authorization.k8s.io/v1:ClusterRoleBinding": 1,
        "monitoring.coreos.com/v1:Prometheus": 1,
        "monitoring.coreos.com/v1:ServiceMonitor": 3,
    }


def test_the_chart_takes_every_monitor_and_rule_and_tells_the_topic() -> None:
    release = monitoring().inputs(RELEASE, "m-stack")
    assert (release["chart"], release["version"], release["atomic"]) == ("kube-prometheus-stack", "88.5.3", True)
    values = release["values"]
    assert values["prometheus"]["prometheusSpec"] == {
        "replicas": 1,
        "retention": "15d",
        "retentionSize": "42GiB",
        "scrapeInterval": "30s",
        "evaluationInterval": "30s",
        "enableAdminAPI": False,
        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
        "nodeSelector": {"llm-serving/pool": "system"},
        "storageSpec": {
            "volumeClaimTemplate": {
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "llm-serving-gp3",
                    "resources": {"requests": {"storage": "50Gi"}},
                }
            }
        },
        "serviceMonitorSelectorNilUsesHelmValues": False,
        "podMonitorSelectorNilUsesHelmValues": False,
        "ruleSelectorNilUsesHelmValues": False,
    }
    receivers = values["alertmanager"]["config"]["receivers"]
    assert [receiver["name"] for receiver in receivers] == ["none", "topic"]
    assert receivers[1]["sns_configs"][0]["topic_arn"].startswith("arn:")
    assert values["grafana"]["admin"]["existingSecret"] == "grafana-admin"
    assert "adminPassword" not in json.dumps(values)


def test_the_own_server_takes_every_monitor_and_rule() -> None:
    made = monitoring(operator="existing", storage_gb=0, memory_mib=300, scrape_interval_seconds=5)
    spec = made.inputs("kubernetes:monitoring.coreos.com/v1:Prometheus", "m-server")["spec"]
    for selector in ("serviceMonitor", "podMonitor", "rule"):
        assert spec[f"{selector}Selector"] == {}
        assert spec[f"{selector}NamespaceSelector"] == {}
    assert spec["resources"]["limits"] == {"memory": "300Mi"}
    assert spec["scrapeInterval"] == "5s"
    assert "storage" not in spec
    assert "retentionSize" not in spec


def test_a_model_is_scraped_where_its_runtime_answers_and_by_its_name() -> None:
    made = monitoring(models={"m": {"pool": "l4", "runtime": "tensorrt-llm"}})
    spec = made.inputs("kubernetes:monitoring.coreos.com/v1:ServiceMonitor", "m-model-m")["spec"]
    assert spec == {
        "namespaceSelector": {"matchNames": ["llm-serving"]},
        "selector": {"matchLabels": {"app.kubernetes.io/name": "inference-service", "app.kubernetes.io/instance": "m"}},
        "endpoints": [
            {
                "port": "http",
                "path": "/prometheus/metrics",
                "relabelings": [{"targetLabel": "model", "replacement": "m"}],
            }
        ],
    }


def test_a_version_is_scraped_under_its_models_name() -> None:
    made = monitoring(models={"m": {"pool": "l4"}, "m-canary": {"pool": "l4", "version_of": "m"}})
    of_model = made.inputs("kubernetes:monitoring.coreos.com/v1:ServiceMonitor", "m-model-m")["spec"]
    assert of_model["endpoints"][0]["relabelings"] == [{"targetLabel": "model", "replacement": "m"}]
    of_version = made.inputs("kubernetes:monitoring.coreos.com/v1:ServiceMonitor", "m-model-m-canary")["spec"]
    assert of_version["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "m-canary"
    assert of_version["endpoints"][0]["relabelings"] == [
        {"targetLabel": "model", "replacement": "m"},
        {"targetLabel": "version", "replacement": "canary"},
    ]


def test_an_embedding_service_is_scraped_and_shown_as_a_model_is() -> None:
    made = monitoring(embeddings={"minilm": {}})
    spec = made.inputs("kubernetes:monitoring.coreos.com/v1:ServiceMonitor", "m-model-minilm")["spec"]
    assert spec["selector"] == {
        "matchLabels": {"app.kubernetes.io/name": "inference-service", "app.kubernetes.io/instance": "minilm"}
    }
    assert spec["endpoints"] == [
        {"port": "http", "path": "/metrics", "relabelings": [{"targetLabel": "model", "replacement": "minilm"}]}
    ]
    dashboard = "m-dashboard-llm-serving-service"
    (with_it,) = made.inputs("kubernetes:core/v1:ConfigMap", dashboard)["data"].values()
    (without,) = monitoring().inputs("kubernetes:core/v1:ConfigMap", dashboard)["data"].values()
    assert "llm_embedder_queued_tokens" in with_it
    assert "llm_embedder" not in without


def test_only_alertmanager_publishes_and_only_to_the_topic() -> None:
    made = monitoring()
    policy = json.loads(made.inputs("aws:iam/rolePolicy:RolePolicy", "m-publish")["policy"])
    assert [statement["Action"] for statement in policy["Statement"]] == [
        "sns:Publish",
        ["kms:Decrypt", "kms:GenerateDataKey*"],
    ]
    assert all(statement["Resource"] != "*" for statement in policy["Statement"])
    association = made.inputs("aws:eks/podIdentityAssociation:PodIdentityAssociation", "m-alertmanager")
    assert (association["namespace"], association["serviceAccount"]) == ("monitoring", "alertmanager")


def test_each_address_gets_a_subscription() -> None:
    made = monitoring(alert_emails=["a@example.com", "b@example.com"])
    assert made.inputs("aws:sns/topicSubscription:TopicSubscription", "m-alerts-1")["endpoint"] == "b@example.com"


def test_dashboards_are_for_grafanas_sidecar() -> None:
    made = monitoring()
    config = made.inputs(CONFIG, "m-dashboard-llm-serving-service")
    assert config["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(config["data"]["llm-serving-service.json"])["uid"] == "llm-serving-service"


def test_a_price_that_the_settings_give_is_the_one_used() -> None:
    def prices(**args: Any) -> dict[str, str]:
        made = monitoring(**args)
        groups = made.inputs("kubernetes:monitoring.coreos.com/v1:PrometheusRule", "m-rules")["spec"]["groups"]
        return {
            rule["labels"]["instance_type"]: rule["expr"]
            for group in groups
            for rule in group["rules"]
            if rule.get("record") == "llm_serving:instance_price:usd_per_hour"
        }

    assert prices() == {"g6.xlarge": "vector(0.8048)"}
    assert prices(prices_usd_per_hour={"g6.xlarge": 0.5, "m7i.large": 0.1}) == {
        "g6.xlarge": "vector(0.5)",
        "m7i.large": "vector(0.1)",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"operator": "installed"}, r"^operator: 'installed' is not one of install, existing; nearest .* install$"),
        ({"replicas": 3}, r"^replicas: 3 is outside 1 to 2; nearest valid value: 2$"),
        ({"storage_gb": 20000}, r"^storage_gb: 20000 GB is outside 0 to 16384; nearest valid value: 16384$"),
        ({"models": {"m": {"pool": "l5"}}}, r"^models.m.pool: 'l5' is no pool; known: l4, system$"),
        ({"embeddings": {"e": {"pool": "l5"}}}, r"^embeddings.e.pool: 'l5' is no pool; known: l4, system$"),
    ],
)
def test_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        monitoring(**args)
