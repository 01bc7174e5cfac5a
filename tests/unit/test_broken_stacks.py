"""Broken stack files, one way each: exactly one line that names the setting, its value, the limit and what would work.

The first rows are in `test_settings.py`; these are the rest.
"""

from typing import Any

import pytest

from llm_serving._edge_rules import MANAGED_GROUPS
from tests.unit.test_settings import BROKEN as FIRST
from tests.unit.test_settings import MODEL, REMOVE, changed, loaded, problems
from tests.unit.test_settings import values as stack_values

LEAST = 60
NAME = "is no name of up to 40 lower-case letters, digits and dashes that begins with a letter"
SYSTEM = "AL2023_x86_64_STANDARD, AL2023_ARM_64_STANDARD, BOTTLEROCKET_x86_64, BOTTLEROCKET_ARM_64"
POLICIES = (
    "AmazonEKSClusterAdminPolicy, AmazonEKSAdminPolicy, AmazonEKSAdminViewPolicy, AmazonEKSEditPolicy,"
    " AmazonEKSViewPolicy"
)
ROLE = "arn:aws:iam::111111111111:role/x"
NO_SECRET = "no setting takes a secret; nearest valid value: the name of a Secrets Manager secret"
CERTIFICATE = "arn:aws:acm:us-east-1:111111111111:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
POOL = {"instanceTypes": ["g6.xlarge"], "minSize": 0, "desiredSize": 0, "maxSize": 1}

