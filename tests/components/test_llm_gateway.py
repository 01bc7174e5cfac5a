"""LlmGateway: a load balancer that only API Gateway reaches, its pods, and a cache URL that stays secret."""

import base64
from typing import Any

import pytest

from llm_serving import LlmGateway
from llm_serving.llm_gateway import LlmGatewayArgs
from tests.recording import Recording, record

ARN = "arn:aws:test:us-east-1:123456789012"
CHART = "kubernetes:helm.sh/v4:Chart"
URL = "rediss://:token@cache.example:6379/0"


NONE = "nearest valid value: none"
SEMANTIC = {"semantic_cache": {"embedder_url": "http://e"}}


def gateway(**args: Any) -> Recording:
    given: dict[str, Any] = {
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1", "subnet-2"],
        "cluster_security_group_id": "sg-cluster",
        "namespace": "llm-serving",
        "image": "registry.example/llm-gateway@sha256:1",
        "models": {"tiny": {"url": "http://tiny:8080", "timeout_seconds": 60, "revision": "1"}},
        "cache_url": URL,
        **args,
    }
    return record(lambda: LlmGateway("g", LlmGatewayArgs(**given)))


def test_every_resource() -> None:
    assert gateway().types() == {
        "llm-serving:index:LlmGateway": 1,
        "aws:ec2/securityGroup:SecurityGroup": 1,
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": 1,
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": 1,
        "aws:lb/loadBalancer:LoadBalancer": 1,
        "aws:lb/targetGroup:TargetGroup": 1,
        "aws:lb/listener:Listener": 1,
        "kubernetes:core/v1:Secret": 1,
        CHART: 1,
    }


def test_load_balancer() -> None:
    made = gateway()
    balancer = made.one("aws:lb/loadBalancer:LoadBalancer", "g-nlb")
    assert balancer.inputs == {
        "loadBalancerType": "network",
        "internal": True,
        "subnets": ["subnet-1", "subnet-2"],
        "securityGroups": ["g-balancer-id"],
        "enforceSecurityGroupInboundRulesOnPrivateLinkTraffic": "off",
        "enableCrossZoneLoadBalancing": True,
        "enableDeletionProtection": True,
        "tags": {"Name": "g"},
    }
    assert {"g-balancer-to-pods", "g-pods-from-balancer"} <= set(balancer.depends_on)
    opened = made.inputs("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "g-pods-from-balancer")
    assert opened == {
        "description": "LLM gateway from its load balancer",
        "securityGroupId": "sg-cluster",
        "referencedSecurityGroupId": "g-balancer-id",
        "ipProtocol": "tcp",
        "fromPort": 8080,
        "toPort": 8080,
    }


def test_targets() -> None:
    made = gateway()
    assert made.inputs("aws:lb/targetGroup:TargetGroup", "g-pods") == {
        "vpcId": "vpc-1",
        "targetType": "ip",
        "protocol": "TCP",
        "port": 8080,
        "deregistrationDelay": 30,
        "healthCheck": {
            "protocol": "HTTP",
            "path": "/health/ready",
            "port": "traffic-port",
            "interval": 10,
            "timeout": 5,
            "healthyThreshold": 2,
            "unhealthyThreshold": 2,
            "matcher": "200",
        },
    }
    assert made.inputs("aws:lb/listener:Listener", "g-http") == {
        "loadBalancerArn": f"{ARN}:loadbalancer/g-nlb",
        "protocol": "TCP",
        "port": 80,
        "defaultActions": [{"type": "forward", "targetGroupArn": f"{ARN}:targetgroup/g-pods"}],
    }


def test_chart_values() -> None:
    chart = gateway(replicas=3, cpu_millicores=50, memory_mib=128, cache_ttl_seconds=60).one(CHART, "g")
    assert chart.inputs["name"] == "llm-gateway"
    assert chart.inputs["namespace"] == "llm-serving"
    assert chart.inputs["chart"].endswith("/charts/llm-gateway")
    assert chart.inputs["values"] == {
        "image": "registry.example/llm-gateway@sha256:1",
        "replicas": 3,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}},
        "models": {"tiny": {"url": "http://tiny:8080", "timeout_seconds": 60, "revision": "1"}},
        "cache": {"enabled": True, "ttlSeconds": 60, "secretName": "llm-gateway-cache", "port": 6379},
        "targetGroupARN": f"{ARN}:targetgroup/g-pods",
        "networkCidrs": ["10.0.0.0/16"],
        "nodeSelector": {"llm-serving/pool": "system"},
    }
    assert {"g-cache", "g-http"} <= set(chart.depends_on)


