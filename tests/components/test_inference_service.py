"""InferenceService: exact chart values from its limits, and a role that reads one model."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from local_runtime.tgi.arguments import parse
from local_runtime.tgi.options import QUANTIZE

from llm_serving import InferenceService
from llm_serving.inference_service import InferenceServiceArgs
from llm_serving.runtimes import tgi
from llm_serving.runtimes.launch import ServiceSpec
from tests.recording import Recording, record

BUCKET_ARN = "arn:aws:s3:::weights"
KEY_ARN = "arn:aws:kms:us-east-1:123456789012:key/1"
CHART = "kubernetes:helm.sh/v4:Chart"


def service(**args: Any) -> Recording:
    given: dict[str, Any] = {
        "cluster_name": "llm",
        "namespace": "llm-serving",
        "model": "tiny",
        "revision": "1",
        "weight_gb": 10,
        "bucket_name": "weights",
        "bucket_arn": BUCKET_ARN,
        "bucket_key_arn": KEY_ARN,
        "image": "registry.example/tgi@sha256:1",
        "loader_image": "registry.example/model-loader@sha256:2",
        "pool": "l4",
        "max_input_tokens": 1000,
        "max_total_tokens": 2000,
        **args,
    }
    return record(lambda: InferenceService("s", InferenceServiceArgs(**given)))


def test_every_resource() -> None:
    assert service().types() == {
        "llm-serving:index:InferenceService": 1,
        "aws:iam/role:Role": 1,
        "aws:iam/rolePolicy:RolePolicy": 1,
        "aws:eks/podIdentityAssociation:PodIdentityAssociation": 1,
        CHART: 1,
    }


def test_a_replica_may_span_nodes() -> None:
    values = service(runtime="vllm", gpus=8, nodes=2).one(CHART, "s").inputs["values"]
    assert (values["nodes"], values["gpus"], values["workerArgs"]) == (2, 8, ["--headless"])
    assert "nodes" not in service(runtime="vllm").one(CHART, "s").inputs["values"]
    with pytest.raises(ValueError, match="nodes: 17 is outside 1 to 16; nearest valid value: 16"):
        service(runtime="vllm", nodes=17)
    scaling = {"max_replicas": 2, "min_replicas": 2, "prometheus_url": "http://prometheus:9090"}
    with pytest.raises(ValueError, match=r"2 nodes, and KEDA may scale Deployments only; .* and replicas 2"):
        service(runtime="vllm", nodes=2, autoscaling=scaling)


def test_chart_values() -> None:
    chart = service(replicas=2, max_concurrent_requests=64, cpu_millicores=250, memory_mib=512).one(CHART, "s")
    assert chart.inputs["name"] == "tiny"
    assert chart.inputs["chart"].endswith("/charts/inference-service")
    assert chart.inputs["values"] == {
        "image": "registry.example/tgi@sha256:1",
        "loader": {
            "image": "registry.example/model-loader@sha256:2",
            "source": "s3://weights/models/tiny/1",
            "copies": True,
            "timeoutSeconds": 600,
        },
        "replicas": 2,
        "args": [
            *("--model-id", "/models/tiny"),
            *("--hostname", "0.0.0.0"),
            *("--port", "8080"),
            *("--num-shard", "1"),
            *("--max-input-tokens", "1000"),
            *("--max-total-tokens", "2000"),
            *("--max-concurrent-requests", "64"),
            *("--usage-stats", "off"),
            "--json-output",
        ],
        "env": {"HF_HUB_OFFLINE": "1"},
        "files": {},
        "healthPath": "/health",
        # 10 GB through 125 MB/s, three times over, and the warm-up.
        "startupSeconds": 240 + 120,
        "preStopSeconds": 5,
        "terminationGracePeriodSeconds": 120,
        "progressDeadlineSeconds": 900 + 600 + 240 + 360,
        "gpus": 1,
        "sharedMemoryMib": 0,
        "modelVolumeMib": 11985,
        "cacheVolumeMib": 0,
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
        "nodeSelector": {"llm-serving/pool": "l4"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}],
    }
    assert "s-pods" in chart.depends_on


def test_a_version_has_a_service_of_its_own_and_its_models_weights() -> None:
    made = service(service_name="tiny-canary", revision="2", runtime="vllm", weights="copy")
    chart = made.one(CHART, "s")
    assert chart.inputs["name"] == "tiny-canary"
    values = chart.inputs["values"]
    assert values["loader"]["source"] == "s3://weights/models/tiny/2"
    assert values["loader"]["folder"] == "tiny"
    # Requests name the model, whichever version they reach.
    assert values["args"][:3] == ["/models/tiny", "--served-model-name", "tiny"]
    association = made.inputs("aws:eks/podIdentityAssociation:PodIdentityAssociation", "s-pods")
    assert association["serviceAccount"] == "tiny-canary"


SCALED: dict[str, Any] = {"max_replicas": 4, "prometheus_url": "http://prometheus:9090"}


def test_the_addresses_of_the_pods_are_there_where_they_are_asked_for() -> None:
    assert service(pods_service=True).one(CHART, "s").inputs["values"]["podsService"] is True
    assert "podsService" not in service().one(CHART, "s").inputs["values"]


def test_autoscaling_has_the_runtimes_own_metrics() -> None:
    values = service(runtime="vllm", autoscaling=SCALED).inputs(CHART, "s")["values"]
    assert "replicas" not in values
    queue, cache = values["autoscaling"].pop("triggers")
    assert values["autoscaling"] == {
        "minReplicas": 1,
        "maxReplicas": 4,
        "scaleUpStabilizationSeconds": 30,
        "scaleDownStabilizationSeconds": 300,
        "prometheusUrl": "http://prometheus:9090",
    }
    assert queue["query"].startswith('sum(vllm:num_requests_waiting{namespace="llm-serving",model="tiny"})')
    assert cache["query"].startswith('avg(vllm:kv_cache_usage_perc{namespace="llm-serving",model="tiny"})')
    assert (queue["threshold"], cache["threshold"]) == ("8", "0.8")


def test_what_the_gateway_holds_makes_the_first_pod_of_a_model_scaled_to_zero() -> None:
    values = service(autoscaling={**SCALED, "min_replicas": 0}).inputs(CHART, "s")["values"]["autoscaling"]
    queue, cache, requests = values["triggers"]
    assert values["minReplicas"] == 0
    assert requests["query"] == 'sum(llm_gateway_model_requests_in_flight{namespace="llm-serving",model="tiny"})'
    assert "activationThreshold" not in requests  # one request is enough for a pod
    for trigger in (queue, cache):  # nobody exports these while there is no pod, and what they say keeps none
        assert trigger["query"].endswith(" or vector(0)")
        assert trigger["activationThreshold"] == requests["threshold"] == "1000000"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"replicas": 2, "autoscaling": SCALED},
            "replicas: 2 is fixed, and autoscaling decides it; nearest valid value: none, and autoscaling.min_replicas",
        ),
        (
            {"autoscaling": {**SCALED, "min_replicas": 5}},
            "min_replicas: 5 is above max_replicas 4; nearest valid value: 4",
        ),
        (
            {"autoscaling": {**SCALED, "min_replicas": -1}},
            "min_replicas: -1 is outside 0 to 1000; nearest valid value: 0",
        ),
        (
            {"autoscaling": {**SCALED, "queue_target": 17}},
            "queue_target: 17 is outside 1 to 16; nearest valid value: 16",
        ),
        (
            {"autoscaling": {**SCALED, "kv_cache_target_percent": 0.8}},
            "kv_cache_target_percent: 0.8 % is not a whole number; nearest valid value: 10",
        ),
        (
            {"runtime": "tensorrt-llm", "autoscaling": SCALED},
            "tensorrt-llm 1.2.1 exports no queue length; nearest version that does: 1.3.0",
        ),
    ],
)
def test_autoscaling_that_cannot_work_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        service(**args)


def test_vllm_streams_its_weights() -> None:
    values = service(runtime="vllm").inputs(CHART, "s")["values"]
    assert values["args"][0] == "$(WEIGHTS_URL)"
    assert values["loader"]["copies"] is False
    assert values["loader"]["source"] == "s3://weights/models/tiny/1"
    assert (values["modelVolumeMib"], values["cacheVolumeMib"]) == (0, 4096)
    # 10 GB through 125 MB/s, three times over, once: nothing is copied first.
    assert values["startupSeconds"] == 600 + 240
    assert values["progressDeadlineSeconds"] == 900 + 600 + 840


def test_vllm_copies_its_weights_where_it_is_told_to() -> None:
    values = service(runtime="vllm", weights="copy").inputs(CHART, "s")["values"]
    assert values["args"][0] == "/models/tiny"
    assert values["loader"]["copies"] is True
    assert values["modelVolumeMib"] == 11985
    assert values["progressDeadlineSeconds"] == 900 + 600 + 240 + 840


def test_tensorrt_llm_goes_on_serving_while_it_drains() -> None:
    values = service(runtime="tensorrt-llm").inputs(CHART, "s")["values"]
    assert (values["preStopSeconds"], values["terminationGracePeriodSeconds"]) == (90, 120)
    assert json.loads(values["files"]["trtllm.yaml"])["return_perf_metrics"] is True
    assert values["args"][-2:] == ["--config", "/etc/runtime/trtllm.yaml"]


def test_an_engine_that_is_built_for_the_pools_gpus() -> None:
    values = service(
        runtime="tensorrt-llm",
        engine=True,
        dtype="bfloat16",
        gpu_architecture="sm90",
        revision="6f6073b-sm90-1.2.1-tp1-bfloat16",
    ).inputs(CHART, "s")["values"]
    assert values["args"][values["args"].index("--backend") + 1] == "tensorrt"
    assert values["loader"]["source"].endswith("/models/tiny/6f6073b-sm90-1.2.1-tp1-bfloat16")


def test_what_a_service_sets_reaches_the_launcher() -> None:
    made = service(
        dtype="float16",
        kv_cache_dtype="fp8_e5m2",
        gpu_memory_utilization=0.72,
        max_batch_prefill_tokens=2048,
    )
    arguments = made.inputs(CHART, "s")["values"]["args"]
    given = arguments[arguments.index("--dtype") : arguments.index("--usage-stats")]
    assert given == [
        *("--dtype", "float16", "--kv-cache-dtype", "fp8_e5m2"),
        *("--cuda-memory-fraction", "0.8000", "--max-batch-prefill-tokens", "2048"),
    ]
    quantized = service(quantization="awq").inputs(CHART, "s")["values"]["args"]
    assert quantized[quantized.index("--quantize") + 1] == "awq"


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.9])
def test_the_memory_fraction_is_of_what_tgi_takes(fraction: float) -> None:
    """TGI's server multiplies the fraction by its TGI_WIGGLE_ROOM of 0.9."""
    assert float(tgi.cuda_memory_fraction(fraction)) * 0.9 == pytest.approx(fraction, abs=1e-4)