BROKEN: list[tuple[str, object, str]] = [
    # keys
    ("apiKey", "x", "apiKey: unknown key; nearest known key: apiGateway"),
    ("images.sglang.tags", "1", "images.sglang: unknown key; nearest known key: llmGateway"),
    ("images.vllm.tags", "1", "images.vllm.tags: unknown key; nearest known key: tag"),
    ("images.vllm", {}, "images.vllm.tag: set exactly one of tag and digest"),
    ("images.tgi", REMOVE,
     "images.tgi: is missing, and tgi serves smollm2-135m; nearest valid value: tag: 3.3.7"),
    ("images.llmGateway", REMOVE, "images.llmGateway: is missing; it has no default"),
    ("cache.nodeType", REMOVE, "cache.nodeType: is missing; it has no default"),
    ("cluster.systemPool", REMOVE, "cluster.systemPool: is missing; it has no default"),
    (f"{MODEL}.pool", REMOVE, f"{MODEL}.pool: is missing; it has no default"),
    ("cluster.accessEntries.team", {"principalArn": ROLE},
     "cluster.accessEntries.team.policy: is missing; it has no default"),
    # nodes of a replica
    (f"{MODEL}.nodes", 0, f"{MODEL}.nodes: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.nodes", 17, f"{MODEL}.nodes: 17 is above 16; nearest valid value: 16"),
    ("leaderWorkerSets.controller", "none",
     "leaderWorkerSets.controller: 'none' is not one of install, existing; nearest valid value: install"),
    # types
    ("tags", ["a"], "tags: ['a'] is not a group of keys"),
    ("tags.environment", 1, "tags.environment: 1 is not text (put it in quotes)"),
    ("aws.region", 1, "aws.region: 1 is not text (put it in quotes)"),
    ("aws.s3PathStyle", "true", "aws.s3PathStyle: 'true' is not true or false"),
    ("network.cidr", 10, "network.cidr: 10 is not text (put it in quotes)"),
    ("network.flowLogs", "on", "network.flowLogs: 'on' is not true or false"),
    ("network.interfaceEndpoints", "ecr.api", "network.interfaceEndpoints: 'ecr.api' is not a list"),
    ("cluster.systemPool.desiredSize", "1", "cluster.systemPool.desiredSize: '1' is not a whole number"),
    ("cluster.gpuPools.l4.releaseVersion", 1,
     "cluster.gpuPools.l4.releaseVersion: 1 is not text (put it in quotes)"),
    ("cluster.addonVersions.vpc-cni", 1, "cluster.addonVersions.vpc-cni: 1 is not text (put it in quotes)"),
    ("modelBucket.requireTls", 1, "modelBucket.requireTls: 1 is not true or false"),
    ("cache.enabled", "no", "cache.enabled: 'no' is not true or false"),
    ("images.tgi.tag", 3.3, "images.tgi.tag: 3.3 is not text (put it in quotes)"),
    ("apiGateway.manageAccountRole", "maybe", "apiGateway.manageAccountRole: 'maybe' is not true or false"),
    (f"{MODEL}.revision", 1, f"{MODEL}.revision: 1 is not text (put it in quotes)"),
    # units
    ("gateway.memoryMib", "128Mi", "gateway.memoryMib: '128Mi' is not a whole number"),
    (f"{MODEL}.memoryMib", "11Gi", f"{MODEL}.memoryMib: '11Gi' is not a whole number"),
    (f"{MODEL}.weightGb", "15 GB", f"{MODEL}.weightGb: '15 GB' is not a number"),
    ("logRetentionDays", "30d", "logRetentionDays: '30d' is not a whole number"),
    # ranges
    ("cluster.systemPool.maxSize", 0, "cluster.systemPool.maxSize: 0 is below 1; nearest valid value: 1"),
    ("cluster.systemPool.diskGb", 1, "cluster.systemPool.diskGb: 1 is below 50; nearest valid value: 50"),
    ("cluster.systemPool.diskGb", 99_999,
     "cluster.systemPool.diskGb: 99999 is above 16384; nearest valid value: 16384"),
    ("cluster.gpuPools.l4.minSize", -1, "cluster.gpuPools.l4.minSize: -1 is below 0; nearest valid value: 0"),
    ("modelBucket.noncurrentVersionDays", 0,
     "modelBucket.noncurrentVersionDays: 0 is below 1; nearest valid value: 1"),
    ("modelBucket.noncurrentVersionDays", 4000,
     "modelBucket.noncurrentVersionDays: 4000 is above 3650; nearest valid value: 3650"),
    ("cache.replicas", -1, "cache.replicas: -1 is below 0; nearest valid value: 0"),
    ("cache.snapshotRetentionDays", 36, "cache.snapshotRetentionDays: 36 is above 35; nearest valid value: 35"),
    ("cache.ttlSeconds", 0, "cache.ttlSeconds: 0 is below 1; nearest valid value: 1"),
    ("gateway.replicas", 101, "gateway.replicas: 101 is above 100; nearest valid value: 100"),
    ("gateway.cpuMillicores", 5, "gateway.cpuMillicores: 5 is below 10; nearest valid value: 10"),
    ("gateway.memoryMib", 16, "gateway.memoryMib: 16 is below 32; nearest valid value: 32"),
    ("apiGateway.burst", 6000, "apiGateway.burst: 6000 is above 5000; nearest valid value: 5000"),
    ("apiGateway.requestsPerSecond", 20_000,
     "apiGateway.requestsPerSecond: 20000 is above 10000; nearest valid value: 10000"),
    ("apiGateway.timeoutSeconds", 0,
     "apiGateway.timeoutSeconds: 0 s with STREAM responses is outside 1 to 900; nearest valid value: 1"),
    ("apiGateway.usagePlans.standard.burst", 0,
     "apiGateway.usagePlans.standard.burst: 0 is below 1; nearest valid value: 1"),
    ("apiGateway.usagePlans.standard.requestsPerDay", 0,
     "apiGateway.usagePlans.standard.requestsPerDay: 0 is below 1; nearest valid value: 1"),
    ("apiGateway.usagePlans.standard.keys", [],
     "apiGateway.usagePlans.standard.keys: has 0 entries; nearest valid number: 1"),
    ("apiGateway.firewall.requestsPerFiveMinutes", 9,
     "apiGateway.firewall.requestsPerFiveMinutes: 9 is below 10; nearest valid value: 10"),
    ("apiGateway.firewall.requestsPerFiveMinutes", 3_000_000_000,
     ("apiGateway.firewall.requestsPerFiveMinutes: 3000000000 is above 2000000000; nearest valid value: 2000000000")),
    ("apiGateway.firewall.requestsPerFiveMinutes", 2999,
     ("apiGateway.firewall.requestsPerFiveMinutes: 2999 is below what usage plan standard lets one key send in 300 s"
      " (100 a second), and would block it; nearest valid value: 30000")),
    ("apiGateway.firewall.mode", "counts",
     "apiGateway.firewall.mode: 'counts' is not one of block, count; nearest valid value: count"),
    ("apiGateway.firewall.countRules", ["Log4jRCE_HEADER", "SQLi"],
     (f"apiGateway.firewall.countRules: 'Log4jRCE_HEADER' is no rule of {', '.join(MANAGED_GROUPS)};"
      " nearest valid value: Log4JRCE_HEADER")),
    ("apiGateway.firewall.callerCidrs", ["2001:db8::/32"],
     ("apiGateway.firewall.callerCidrs: '2001:db8::/32' is not an IPv4 range;"
      " nearest valid value: 203.0.113.0/24")),
    ("apiGateway.domain", {"name": "llm.example.com/v1", "certificateArn": CERTIFICATE},
     ("apiGateway.domain.name: 'llm.example.com/v1' is no host name of a domain;"
      " nearest valid value: llm.example.com")),
    ("apiGateway.domain", {"name": "llm.example.com"},
     "apiGateway.domain.certificateArn: is missing; it has no default"),
    ("apiGateway.domain", {"name": "llm.example.com", "certificateArn": "acm/x"},
     ("apiGateway.domain.certificateArn: 'acm/x' is no ARN of an ACM certificate;"
      " nearest valid value: arn:aws:acm:REGION:ACCOUNT:certificate/ID")),
    # The local stack has an address of its own.
    ("apiGateway.domain", {"name": "llm.example.com", "certificateArn": CERTIFICATE},
     "apiGateway.url: is set beside domain, whose name is the address; nearest valid value: one of them"),
    ("apiGateway.domain", {"name": "llm.example.com", "certificateArn": CERTIFICATE, "hostedZoneId": "example.com"},
     ("apiGateway.domain.hostedZoneId: 'example.com' is no id of a hosted zone;"
      " nearest valid value: Z0123456789ABCDEFGHIJ")),
    (f"{MODEL}.weightGb", 6000, f"{MODEL}.weightGb: 6000 is above 5000; nearest valid value: 5000"),
    (f"{MODEL}.replicas", 0, f"{MODEL}.replicas: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.gpus", 0, f"{MODEL}.gpus: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.maxInputTokens", 0, f"{MODEL}.maxInputTokens: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.maxConcurrentRequests", 0, f"{MODEL}.maxConcurrentRequests: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.cpuMillicores", 1, f"{MODEL}.cpuMillicores: 1 is below 10; nearest valid value: 10"),
    (f"{MODEL}.memoryMib", 1, f"{MODEL}.memoryMib: 1 is below 64; nearest valid value: 64"),
    (f"{MODEL}.timeoutSeconds", 901, f"{MODEL}.timeoutSeconds: 901 is above 900; nearest valid value: 900"),
    # choices and names
    ("network.natGateways", True,
     "network.natGateways: True is not one of none, single, per-zone; nearest valid value: none"),
    ("cluster.systemPool.amiType", "AL2_x86_64",
     f"cluster.systemPool.amiType: 'AL2_x86_64' is not one of {SYSTEM}; nearest valid value: AL2023_x86_64_STANDARD"),
    ("cluster.systemPool.capacityType", "spot",
     "cluster.systemPool.capacityType: 'spot' is not one of ON_DEMAND, SPOT; nearest valid value: SPOT"),
    ("cluster.gpuPools.my_pool", POOL, f"cluster.gpuPools.my_pool: {NAME}; nearest valid value: my-pool"),
    ("cluster.accessEntries.team", {"principalArn": ROLE, "policy": "ClusterAdmin"},
     (f"cluster.accessEntries.team.policy: 'ClusterAdmin' is not one of {POLICIES};"
      " nearest valid value: AmazonEKSClusterAdminPolicy")),
    ("apiGateway.responseTransferMode", "CHUNKED",
     "apiGateway.responseTransferMode: 'CHUNKED' is not one of STREAM, BUFFERED; nearest valid value: BUFFERED"),
    ("apiGateway.usagePlans.standard.keys", ["Demo Key"],
     f"apiGateway.usagePlans.standard.keys.Demo Key: {NAME}; nearest valid value: demo-key"),
    ("apiGateway.usagePlans.My Plan", {"keys": ["other"]},
     f"apiGateway.usagePlans.My Plan: {NAME}; nearest valid value: my-plan"),
    # networks
    ("network.cidr", "10.0.0.300/16",
     "network.cidr: '10.0.0.300/16' is not an IPv4 range; nearest valid value: 10.0.0.0/16"),
    ("network.cidr", "2001:db8::/56",
     "network.cidr: '2001:db8::/56' is not an IPv4 range; nearest valid value: 10.0.0.0/16"),
    ("network.availabilityZones", ["us-east-1a", "us-east-1a"],
     "network.availabilityZones: ['us-east-1a', 'us-east-1a'] is not a list of 2 to 6 different zones"),
    ("network.availabilityZones", ["us-east-1a", "us-east-2b"],
     "network.availabilityZones: 'us-east-2b' is no zone of us-east-1; nearest valid value: us-east-1b"),
    ("network.existing", {"vpcId": "vpc-1", "privateSubnetIds": ["subnet-1"]},
     "network.existing.privateSubnetIds: has 1 entries; nearest valid number: 2"),
    ("cluster.serviceCidr", "10.0.128.0/17",
     "cluster.serviceCidr: 10.0.128.0/17 overlaps network.cidr 10.0.0.0/16; nearest valid value: 172.20.0.0/16"),
    ("network.availabilityZones", ["us-east-1a", "us-east-1z"],
     "network.availabilityZones: 'us-east-1z' is no zone of us-east-1; nearest valid value: us-east-1f"),
    ("network.existing", {"vpcId": "vpc-XYZ", "privateSubnetIds": ["subnet-1", "subnet-2"]},
     "network.existing.vpcId: 'vpc-XYZ' does not match ^vpc-[0-9a-f]+$, as in vpc-0123456789abcdef0"),
    ("cluster.serviceCidr", "ten",
     "cluster.serviceCidr: 'ten' is not an IPv4 range; nearest valid value: 172.20.0.0/16"),
    ("cluster.serviceCidr", "8.8.0.0/16",
     "cluster.serviceCidr: 8.8.0.0/16 is in no private range; nearest valid value: 172.20.0.0/16"),
    ("cluster.serviceCidr", "10.100.0.0/25",
     "cluster.serviceCidr: 10.100.0.0/25 is outside /12 to /24; nearest valid value: 10.100.0.0/24"),
    ("cluster.publicAccessCidrs", ["office"],
     "cluster.publicAccessCidrs: 'office' is not an IPv4 range; nearest valid value: 203.0.113.0/24"),
    ("cluster.publicAccessCidrs", ["0.0.0.0/0"],
     ("cluster.publicAccessCidrs: 0.0.0.0/0 is the whole internet;"
      " nearest valid value: your own range, or none")),
    ("cluster.publicAccessCidrs", ["203.0.113.9/24"],
     "cluster.publicAccessCidrs: 203.0.113.9/24 has host bits set; nearest valid value: 203.0.113.0/24"),
    # secrets
    ("tags.token", "AKIA" + "IOSFODNN7EXAMPLE", f"tags.token: holds what looks like an AWS access key; {NO_SECRET}"),
    ("cache.nodeType", "rediss://:" + "hunter2@cache.internal:6379",
     f"cache.nodeType: holds what looks like an address with a password; {NO_SECRET}"),
    ("images.tgi.tag", {"secure": "v1:abc"}, f"images.tgi.tag: is encrypted; {NO_SECRET}"),
    # autoscaling
    ("autoscaling.operator", "chart",
     "autoscaling.operator: 'chart' is not one of install, existing; nearest valid value: install"),
    ("gateway.traces", {}, "gateway.traces.endpoint: is missing; it has no default"),
    ("gateway.traces", {"endpoint": "https://c:4318", "samplePercent": 101},
     "gateway.traces.samplePercent: 101 is above 100; nearest valid value: 100"),
    ("gateway.traces", {"endpoint": "http://collector.example:4318"},
     ("gateway.traces.endpoint: http://collector.example:4318 is http to a host that is not"
      " SERVICE.NAMESPACE.svc.cluster.local; nearest valid value: https://collector.example:4318")),
    ("gateway.traces", {"endpoint": "https://collector.example/v1/traces"},
     ("gateway.traces.endpoint: is no http or https address of a host and a port;"
      " nearest valid value: http://collector.tracing.svc.cluster.local:4318")),
    ("gateway.keyRequestsPerMinute", 0,
     "gateway.keyRequestsPerMinute: 0 is below 1; nearest valid value: 1"),
    (f"{MODEL}.autoscaling", {"minReplicas": 2}, f"{MODEL}.autoscaling.maxReplicas: is missing; it has no default"),
    (f"{MODEL}.autoscaling.minReplicas", -1,
     f"{MODEL}.autoscaling.minReplicas: -1 is below 0; nearest valid value: 0"),
    (f"{MODEL}.autoscaling.minReplicas", 4,
     f"{MODEL}.autoscaling.minReplicas: 4 is above maxReplicas 3; nearest valid value: 3"),
    (f"{MODEL}.autoscaling.queueTarget", 17,
     f"{MODEL}.autoscaling.queueTarget: 17 is above 16; nearest valid value: 16"),
    (f"{MODEL}.autoscaling.kvCacheTargetPercent", 0.8,
     f"{MODEL}.autoscaling.kvCacheTargetPercent: 0.8 is not a whole number"),
    (f"{MODEL}.autoscaling.scaleDownStabilizationSeconds", 3601,
     f"{MODEL}.autoscaling.scaleDownStabilizationSeconds: 3601 is above 3600; nearest valid value: 3600"),
    (f"{MODEL}.autoscaling.cooldownSeconds", 60,
     f"{MODEL}.autoscaling.cooldownSeconds: unknown key; nearest known key: scaleDownStabilizationSeconds"),
    (f"{MODEL}.replicas", 2,
     (f"{MODEL}.replicas: 2 is fixed, and autoscaling decides it; nearest valid value: none, and"
      " autoscaling.minReplicas 2")),
    # settings that contradict each other
    ("cluster.systemPool.desiredSize", 4,
     "cluster.systemPool.desiredSize: 4 is outside minSize 2 to maxSize 3; nearest valid value: 3"),
    ("cluster.gpuPools.l4.maxSize", 1,
     "cluster.gpuPools.l4.desiredSize: 2 is outside minSize 1 to maxSize 1; nearest valid value: 1"),
    (f"{MODEL}.maxInputTokens", 4096,
     (f"{MODEL}.maxTotalTokens: 2048 leaves no room for an answer after maxInputTokens 4096;"
      " nearest valid value: 4097")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "message"), BROKEN, ids=[f"{path}={value}"[:60] for path, value, _ in BROKEN]
)
def test_broken(path: str, value: object, message: str) -> None:
    assert problems(changed(path, value)) == [f"llm-serving:{message}"]