def test_pods_are_told_apart_where_requests_that_begin_alike_are_kept_together() -> None:
    tiny = {"url": "http://tiny:8080", "pods_url": "http://tiny-pods:8080"}
    stable = {"url": "http://big:8080", "pods_url": "http://big-pods:8080", "weight": 100}
    values = gateway(models={"tiny": tiny, "big": {"versions": {"stable": stable}}}).one(CHART, "g").inputs["values"]
    assert values["models"]["tiny"]["pods_url"] == "http://tiny-pods:8080"
    assert values["models"]["big"]["versions"][0]["pods_url"] == "http://big-pods:8080"


def test_whose_tokens_count(authority: str) -> None:
    given = {"issuer": "https://login.example", "audience": ["llm"]}
    values = gateway(jwt=given).one(CHART, "g").inputs["values"]
    assert values["jwt"] == {**given, "tenant_claim": "sub", "required_scopes": []}
    inside = gateway(jwt={**given, "required_inside": True}).one(CHART, "g").inputs["values"]
    assert inside["jwt"] == {**values["jwt"], "required_inside": True}
    own = gateway(jwt={**given, "certificate_authority": authority}).one(CHART, "g").inputs["values"]
    assert own["jwt"] == {**values["jwt"], "certificate_authority": authority}
    assert "jwt" not in gateway().one(CHART, "g").inputs["values"]


VERSIONS: dict[str, Any] = {
    "stable": {"url": "http://tiny:8080", "weight": 90, "revision": "1"},
    "canary": {"url": "http://tiny-canary:8080", "weight": 10.0},
    "next": {"url": "http://tiny-next:8080", "weight": 5, "shadow": True},
}


def test_a_model_may_ask_for_the_semantic_cache() -> None:
    tiny = {"url": "http://tiny:8080", "semantic_cache": {"mode": "shadow"}}
    made = gateway(
        models={"tiny": tiny, "big": {"url": "http://big"}}, semantic_cache={"embedder_url": "http://e:8080"}
    )
    values = made.one(CHART, "g").inputs["values"]
    assert values["models"]["tiny"]["semantic_cache"] == {"mode": "shadow", "threshold": 0.95}
    assert "semantic_cache" not in values["models"]["big"]
    assert values["cache"]["semantic"] == {
        "embedder_url": "http://e:8080",
        "embedder_model": "all-MiniLM-L6-v2",
        "timeout_seconds": 0.25,
        "max_entries": 20_000,
        "max_partition_entries": 2000,
    }


def test_without_an_embedder_the_gateway_embeds() -> None:
    tiny = {"tiny": {"url": "http://tiny:8080", "semantic_cache": {"mode": "answer"}}}
    made = gateway(models=tiny, semantic_cache={}, memory_mib=768)
    assert made.one(CHART, "g").inputs["values"]["cache"]["semantic"] == {
        "timeout_seconds": 0.25,
        "max_entries": 20_000,
        "max_partition_entries": 2000,
    }


def test_adapters_go_where_their_model_goes() -> None:
    for route in ({"url": "http://tiny:8080"}, {"versions": VERSIONS}):
        made = gateway(models={"tiny": {**route, "adapters": {"legal": "7"}}})
        assert made.inputs(CHART, "g")["values"]["models"]["tiny"]["adapters"] == {"legal": "7"}