def test_the_local_launcher_knows_every_argument() -> None:
    spec = ServiceSpec(
        model="chat",
        weight_gb=1,
        gpus=2,
        max_input_tokens=10,
        max_total_tokens=20,
        max_concurrent_requests=1,
        gpu_memory_utilization=0.5,
        max_batch_prefill_tokens=16,
    )
    for dtype in tgi.DTYPES:
        for cache in tgi.KV_CACHE_DTYPES:
            parse(tgi.launch(replace(spec, dtype=dtype, kv_cache_dtype=cache)).args, {})
    for quantization in set(tgi.QUANTIZATIONS) - {"exl2"}:
        parse(tgi.launch(replace(spec, quantization=quantization)).args, {})
    assert set(tgi.QUANTIZATIONS) == set(QUANTIZE)


def test_sharded_models_get_shared_memory() -> None:
    assert service().inputs(CHART, "s")["values"]["resources"]["limits"] == {"memory": "8Gi"}
    values = service(gpus=4).inputs(CHART, "s")["values"]
    assert (values["gpus"], values["sharedMemoryMib"]) == (4, 4096)
    assert values["resources"]["limits"] == {"memory": "12Gi"}
    assert values["args"][values["args"].index("--num-shard") + 1] == "4"


def test_identity() -> None:
    made = service()
    assert made.inputs("aws:eks/podIdentityAssociation:PodIdentityAssociation", "s-pods") == {
        "clusterName": "llm",
        "namespace": "llm-serving",
        "serviceAccount": "tiny",
        "roleArn": "arn:aws:test:us-east-1:123456789012:role/s-pods",
    }
    trust = json.loads(made.inputs("aws:iam/role:Role", "s-pods")["assumeRolePolicy"])
    assert trust["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }
    ]