VLLM: dict[str, object] = {"runtime": "vllm"}
TRTLLM: dict[str, object] = {"runtime": "tensorrt-llm"}
ENGINE: dict[str, object] = {**TRTLLM, "engine": True, "dtype": "bfloat16", "gpus": 2}
DTYPES = "auto, half, float16, bfloat16, float, float32"

OF_RUNTIMES: list[tuple[dict[str, object], str]] = [
    ({**VLLM, "dtype": "bf16"}, f"dtype: 'bf16' is not one of {DTYPES}; nearest valid value: bfloat16"),
    ({**VLLM, "quantization": "bitsandbytes"}, "quantization: 'bitsandbytes' is not one of "),
    ({**VLLM, "quantization": "fbgemm_fp8"}, "quantization: 'fbgemm_fp8' is not one of "),
    ({**VLLM, "kvCacheDtype": "fp8_e4m3fn"}, "kvCacheDtype: 'fp8_e4m3fn' is not one of "),
    ({**VLLM, "gpuMemoryUtilization": 1.1},
     "gpuMemoryUtilization: 1.1 is outside 0.01 to 1, all of it; nearest valid value: 1"),
    ({**VLLM, "maxTotalTokens": 1024},
     "maxTotalTokens: 1024 leaves no room for an answer after maxInputTokens 1024; nearest valid value: 1025"),
    ({**VLLM, "maxBatchPrefillTokens": 32},
     ("maxBatchPrefillTokens: 32 tokens of a step are fewer than the maxConcurrentRequests of 64;"
      " nearest valid value: 64")),
    ({**VLLM, "maxConcurrentRequests": 4000},
     ("maxBatchPrefillTokens: 2048 tokens of a step are fewer than the maxConcurrentRequests of 4000;"
      " nearest valid value: 4000")),
    ({**VLLM, "weights": "mount"}, "weights: 'mount' is not one of copy, stream; nearest valid value: copy"),
    ({**VLLM, "engine": True}, "engine: vLLM runs checkpoints only; nearest valid value: false"),
    ({"weights": "stream"}, "weights: TGI reads no weights from S3; nearest valid value: copy"),
    ({"engine": True}, "engine: TGI runs checkpoints only; nearest valid value: false"),
    ({**TRTLLM, "weights": "stream"}, "weights: TensorRT-LLM reads no weights from S3; nearest valid value: copy"),
    ({**TRTLLM, "dtype": "half"},
     "dtype: 'half' is not one of auto, float16, bfloat16, float32; nearest valid value: auto"),
    ({**TRTLLM, "quantization": "eetq"}, "quantization: 'eetq' is not one of awq, fp8, gptq, mxfp4, nvfp4; "),
    ({**TRTLLM, "kvCacheDtype": "fp8_e5m2"},
     "kvCacheDtype: 'fp8_e5m2' is not one of auto, fp8, nvfp4; nearest valid value: fp8"),
    ({**TRTLLM, "gpuMemoryUtilization": 0.0},
     "gpuMemoryUtilization: 0 is outside 0.01 to 1, all that weights leave; nearest valid value: 0.01"),
    (ENGINE,
     ("revision: '1' doesn't name an engine for sm89-1.2.1-tp2-bfloat16;"
      " nearest valid value: 1-sm89-1.2.1-tp2-bfloat16")),
    ({**ENGINE, "revision": "1-sm90-1.2.1-tp2-bfloat16"}, "revision: '1-sm90-1.2.1-tp2-bfloat16' doesn't name an "),
    ({**ENGINE, "dtype": "auto"},
     "dtype: a built engine has one type, which its revision names; nearest valid value: bfloat16"),
]  # fmt: skip
"""What each runtime would refuse when it starts, in the settings of the local stack's model."""