def test_limits_of_a_key_that_are_set() -> None:
    tiny = {"tiny": {"url": "http://tiny:8080"}}
    values = gateway(models=tiny, key_tokens_per_minute=90_000).one(CHART, "g").inputs["values"]
    assert values["limits"] == {"tokens_per_minute": 90_000}
    assert "limits" not in gateway(models=tiny).one(CHART, "g").inputs["values"]


def test_traces_that_are_set() -> None:
    tiny = {"tiny": {"url": "http://tiny:8080"}}
    made = gateway(models=tiny, traces={"endpoint": "https://collector.example:4318/", "sample_percent": 0.5})
    assert made.one(CHART, "g").inputs["values"]["traces"] == {
        "endpoint": "https://collector.example:4318",
        "sample_percent": 0.5,
    }
    assert "traces" not in gateway(models=tiny).one(CHART, "g").inputs["values"]


def test_versions_share_a_route() -> None:
    made = gateway(models={"tiny": {"timeout_seconds": 60, "versions": VERSIONS}})
    assert made.inputs(CHART, "g")["values"]["models"] == {
        "tiny": {
            "timeout_seconds": 60,
            "versions": [
                {"name": "stable", "url": "http://tiny:8080", "revision": "1", "weight": 90, "shadow": False},
                {"name": "canary", "url": "http://tiny-canary:8080", "revision": "", "weight": 10, "shadow": False},
                {"name": "next", "url": "http://tiny-next:8080", "revision": "", "weight": 5, "shadow": True},
            ],
        }
    }


def test_a_route_to_an_embedding_service_says_so() -> None:
    made = gateway(models={"minilm": {"kind": "embedding", "url": "http://minilm:8080", "timeout_seconds": 30}})
    assert made.inputs(CHART, "g")["values"]["models"] == {
        "minilm": {"kind": "embedding", "url": "http://minilm:8080", "timeout_seconds": 30, "revision": ""}
    }


def test_cache_url_is_in_one_secret_and_nowhere_else() -> None:
    made = gateway()
    assert made.inputs("kubernetes:core/v1:Secret", "g-cache") == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "llm-gateway-cache", "namespace": "llm-serving"},
        "type": "Opaque",
        "data": {"secret": {"url": base64.b64encode(URL.encode()).decode()}},
    }
    others = str([each.inputs for each in made.resources if each.name != "g-cache"])
    assert "rediss" not in others
    assert base64.b64encode(b"rediss").decode()[:6] not in others


