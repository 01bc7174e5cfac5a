"""Settings: what every stack file must be, and for each way to get it wrong one line that says what would be right."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from infra.problems import SettingsError
from infra.settings import Settings, load

STACK = Path(__file__).parents[2] / "stacks" / "Pulumi.local.yaml"
MODEL = "models.smollm2-135m"
REMOVE = "(removed)"


def values() -> dict[str, Any]:
    """Return the settings of the local stack, without their namespace."""
    config = cast(dict[str, Any], yaml.safe_load(STACK.read_text())["config"])
    return {key.partition(":")[2]: value for key, value in config.items() if key.startswith("llm-serving:")}


def loaded(settings: Mapping[str, Any]) -> Settings:
    return load({f"llm-serving:{key}": json.dumps(value) for key, value in settings.items()})


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the local settings with one key set, or removed."""
    settings = values()
    *parents, key = path.split(".")
    section: dict[str, Any] = settings
    for part in parents:
        section = section.setdefault(part, {})
    if value == REMOVE:
        del section[key]
    else:
        section[key] = value
    return settings


def problems(settings: Mapping[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(settings)
    return caught.value.problems


def test_defaults() -> None:
    settings = loaded(
        {key: values()[key] for key in ("aws", "network", "cluster", "cache", "images", "apiGateway", "models")}
    )
    assert settings.protect is True
    assert settings.log_retention_days == 90
    assert settings.tags == {}
    assert settings.gateway.replicas == 2
    assert settings.model_bucket.require_tls is True
    assert settings.cluster.gpu_pools["l4"].disk_gb == 100


def test_other_namespaces_are_not_ours() -> None:
    config = {f"llm-serving:{key}": json.dumps(value) for key, value in values().items()}
    assert load({**config, "pulumi:disable-default-providers": "[]", "aws:profile": "x"}) == load(config)


GPU = "AL2023_x86_64_NVIDIA, AL2023_ARM_64_NVIDIA, BOTTLEROCKET_x86_64_NVIDIA"

BROKEN: list[tuple[str, object, str]] = [
    # keys
    ("networks", {}, "networks: unknown key; nearest known key: network"),
    ("network.natGateway", "none", "network.natGateway: unknown key; nearest known key: natGateways"),
    ("cluster.gpuPools.l4.minsize", 1, "cluster.gpuPools.l4.minsize: unknown key; nearest known key: minSize"),
    (f"{MODEL}.replica", 1, f"{MODEL}.replica: unknown key; nearest known key: replicas"),
    ("network.existing", {"vpc": "x"}, "network.existing.vpcId: is missing; it has no default"),
    ("cluster.version", REMOVE, "cluster.version: is missing; it has no default"),
    ("aws", REMOVE, "aws: is missing; it has no default"),
    # types
    ("aws.accountId", 123456789012, "aws.accountId: 123456789012 is not text (put it in quotes)"),
    ("cluster.version", 1.36, "cluster.version: 1.36 is not text (put it in quotes)"),
    ("protect", "yes", "protect: 'yes' is not true or false"),
    ("gateway.replicas", "2", "gateway.replicas: '2' is not a whole number"),
    ("gateway.replicas", 1.5, "gateway.replicas: 1.5 is not a whole number"),
    (f"{MODEL}.weightGb", "0.2", f"{MODEL}.weightGb: '0.2' is not a number"),
    ("network.availabilityZones", "us-east-1a", "network.availabilityZones: 'us-east-1a' is not a list"),
    ("cache", 1, "cache: 1 is not a group of keys"),
    ("models", [], "models: [] is not a group of keys"),
    # values
    ("aws.region", "us-east", r"aws.region: 'us-east' does not match ^[a-z]{2}(-[a-z]+)+-\d$, as in us-east-1"),
    ("aws.accountId", "12345", r"aws.accountId: '12345' does not match ^\d{12}$, as in 111111111111"),
    ("network.cidr", "10.0.0.0/8", "network.cidr: 10.0.0.0/8 is outside /16 to /20; nearest valid value: 10.0.0.0/16"),
    ("network.cidr", "10.0.0.0/24",
     "network.cidr: 10.0.0.0/24 is outside /16 to /20; nearest valid value: 10.0.0.0/20"),
    ("network.cidr", "10.0.0.9/16", "network.cidr: 10.0.0.9/16 has host bits set; nearest valid value: 10.0.0.0/16"),
    ("network.cidr", "ten", "network.cidr: 'ten' is not an IPv4 range; nearest valid value: 10.0.0.0/16"),
    ("network.availabilityZones", ["us-east-1a"],
     "network.availabilityZones: ['us-east-1a'] is not a list of 2 to 6 different zones"),
    ("network.natGateways", "one",
     "network.natGateways: 'one' is not one of none, single, per-zone; nearest valid value: none"),
    ("logRetentionDays", 100,
     "logRetentionDays: 100 days is no period that CloudWatch Logs offers; nearest valid value: 90"),
    ("cluster.version", "1.36.3", r"cluster.version: '1.36.3' does not match ^1\.\d{2}$, as in 1.36"),
    ("cluster.gpuPools.l4.amiType", "AL2023_NVIDIA",
     f"cluster.gpuPools.l4.amiType: 'AL2023_NVIDIA' is not one of {GPU}; nearest valid value: AL2023_x86_64_NVIDIA"),
    ("cluster.gpuPools.l4.diskGb", 20, "cluster.gpuPools.l4.diskGb: 20 is below 60; nearest valid value: 60"),
    ("cluster.gpuPools.l4.maxSize", 500, "cluster.gpuPools.l4.maxSize: 500 is above 450; nearest valid value: 450"),
    ("cluster.gpuPools.l4.minSize", 3,
     "cluster.gpuPools.l4.desiredSize: 2 is outside minSize 3 to maxSize 3; nearest valid value: 3"),
    ("cluster.gpuPools.l4.instanceTypes", [],
     "cluster.gpuPools.l4.instanceTypes: has 0 entries; nearest valid number: 1"),
    ("cluster.gpuPools.l4.instanceTypes", ["g6x.xlarge"],
     ("cluster.gpuPools.l4.instanceTypes: 'g6x.xlarge' is no instance type with an NVIDIA GPU"
     "; nearest valid value: g6.xlarge")),
    ("cluster.systemPool.minSize", 0,
     "cluster.systemPool.minSize: 0 leaves cluster DNS without a node; nearest valid value: 1"),
    ("cluster.gpuPools.system", {"instanceTypes": ["g6.xlarge"], "minSize": 0, "desiredSize": 0, "maxSize": 1},
     "cluster.gpuPools.system: the name is taken by the system pool; nearest valid value: gpu"),
    ("cluster.gpuPools.L4", {"instanceTypes": ["g6.xlarge"], "minSize": 0, "desiredSize": 0, "maxSize": 1},
     ("cluster.gpuPools.L4: is no name of up to 40 lower-case letters, digits and dashes that begins with a letter;"
     " nearest valid value: l4")),
    ("cluster.accessEntries.team", {"principalArn": "arn:aws:iam::1:role/x", "policy": "AmazonEKSViewPolicy"},
     (r"cluster.accessEntries.team.principalArn: 'arn:aws:iam::1:role/x' does not match"
     r" ^arn:[a-z-]+:iam::\d{12}:(role|user)/.+$, as in arn:aws:iam::111111111111:role/platform-team")),
    ("cache.nodeType", "r7g.large",
     r"cache.nodeType: 'r7g.large' does not match ^cache\.[a-z0-9-]+\.[a-z0-9]+$, as in cache.r7g.large"),
    ("cache.engineVersion", "7.2", "cache.engineVersion: '7.2' is not one of 8.2; nearest valid value: 8.2"),
    ("cache.replicas", 6, "cache.replicas: 6 is above 5; nearest valid value: 5"),
    ("images.tgi", {}, "images.tgi.tag: set exactly one of tag and digest"),
    ("images.tgi.digest", "sha256:" + "a" * 64, "images.tgi.tag: set exactly one of tag and digest"),
    ("apiGateway.timeoutSeconds", 901,
     "apiGateway.timeoutSeconds: 901 s with STREAM responses is outside 1 to 900; nearest valid value: 900"),
    ("apiGateway.usagePlans", {},
     "apiGateway.usagePlans: has no API key, so nobody could call the API; nearest valid value: one key"),
    ("apiGateway.usagePlans.other", {"keys": ["demo"]},
     "apiGateway.usagePlans.other.keys: 'demo' is in plan standard already; nearest valid value: demo-other"),
    ("apiGateway.usagePlans.standard.requestsPerSecond", 0,
     "apiGateway.usagePlans.standard.requestsPerSecond: 0 is below 0.1; nearest valid value: 0.1"),
    (f"{MODEL}.runtime", "tg1",
     f"{MODEL}.runtime: 'tg1' is not one of tgi, vllm, tensorrt-llm; nearest valid value: tgi"),
    (f"{MODEL}.maxTotalTokens", 1024,
     f"{MODEL}.maxTotalTokens: 1024 leaves no room for an answer after maxInputTokens 1024; nearest valid value: 1025"),
    (f"{MODEL}.gpus", 9, f"{MODEL}.gpus: 9 is above 8; nearest valid value: 8"),
    ("models", {}, "models: has 0 entries; nearest valid number: 1"),
    (f"{MODEL}.dtype", "bf16",
     f"{MODEL}.dtype: 'bf16' is not one of float16, bfloat16; nearest valid value: bfloat16"),
    (f"{MODEL}.quantization", "gtpq",
     (f"{MODEL}.quantization: 'gtpq' is not one of awq, bitsandbytes, bitsandbytes-fp4, bitsandbytes-nf4,"
      " compressed-tensors, eetq, exl2, fp8, gptq, marlin; nearest valid value: gptq")),
    (f"{MODEL}.kvCacheDtype", "fp8",
     f"{MODEL}.kvCacheDtype: 'fp8' is not one of fp8_e4m3fn, fp8_e5m2; nearest valid value: fp8_e5m2"),
    (f"{MODEL}.gpuMemoryUtilization", 0.95,
     (f"{MODEL}.gpuMemoryUtilization: 0.95 is outside 0.01 to 0.9, TGI's own share; nearest valid value: 0.9")),
    (f"{MODEL}.gpuMemoryUtilization", 0.0,
     (f"{MODEL}.gpuMemoryUtilization: 0 is outside 0.01 to 0.9, TGI's own share; nearest valid value: 0.01")),
    (f"{MODEL}.maxBatchPrefillTokens", 0,
     f"{MODEL}.maxBatchPrefillTokens: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.expectedConcurrency", 0, f"{MODEL}.expectedConcurrency: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.meanTotalTokens", 4096,
     f"{MODEL}.meanTotalTokens: 4096 is above maxTotalTokens 2048; nearest valid value: 2048"),
    (f"{MODEL}.allow", {"FIT_KVPOOL": "we have tried it"},
     f"{MODEL}.allow.FIT_KVPOOL: unknown code; nearest known code: FIT_KV_POOL"),
    ("allow", {"fit_kv_pool": "we have tried it"}, "allow.fit_kv_pool: unknown code; nearest known code: FIT_KV_POOL"),
    ("allow", {"FIT_KV_POOL": ""},
     "allow.FIT_KV_POOL: '' gives no reason; write a sentence that says why this is right here"),
    ("allow", {"FIT_KV_POOL": "yes"},
     "allow.FIT_KV_POOL: 'yes' gives no reason; write a sentence that says why this is right here"),
    ("allow", {"FIT_KV_POOL": True}, "allow.FIT_KV_POOL: True is not text (put it in quotes)"),
    ("allow", ["FIT_KV_POOL"], "allow: ['FIT_KV_POOL'] is not a group of keys"),
    # sections that contradict each other
    (f"{MODEL}.pool", "l40", f"{MODEL}.pool: 'l40' is no pool of cluster.gpuPools; nearest valid value: l4"),
    ("cluster.gpuPools", {},
     f"{MODEL}.pool: 'l4' is no pool of cluster.gpuPools; nearest valid value: none: cluster.gpuPools is empty"),
    ("aws.region", "us-west-2",
     "network.availabilityZones: 'us-east-1a' is no zone of us-west-2; nearest valid value: us-west-2a"),
    ("cluster.serviceCidr", "10.0.0.0/20",
     "cluster.serviceCidr: 10.0.0.0/20 overlaps network.cidr 10.0.0.0/16; nearest valid value: 172.20.0.0/16"),
    ("network.existing", {"vpcId": "vpc-1", "privateSubnetIds": ["subnet-1", "subnet-2"]},
     "network.availabilityZones: cannot be set beside existing; remove one of the two"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "message"), BROKEN, ids=[f"{path}={value}"[:60] for path, value, _ in BROKEN]
)
def test_broken(path: str, value: object, message: str) -> None:
    assert problems(changed(path, value))[0] == f"llm-serving:{message}"


def test_all_problems_at_once() -> None:
    settings = changed("network.cidr", "10.0.0.0/8")
    settings["gateway"]["replicas"] = 0
    settings["cache"]["nodetype"] = "x"
    assert problems(settings) == [
        "llm-serving:network.cidr: 10.0.0.0/8 is outside /16 to /20; nearest valid value: 10.0.0.0/16",
        "llm-serving:cache.nodetype: unknown key; nearest known key: nodeType",
        "llm-serving:gateway.replicas: 0 is below 1; nearest valid value: 1",
    ]


def test_all_problems_of_a_runtime_at_once() -> None:
    settings = changed(f"{MODEL}.dtype", "int4")
    settings["models"]["smollm2-135m"] |= {"kvCacheDtype": "int4", "maxTotalTokens": 1024, "gpuMemoryUtilization": 1.0}
    assert [problem.partition(":")[2].partition(":")[0] for problem in problems(settings)] == [
        f"{MODEL}.maxTotalTokens",
        f"{MODEL}.dtype",
        f"{MODEL}.kvCacheDtype",
        f"{MODEL}.gpuMemoryUtilization",
    ]


def test_text_that_is_not_json() -> None:
    config = {f"llm-serving:{key}": json.dumps(value) for key, value in values().items()}
    with pytest.raises(SettingsError) as caught:
        load({**config, "llm-serving:network": "{broken"})
    assert caught.value.problems == ["llm-serving:network: '{broken' is not a group of keys"]