def served(values: dict[str, object], *images: str) -> dict[str, Any]:
    settings = changed("images", {**stack_values()["images"], **{image: {"tag": "1"} for image in images}})
    model = settings["models"]["smollm2-135m"]
    del model["autoscaling"]
    model |= values
    return settings


@pytest.mark.parametrize(("values", "message"), OF_RUNTIMES, ids=[str(values)[:70] for values, _ in OF_RUNTIMES])
def test_what_a_runtime_would_refuse(values: dict[str, object], message: str) -> None:
    (problem,) = problems(served(values, "vllm", "tensorrtLlm"))
    assert problem.startswith(f"llm-serving:{MODEL}.{message}")
    assert "; nearest valid value: " in problem


def test_autoscaling_on_what_a_runtime_does_not_export() -> None:
    (problem,) = problems(served({**TRTLLM, "autoscaling": {"minReplicas": 2, "maxReplicas": 3}}, "tensorrtLlm"))
    assert problem == (
        f"llm-serving:{MODEL}.autoscaling: tensorrt-llm 1.2.1 exports no queue length to scale on;"
        " nearest valid value: none, and replicas 2"
    )
    assert loaded(served({**VLLM, "autoscaling": {"maxReplicas": 3}}, "vllm")).models["smollm2-135m"].autoscaling


