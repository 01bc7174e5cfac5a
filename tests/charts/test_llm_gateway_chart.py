"""The manifests of charts/llm-gateway, field by field, and the values that it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from llm_gateway.config import (
    GatewayConfig,
    JwtConfig,
    LimitsConfig,
    ModelRoute,
    SemanticConfig,
    SemanticRoute,
    TracesConfig,
    Version,
)

from llm_serving import _values
from tests.charts.rendering import CHARTS, DIGEST, NAMESPACE, ChartError, Objects, lint, render

pytestmark = pytest.mark.local

CHART = "llm-gateway"
URL = "http://m.llm-serving.svc.cluster.local:8080"
ARN = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/gateway/1"
SELECTOR = {"app.kubernetes.io/name": CHART, "app.kubernetes.io/instance": CHART}
LABELS = {**SELECTOR, "app.kubernetes.io/part-of": "llm-serving", "app.kubernetes.io/managed-by": "Helm"}


def values(**changes: Any) -> dict[str, Any]:
    """The values that the component passes, with changes."""
    passed = _values.llm_gateway(
        image=f"registry/llm-gateway@{DIGEST}",
        replicas=2,
        cpu_millicores=50,
        memory_mib=192,
        models={"m": {"url": URL, "timeout_seconds": 300, "revision": "1"}},
        cache_enabled=True,
        cache_ttl_seconds=3600,
        cache_secret_name="llm-gateway-cache",
        target_group_arn=ARN,
        node_pool="system",
        network_cidrs=["10.0.0.0/16"],
    )
    return passed | changes


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return render(tmp_path, CHART, CHART, values())


def test_the_chart_is_clean(tmp_path: Path) -> None:
    lint(tmp_path, CHART, values())


def test_the_objects(objects: Objects) -> None:
    assert set(objects) == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
        "TargetGroupBinding",
    }
    for item in objects.values():
        assert item["metadata"]["name"] == CHART
        assert item["metadata"]["namespace"] == NAMESPACE
        assert item["metadata"]["labels"] == LABELS


def test_the_deployment(objects: Objects) -> None:
    deployment = objects["Deployment"]
    pod = deployment["spec"].pop("template")
    assert deployment["spec"] == {
        "replicas": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": SELECTOR},
    }
    assert pod["metadata"] == {"labels": LABELS}
    container = pod["spec"].pop("containers")[0]
    spread = {
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": SELECTOR},
        "matchLabelKeys": ["pod-template-hash"],
    }
    assert pod["spec"] == {
        "serviceAccountName": CHART,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 330,  # 10 of sleep, 310 of drain, 10 to close
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "config", "configMap": {"name": CHART}},
            {
                "name": "cache",
                "secret": {
                    "secretName": "llm-gateway-cache",
                    "optional": True,
                    "defaultMode": 0o440,
                    "items": [{"key": "url", "path": "url"}],
                },
            },
        ],
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "topologySpreadConstraints": [
            {"topologyKey": "kubernetes.io/hostname", **spread},
            {"topologyKey": "topology.kubernetes.io/zone", **spread},
        ],
        "nodeSelector": {"llm-serving/pool": "system"},
    }
    live = {"path": "/health/live", "port": "http"}
    assert container == {
        "name": "gateway",
        "image": f"registry/llm-gateway@{DIGEST}",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080}],
        "startupProbe": {"httpGet": live, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {
            "httpGet": {"path": "/health/ready", "port": "http"},
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {"httpGet": live, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
        "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
        "resources": {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"memory": "192Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/llm-gateway", "readOnly": True},
            {"name": "cache", "mountPath": "/var/run/secrets/cache", "readOnly": True},
        ],
    }


def test_the_configuration_is_one_that_the_gateway_takes(objects: Objects) -> None:
    document = yaml.safe_load(objects["ConfigMap"]["data"]["gateway.yaml"])
    assert document == {
        "models": {"m": {"url": URL, "timeout_seconds": 300, "revision": "1"}},
        "cache": {"enabled": True, "ttl_seconds": 3600, "url_file": "/var/run/secrets/cache/url"},
        "server": {"drain_deadline_seconds": 310},
    }
    assert GatewayConfig.model_validate(document).models["m"].timeout_seconds == 300


def test_the_semantic_cache_is_one_that_the_gateway_takes(tmp_path: Path) -> None:
    route = {"url": URL, "semantic_cache": {"mode": "answer", "threshold": 0.97}}
    given = values(models={"m": route})
    given["cache"]["semantic"] = {"embedder_url": "http://e.other.example:9000", "max_entries": 500}
    made = render(tmp_path, CHART, CHART, given)
    config = GatewayConfig.model_validate(yaml.safe_load(made["ConfigMap"]["data"]["gateway.yaml"]))
    assert config.models["m"].semantic_cache == SemanticRoute(mode="answer", threshold=0.97)
    assert config.cache.semantic == SemanticConfig(embedder_url="http://e.other.example:9000", max_entries=500)
    assert {"ports": [{"protocol": "TCP", "port": 9000}]} in egress(made)  # it is no Service of the cluster
    given["cache"]["semantic"] = {"embedder_model": "bge", "max_entries": 500}
    with pytest.raises(ChartError, match="embedder_url"):
        render(tmp_path, CHART, CHART, given)


def test_a_gateway_that_embeds_itself_may_connect_to_no_embedder(tmp_path: Path) -> None:
    given = values(models={"m": {"url": URL, "semantic_cache": {"mode": "answer"}}})
    without = render(tmp_path, CHART, CHART, values(models={"m": {"url": URL}}))
    given["cache"]["semantic"] = {"max_entries": 500}
    made = render(tmp_path, CHART, CHART, given)
    config = GatewayConfig.model_validate(yaml.safe_load(made["ConfigMap"]["data"]["gateway.yaml"]))
    assert config.cache.semantic == SemanticConfig(max_entries=500)
    assert egress(made) == egress(without)


def test_whose_tokens_count_is_what_the_gateway_takes(tmp_path: Path, authority: str) -> None:
    given: dict[str, Any] = {"issuer": "https://login.example/pool", "audience": ["llm"], "required_scopes": ["chat"]}
    given |= {"required_inside": True, "certificate_authority": authority}
    made = render(tmp_path, CHART, CHART, values(jwt=given))
    config = GatewayConfig.model_validate(yaml.safe_load(made["ConfigMap"]["data"]["gateway.yaml"]))
    assert config.jwt == JwtConfig.model_validate(given)
    assert {"ports": [{"protocol": "TCP", "port": 443}]} in egress(made)  # to read its keys
    with pytest.raises(ChartError, match="audience"):
        render(tmp_path, CHART, CHART, values(jwt={"issuer": "https://login.example"}))


def test_pages_that_may_call_are_those_that_the_gateway_knows(tmp_path: Path) -> None:
    made = render(tmp_path, CHART, CHART, values(corsOrigins=["https://app.example", "http://localhost:3000"]))
    config = GatewayConfig.model_validate(yaml.safe_load(made["ConfigMap"]["data"]["gateway.yaml"]))
    assert config.server.cors_origins == ("https://app.example", "http://localhost:3000")
    with pytest.raises(ChartError, match="corsOrigins"):
        render(tmp_path, CHART, CHART, values(corsOrigins=["https://app.example/"]))


def test_values_know_every_field_of_a_route() -> None:
    schema = json.loads((CHARTS / CHART / "values.schema.json").read_text())
    properties = schema["properties"]["models"]["additionalProperties"]["properties"]
    assert properties.keys() == ModelRoute.model_fields.keys()
    assert properties["versions"]["items"]["properties"].keys() == Version.model_fields.keys()


def test_the_limits_are_ones_that_the_gateway_takes(tmp_path: Path) -> None:
    given = values() | {"limits": {"tokens_per_minute": 1_000_000_000}}
    made = render(tmp_path, CHART, CHART, given)
    config = GatewayConfig.model_validate(yaml.safe_load(made["ConfigMap"]["data"]["gateway.yaml"]))
    assert config.limits == LimitsConfig(tokens_per_minute=1_000_000_000)
    with pytest.raises(ChartError, match="tokens_per_second"):
        render(tmp_path, CHART, CHART, given | {"limits": {"tokens_per_second": 5}})


def test_the_service_and_what_is_bound_to_it(objects: Objects) -> None:
    assert objects["Service"]["spec"] == {
        "type": "ClusterIP",
        "selector": SELECTOR,
        "ports": [{"name": "http", "port": 8080, "targetPort": "http"}],
    }
    assert objects["Service"]["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}
    assert objects["TargetGroupBinding"]["apiVersion"] == "elbv2.k8s.aws/v1beta1"
    assert objects["TargetGroupBinding"]["spec"] == {
        "serviceRef": {"name": CHART, "port": 8080},
        "targetGroupARN": ARN,
        "targetType": "ip",
    }
    assert objects["PodDisruptionBudget"]["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": SELECTOR},
    }
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False


def egress(objects: Objects) -> list[dict[str, Any]]:
    """What the pods may connect to besides cluster DNS."""
    return objects["NetworkPolicy"]["spec"]["egress"][1:]


MODELS = {
    "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "inference-service"}}}],
    "ports": [{"protocol": "TCP", "port": 8080}],
}


def test_who_reaches_the_pods_and_whom_they_reach(objects: Objects) -> None:
    policy = objects["NetworkPolicy"]["spec"]
    balancer = {"ipBlock": {"cidr": "10.0.0.0/16"}}
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert policy["podSelector"] == {"matchLabels": SELECTOR}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"from": [balancer, monitoring], "ports": [{"protocol": "TCP", "port": 8080}]}]
    assert egress(objects) == [MODELS, {"to": [balancer], "ports": [{"protocol": "TCP", "port": 6379}]}]


def test_a_model_elsewhere_is_reached_on_its_port(tmp_path: Path) -> None:
    urls = {"m": URL, "a": "https://a.example/v1", "b": "http://b.example:8000", "c": "http://c", "d": "https://d"}
    cache = {"enabled": False, "ttlSeconds": 1, "secretName": ""}
    given = values(models={model: {"url": url} for model, url in urls.items()}, cache=cache)
    outside = [{"protocol": "TCP", "port": port} for port in (443, 8000, 80)]
    assert egress(render(tmp_path, CHART, CHART, given)) == [MODELS, {"ports": outside}]


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        (
            "http://collector.tracing.svc.cluster.local:4318",
            {
                "ports": [{"protocol": "TCP", "port": 4318}],
                "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tracing"}}}],
            },
        ),
        ("https://collector.example", {"ports": [{"protocol": "TCP", "port": 443}]}),
    ],
)
def test_traces_reach_their_collector(tmp_path: Path, endpoint: str, allowed: dict[str, Any]) -> None:
    traces = {"endpoint": endpoint, "sample_percent": 0.5}
    objects = render(tmp_path, CHART, CHART, values(traces=traces))
    config = GatewayConfig.model_validate(yaml.safe_load(objects["ConfigMap"]["data"]["gateway.yaml"]))
    assert config.traces == TracesConfig(endpoint=endpoint, sample_percent=0.5)
    assert egress(objects)[-1] == allowed
    with pytest.raises(ChartError, match="endpoint"):
        render(tmp_path, CHART, CHART, values(traces={"sample_percent": 1}))


def test_versions_reach_the_gateway_as_they_are(tmp_path: Path) -> None:
    versions = [
        {"name": "stable", "url": URL, "revision": "1", "weight": 90, "shadow": False},
        {"name": "canary", "url": "https://canary.example", "revision": "2", "weight": 10, "shadow": False},
    ]
    objects = render(tmp_path, CHART, CHART, values(models={"m": {"timeout_seconds": 300, "versions": versions}}))
    document = yaml.safe_load(objects["ConfigMap"]["data"]["gateway.yaml"])
    assert document["models"]["m"]["versions"] == versions
    assert [each.name for each in GatewayConfig.model_validate(document).models["m"].live] == ["stable", "canary"]
    assert {"ports": [{"protocol": "TCP", "port": 443}]} in egress(objects)


def test_a_models_kind_reaches_the_gateway(tmp_path: Path) -> None:
    models = {"minilm": {"kind": "embedding", "url": URL, "timeout_seconds": 30, "revision": ""}}
    objects = render(tmp_path, CHART, CHART, values(models=models))
    document = yaml.safe_load(objects["ConfigMap"]["data"]["gateway.yaml"])
    assert GatewayConfig.model_validate(document).models["minilm"].kind == "embedding"


def test_without_ranges_security_groups_alone_decide(tmp_path: Path) -> None:
    policy = render(tmp_path, CHART, CHART, values(networkCidrs=[]))["NetworkPolicy"]["spec"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8080}]}]
    assert policy["egress"][-1] == {"ports": [{"protocol": "TCP", "port": 6379}]}


def test_one_replica_has_no_disruption_budget(tmp_path: Path) -> None:
    assert "PodDisruptionBudget" not in render(tmp_path, CHART, CHART, values(replicas=1))


def test_without_a_target_group_there_is_no_binding(tmp_path: Path) -> None:
    assert "TargetGroupBinding" not in render(tmp_path, CHART, CHART, values(targetGroupARN=""))


def test_without_a_cache_nothing_of_it_is_mounted(tmp_path: Path) -> None:
    off = {"enabled": False, "ttlSeconds": 3600, "secretName": ""}
    rendered = render(tmp_path, CHART, CHART, values(cache=off))
    pod = rendered["Deployment"]["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["config"]
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["config"]
    assert yaml.safe_load(rendered["ConfigMap"]["data"]["gateway.yaml"])["cache"] == {"enabled": False}


def test_a_model_without_a_timeout_counts_with_the_gateways_default(tmp_path: Path) -> None:
    rendered = render(tmp_path, CHART, CHART, values(models={"m": {"url": URL}}, preStopSeconds=20))
    assert rendered["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 160


def test_large_numbers_stay_whole(tmp_path: Path) -> None:
    cache = {"enabled": True, "ttlSeconds": 31_536_000, "secretName": "s"}
    rendered = render(tmp_path, CHART, CHART, values(cache=cache))
    assert yaml.safe_load(rendered["ConfigMap"]["data"]["gateway.yaml"])["cache"]["ttl_seconds"] == 31_536_000


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": "registry/llm-gateway:1.0"}, "image"),
        ({"image": ""}, "image"),
        ({"imag": "x"}, "imag"),
        ({"models": {}}, "models"),
        ({"models": {"m": {"url": "m:8080"}}}, "url"),
        ({"models": {"m": {"url": URL, "kind": "embeddings"}}}, "kind"),
        ({"models": {"m": {"url": URL, "timeout_seconds": 901}}}, "timeout_seconds"),
        ({"cache": {"enabled": True, "ttlSeconds": 1, "secretName": ""}}, "secretName"),
        ({"cache": {"enabled": True, "ttlSeconds": 1, "secretName": "s", "url": "rediss://x"}}, "url"),
        ({"targetGroupARN": "gateway"}, "targetGroupARN"),
        ({"networkCidrs": ["anywhere"]}, "networkCidrs"),
        ({"replicas": "2"}, "replicas"),
    ],
)
def test_values_that_are_wrong_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ChartError, match=field):
        render(tmp_path, CHART, CHART, values(**changes))