NO_ISSUER = "is not https://HOST[:PORT][/PATH], as an issuer of OpenID Connect is"
UNCERTIFIED = "and the pods behind it are asked by their addresses, for which there is no certificate"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"models": {}}, "models: is empty, so the gateway would have nowhere to send a request"),
        ({"replicas": 0}, "replicas: 0 is outside 1 to 100; nearest valid value: 1"),
        ({"cache_port": 0}, "cache_port: 0 is outside 1 to 65535; nearest valid value: 1"),
        (
            {"models": {"tiny": {"url": "http://tiny", "timeout_seconds": 901}}},
            "timeout_seconds: 901 s is outside 1 to 900; nearest valid value: 900",
        ),
        (
            {"models": {"tiny": {"url": "http://tiny", "semantic_cache": {"mode": "answer"}}}},
            f"models.tiny.semantic_cache: needs the gateway's semantic_cache, and cache_enabled; {NONE}",
        ),
        (
            {"traces": {"endpoint": "http://collector:4318"}},
            (
                "traces.endpoint: http://collector:4318 is http to a host that is not"
                " SERVICE.NAMESPACE.svc.cluster.local; nearest valid value: https://collector:4318"
            ),
        ),
        (
            {"traces": {"endpoint": "https://user:key@collector"}},
            (
                "traces.endpoint: is no http or https address of a host and a port;"
                " nearest valid value: http://collector.tracing.svc.cluster.local:4318"
            ),
        ),
        (
            {"traces": {"endpoint": "https://collector", "sample_percent": -1}},
            "traces.sample_percent: -1 is outside 0 to 100; nearest valid value: 0",
        ),
        (
            {"key_requests_per_minute": -1},
            "key_requests_per_minute: -1 is outside 0 to 1000000; nearest valid value: 0",
        ),
        (
            {"key_tokens_per_minute": 5, "cache_enabled": False},
            "cache_enabled: false, and the limits of a key are counted in the cache; nearest valid value: true",
        ),
        (
            {**SEMANTIC, "models": {"tiny": {"url": "http://tiny", "semantic_cache": {"mode": "on"}}}},
            "models.tiny.semantic_cache.mode: 'on' is not one of answer, shadow; nearest valid value: shadow",
        ),
        (
            {
                **SEMANTIC,
                "models": {"tiny": {"url": "http://t", "semantic_cache": {"mode": "answer", "threshold": 95}}},
            },
            "models.tiny.semantic_cache.threshold: 95 is not above 0 and up to 1; nearest valid value: 1",
        ),
        (
            {"semantic_cache": {"embedder_url": "http://e", "timeout_milliseconds": 1}},
            "semantic_cache.timeout_milliseconds: 1 ms is outside 10 to 10000; nearest valid value: 10",
        ),
        (
            {"semantic_cache": {}},
            (
                "memory_mib: 256 MiB is too little for a gateway that embeds itself and keeps 20,000 questions;"
                " nearest valid value: 533"
            ),
        ),
        (
            {"semantic_cache": {"embedder_model": "bge"}, "memory_mib": 768},
            (
                "semantic_cache.embedder_model: 'bge' needs embedder_url, as the gateway itself has another model;"
                " nearest valid value: all-MiniLM-L6-v2"
            ),
        ),
        (
            {"models": {"tiny": {"versions": VERSIONS, "pods_url": "http://p"}}},
            "models.tiny.pods_url: is set, and each of its versions has its own; nearest valid value: none",
        ),
        (
            {"models": {"tiny": {"url": "https://tiny", "pods_url": "https://tiny-pods"}}},
            (
                f"models.tiny.pods_url: https://tiny-pods does not begin with http://, {UNCERTIFIED};"
                " nearest valid value: http://tiny-pods"
            ),
        ),
        (
            {"jwt": {"issuer": "http://login.example/a", "audience": ["llm"]}},
            f"jwt.issuer: 'http://login.example/a' {NO_ISSUER}; nearest valid value: https://login.example/a",
        ),
        (
            {"jwt": {"issuer": "https://login.example", "audience": []}},
            "jwt.audience: is empty, so no token would count; nearest valid value: one client's id",
        ),
        (
            {"jwt": {"issuer": "https://login.example", "audience": ["llm"], "certificate_authority": "MIIB"}},
            (
                "jwt.certificate_authority: is not certificates in PEM alone; nearest valid value: each from"
                " -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
            ),
        ),
        ({"models": {"tiny": {}}}, "models.tiny: set exactly one of url and versions"),
        (
            {"models": {"tiny": {"url": "http://tiny", "kind": "embeddings"}}},
            "models.tiny.kind: 'embeddings' is not one of generation, embedding; nearest valid value: embedding",
        ),
        (
            {"models": {"tiny": {"kind": "embedding", "versions": VERSIONS}}},
            "models.tiny.versions: a model that makes embeddings has none; nearest valid value: url",
        ),
        (
            {"models": {"tiny": {"url": "http://tiny", "versions": VERSIONS}}},
            "models.tiny: set exactly one of url and versions",
        ),
        (
            {"models": {"tiny": {"versions": {"stable": {"url": "http://tiny", "weight": 90}}}}},
            "models.tiny.versions: weights sum to 90, not to 100 (stable 90); nearest valid value: stable 100",
        ),
        (
            {"models": {"tiny": {"versions": {"stable": {"url": "http://tiny", "weight": 101}}}}},
            "models.tiny.versions.stable.weight: 101 is outside 0 to 100; nearest valid value: 100",
        ),
    ],
)
def test_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        gateway(**args)
    assert str(caught.value) == message