def test_a_runtime_whose_image_is_not_named() -> None:
    assert problems(served(VLLM)) == [
        "llm-serving:images.vllm: is missing, and vllm serves smollm2-135m; nearest valid value: tag: 0.33.0"
    ]
    (problem,) = problems(served(TRTLLM, "vllm"))
    assert problem == (
        "llm-serving:images.tensorrtLlm: is missing, and tensorrt-llm serves smollm2-135m;"
        " nearest valid value: tag: 1.2.1"
    )


def test_an_image_that_serves_nothing_may_be_named_or_not() -> None:
    settings = served({**VLLM, "dtype": "half"}, "vllm", "tensorrtLlm")
    del settings["images"]["tgi"]
    assert loaded(settings).models["smollm2-135m"].runtime == "vllm"


def test_an_engine_in_a_pool_of_more_than_one_kind_of_gpu() -> None:
    settings = served({**ENGINE, "revision": "1-sm89-1.2.1-tp2-bfloat16"}, "tensorrtLlm")
    assert loaded(settings).models["smollm2-135m"].engine
    settings["cluster"]["gpuPools"]["l4"]["instanceTypes"] = ["g6.xlarge", "g5.xlarge"]
    assert problems(settings) == [
        f"llm-serving:{MODEL}.engine: an engine is for one kind of GPU, and those of the pool are sm86, sm89"
    ]