def test_the_role_reads_one_revision_and_nothing_else() -> None:
    policy = json.loads(service().inputs("aws:iam/rolePolicy:RolePolicy", "s-weights")["policy"])
    assert policy["Statement"] == [
        {
            "Sid": "ReadObjects",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": f"{BUCKET_ARN}/models/tiny/1/*",
        },
        {
            "Sid": "ListPrefix",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": BUCKET_ARN,
            "Condition": {"StringLike": {"s3:prefix": ["models/tiny/1", "models/tiny/1/*"]}},
        },
        {
            "Sid": "Decrypt",
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": KEY_ARN,
            "Condition": {"StringLike": {"kms:ViaService": "s3.*.amazonaws.com"}},
        },
    ]


ADAPTERS = {"legal": {"revision": "7", "rank": 16, "weight_gb": 0.8}}


def test_adapters_are_copied_also_where_vllm_streams_the_model() -> None:
    values = service(runtime="vllm", adapters=ADAPTERS).one(CHART, "s").inputs["values"]
    assert values["loader"]["copies"] is False
    assert values["loader"]["adapters"] == [{"name": "legal", "source": "s3://weights/models/legal/7"}]
    assert values["modelVolumeMib"] == 1018  # a quarter more than 0.8 GB, and 64 MiB
    assert "legal=/models/legal" in values["args"]


def test_the_role_reads_the_adapters_too_and_nothing_else() -> None:
    adapters = {**ADAPTERS, "support": {**ADAPTERS["legal"], "model": "support-lora"}}
    policy = json.loads(service(adapters=adapters).inputs("aws:iam/rolePolicy:RolePolicy", "s-weights")["policy"])
    prefixes = ["models/tiny/1", "models/legal/7", "models/support-lora/7"]
    objects, listing, _ = policy["Statement"]
    assert objects["Resource"] == [f"{BUCKET_ARN}/{prefix}/*" for prefix in prefixes]
    assert listing["Condition"] == {
        "StringLike": {"s3:prefix": [part for prefix in prefixes for part in (prefix, f"{prefix}/*")]}
    }


@pytest.mark.parametrize(
    ("adapters", "problem"),
    [
        ({"tiny": ADAPTERS["legal"]}, "adapters.tiny: is the model's own name"),
        ({"legal": {**ADAPTERS["legal"], "revision": "a/b"}}, "revision: 'a/b' must be one part of a key"),
    ],
)
def test_adapters_that_would_be_mistaken_are_refused(adapters: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        service(adapters=adapters)


@pytest.mark.parametrize(
    ("revision", "valid"), [("", "1"), ("/1", "1"), ("1/", "1"), ("a/b", "a-b"), ("*", "1"), ("../1", "1")]
)
def test_a_revision_that_would_grant_more_is_refused(revision: str, valid: str) -> None:
    refusal = re.escape(f"revision: {revision!r} must be one part of a key")
    with pytest.raises(ValueError, match=rf"{refusal}.*; nearest valid value: {re.escape(valid)}$"):
        service(revision=revision)


def test_outputs() -> None:
    assert service().outputs["s"] == {
        "url": "http://tiny.llm-serving.svc.cluster.local:8080",
        "roleArn": "arn:aws:test:us-east-1:123456789012:role/s-pods",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"runtime": "tgl"}, "runtime: 'tgl' is not one of tgi, vllm, tensorrt-llm; nearest valid value: tgi"),
        ({"weights": "stream"}, "tiny.weights: TGI reads no weights from S3; nearest valid value: copy"),
        ({"engine": True}, "tiny.engine: TGI runs checkpoints only; nearest valid value: false"),
        (
            {"runtime": "tensorrt-llm", "engine": True, "dtype": "bfloat16", "gpu_architecture": "sm90", "gpus": 4},
            (
                "tiny.revision: '1' doesn't name an engine for sm90-1.2.1-tp4-bfloat16;"
                " nearest valid value: 1-sm90-1.2.1-tp4-bfloat16"
            ),
        ),
        ({"gpus": 9}, "gpus: 9 is outside 1 to 8; nearest valid value: 8"),
        ({"dtype": "half"}, "tiny.dtype: 'half' is not one of float16, bfloat16; nearest valid value: float16"),
        (
            {"gpu_memory_utilization": 1},
            "tiny.gpu_memory_utilization: 1 is outside 0.01 to 0.9, TGI's own share; nearest valid value: 0.9",
        ),
        ({"replicas": 0}, "replicas: 0 is outside 1 to 1000; nearest valid value: 1"),
        (
            {"max_total_tokens": 1000},
            (
                "tiny.max_total_tokens: 1000 leaves no room for an answer after max_input_tokens 1000;"
                " nearest valid value: 1001"
            ),
        ),
    ],
)
def test_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        service(**args)
    assert str(caught.value) == message