def test_a_semantic_cache_that_nothing_could_compute() -> None:
    settings = changed(f"{MODEL}.semanticCache", {"mode": "answer"})
    settings["cache"]["enabled"] = False
    asked = f"llm-serving:{MODEL}.semanticCache"
    assert problems(settings) == [
        f"{asked}: needs cache.semantic, and there is none; nearest valid value: none",
        f"{asked}: needs cache.enabled, and it is false; nearest valid value: none",
    ]
    settings["cache"] |= {"enabled": True, "semantic": {"embeddings": "all-minilm-l6-v2"}}
    assert loaded(settings).models["smollm2-135m"].semantic_cache is not None
    settings["cache"]["semantic"] = {"embeddings": "all-minilm-l6"}
    wrong = "llm-serving:cache.semantic.embeddings: 'all-minilm-l6' is no service of embeddings"
    assert problems(settings) == [f"{wrong}; nearest valid value: all-minilm-l6-v2"]


@pytest.mark.parametrize(
    ("origins", "problem"),
    [
        (["https://app.example/"], "'https://app.example/' is no origin as browsers send it, {}: https://app.example"),
        (["app.example"], "'app.example' is no origin as browsers send it, {}: https://app.example"),
        (["*", "https://a.example"], "has * beside others, and it is any origin; nearest valid value: * alone"),
    ],
)
def test_origins_that_no_browser_sends(origins: list[str], problem: str) -> None:
    expected = problem.replace("{}", "https://HOST[:PORT]; nearest valid value")
    assert problems(changed("apiGateway.corsOrigins", origins)) == [f"llm-serving:apiGateway.corsOrigins: {expected}"]


def test_callers_show_keys_or_tokens() -> None:
    jwt = {"issuer": "https://login.example", "audience": ["llm"]}
    settings = changed("apiGateway.jwt", jwt)
    (problem,) = problems(settings)
    both = "standard would be for API keys, and callers show tokens"
    assert problem == f"llm-serving:apiGateway.usagePlans: {both}; nearest valid value: none"
    settings["apiGateway"]["usagePlans"] = {}
    assert loaded(settings).api_gateway.jwt is not None


@pytest.mark.parametrize(
    ("issuer", "nearest"),
    [
        ("login.example", "https://login.example"),
        ("http://login.example:8443/pool", "https://login.example:8443/pool"),
        ("https://login.example/\n", "https://login.example/"),
        ("https://login.example/pool?a=b", "https://login.example/pool"),
        ("https://ann@login.example/", "https://login.example/"),
        ("https://[login", "https://login.example.com"),
        ("https://login.example:port", "https://login.example.com"),
        ("https://login.example:99999", "https://login.example.com"),
        ("", "https://login.example.com"),
    ],
)
def test_an_issuer_has_an_address(issuer: str, nearest: str) -> None:
    settings = changed("apiGateway.jwt", {"issuer": issuer, "audience": ["llm"]})
    settings["apiGateway"]["usagePlans"] = {}
    (problem,) = problems(settings)
    assert problem == (
        f"llm-serving:apiGateway.jwt.issuer: {issuer!r} is not https://HOST[:PORT][/PATH], as an issuer of OpenID"
        f" Connect is; nearest valid value: {nearest}"
    )
    settings["apiGateway"]["jwt"]["issuer"] = nearest
    assert loaded(settings).api_gateway.jwt is not None


def test_the_service_of_a_models_pods_has_a_name_of_its_own() -> None:
    settings = changed(f"{MODEL}.prefixAffinity", True)
    assert loaded(settings).models["smollm2-135m"].prefix_affinity
    settings["models"]["smollm2-135m-pods"] = {**settings["models"]["smollm2-135m"], "prefixAffinity": False}
    (problem,) = problems(settings)
    assert problem == (
        f"llm-serving:{MODEL}.prefixAffinity: true, and the Service of its pods, smollm2-135m-pods, would have the name"
        " of another service; nearest valid value: false"
    )


def spanning(**fields: object) -> dict[str, Any]:
    """The model on vLLM over two nodes."""
    settings = changed("images.vllm", {"tag": "0.33.0"})
    model = {**settings["models"]["smollm2-135m"], "runtime": "vllm", "nodes": 2}
    del model["autoscaling"]
    settings["models"]["smollm2-135m"] = model | fields
    return settings


def test_a_replica_that_spans_nodes_is_not_scaled() -> None:
    assert loaded(spanning()).models["smollm2-135m"].nodes == 2
    settings = spanning(autoscaling={"minReplicas": 0, "maxReplicas": 2})
    (problem,) = problems(settings)
    assert problem == (
        f"llm-serving:{MODEL}.autoscaling: a replica spans 2 nodes, and KEDA may scale Deployments only; nearest valid"
        " value: none, and replicas 1"
    )


def test_a_replica_spans_nodes_on_vllm_only() -> None:
    only = "nearest valid value: 1, or runtime vllm"
    assert problems(spanning(runtime="tgi")) == [
        f"llm-serving:{MODEL}.nodes: 2, and TGI splits a model over the GPUs of one node only; {only}"
    ]


def test_what_runs_a_replica_that_spans_nodes_has_a_name_of_its_own() -> None:
    settings = spanning()
    settings["models"]["smollm2-135m-group"] = {**settings["models"]["smollm2-135m"], "nodes": 1}
    (problem,) = problems(settings)
    assert problem == (
        f"llm-serving:{MODEL}-group: is the name of what runs smollm2-135m on 2 nodes; nearest valid value:"
        " smollm2-135m-group-2"
    )


def test_limits_that_nothing_could_count() -> None:
    settings = changed("gateway.keyTokensPerMinute", 1000)
    assert loaded(settings).gateway.key_tokens_per_minute == 1000
    settings["cache"]["enabled"] = False
    (problem,) = problems(settings)
    assert problem == (
        "llm-serving:gateway.keyTokensPerMinute: is counted in the cache, and cache.enabled is false;"
        " nearest valid value: none"
    )


def test_a_semantic_cache_has_one_embedder() -> None:
    both = {"embeddings": "all-minilm-l6-v2", "embedderUrl": "http://embedder:8080"}
    wrong = "embeddings, embedderUrl: both are set; nearest valid value: embeddings alone"
    assert problems(changed("cache.semantic", both)) == [f"llm-serving:cache.semantic.{wrong}"]


def test_a_gateway_that_embeds_itself_has_one_model_and_room_for_it() -> None:
    settings = changed("cache.semantic", {})
    assert problems(settings) == [
        (
            "llm-serving:gateway.memoryMib: 128 MiB is too little for a gateway that embeds itself and keeps 20,000"
            " questions; nearest valid value: 533"
        )
    ]
    settings["gateway"]["memoryMib"] = 533
    assert loaded(settings).cache.semantic is not None
    settings["cache"]["semantic"] = {"embedderModel": "bge-small-en"}
    assert problems(settings) == [
        (
            "llm-serving:cache.semantic.embedderModel: 'bge-small-en' needs embedderUrl, as the gateway itself has"
            " another model; nearest valid value: all-MiniLM-L6-v2"
        )
    ]


@pytest.mark.parametrize(
    ("semantic", "memory"),
    [({"maxEntries": 1000}, 483), ({"maxEntries": 100_000}, 744), ({"maxEntries": 1_000_000}, 3117)],
)
def test_the_nearest_memory_is_enough(semantic: dict[str, int], memory: int) -> None:
    settings = changed("cache.semantic", semantic)
    settings["gateway"]["memoryMib"] = memory - 1
    (problem,) = problems(settings)
    assert problem.endswith(f"nearest valid value: {memory}")
    settings["gateway"]["memoryMib"] = memory
    assert loaded(settings).gateway.memory_mib == memory


@pytest.mark.parametrize(
    "cache",
    [
        {"semantic": {"embeddings": "all-minilm-l6-v2"}},
        {"semantic": {"embedderUrl": "http://embedder:8080"}},
        {"semantic": {}, "enabled": False},
    ],
)
def test_a_gateway_that_does_not_embed_needs_no_more_memory(cache: dict[str, object]) -> None:
    settings = changed("gateway.memoryMib", 32)
    settings["cache"] |= cache
    assert loaded(settings).gateway.memory_mib == 32


def test_there_are_enough_and_each_is_there_once() -> None:
    rows = [(path, str(value)) for path, value, _ in (*FIRST, *BROKEN)]
    assert len(rows) >= LEAST
    assert len(set(rows)) == len(rows)
