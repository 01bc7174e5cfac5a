"""Node groups, disks, timeouts and the cache: for each rule a stack that breaks it, and one that doesn't."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from llm_serving.capacity import (
    cache_rules,
    catalog,
    cluster_rules,
    disk_rules,
    gateway_rules,
    nodes,
)
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.nodes import Room
from llm_serving.capacity.stack import Stack
from tests.unit.capacity.sample_stack import GPU, SERVICE, STACK, SYSTEM, with_cache, with_pool, with_service

RULES: tuple[Callable[[Stack], Iterable[Finding]], ...] = (
    cluster_rules.check,
    disk_rules.check,
    gateway_rules.check,
    cache_rules.check,
)
SEVENTY = catalog.model("Llama-3.1-70B")
TWO_MODELS = replace(
    STACK,
    services={"chat": SERVICE, "code": replace(SERVICE, name="code", replicas=3)},
    gpu_pools={"l4": replace(GPU, max_size=4)},
)


def found(stack: Stack) -> list[Finding]:
    return [finding for rule in RULES for finding in rule(stack)]


def test_nothing_is_wrong_with_the_sample() -> None:
    assert found(STACK) == []


BROKEN: list[tuple[Stack, str, str]] = [
    (replace(STACK, system_pool=replace(SYSTEM, min_size=1)), "warning",
     ("cluster.systemPool.minSize: 1 node runs cluster DNS and the gateway alone; nearest valid value: 2"
      " [SYSTEM_POOL_ONE_NODE]")),
    (with_pool(instance_types=("g6.2xlarge", "g99.xlarge")), "unchecked",
     ("cluster.gpuPools.l4.instanceTypes: g99.xlarge is not in the catalog of instance types, so what fits it is not"
      " known [POOL_INSTANCE_UNKNOWN]")),
    (with_pool(instance_types=("g6.2xlarge", "g5.2xlarge", "g6.4xlarge")), "error",
     ("cluster.gpuPools.l4.instanceTypes: g6.2xlarge has 1 x L4, g5.2xlarge has 1 x A10G, g6.4xlarge has 1 x L4;"
      " nearest valid value: [g6.2xlarge, g6.4xlarge] [POOL_MIXED]")),
    (with_service(cpu_millicores=8000), "error",
     ("models.chat.cpuMillicores: 8000 is more than the 7660 that a node of g6.2xlarge has for pods;"
      " nearest valid value: 7660 [POOL_POD_TOO_LARGE]")),
    (with_service(memory_mib=32768), "error",
     ("models.chat.memoryMib: 32768 is more than the 29061 MiB that a node of g6.2xlarge has for pods;"
      " nearest valid value: 29061 [POOL_POD_TOO_LARGE]")),
    (TWO_MODELS, "error",
     ("cluster.gpuPools.l4.maxSize: 4 nodes of g6.2xlarge don't hold 2 of chat, 3 of code: 5 are needed;"
      " nearest valid value: 5 [POOL_TOO_SMALL]")),
    (with_service(replicas=3), "warning",
     ("cluster.gpuPools.l4.desiredSize: 2 nodes of g6.2xlarge don't hold 3 of chat: 3 are needed, and pods wait until"
      " somebody adds them; nearest valid value: 3 [POOL_NODES_NOW]")),
    (with_service(max_replicas=9), "error",
     ("models.chat.autoscaling.maxReplicas: 9 is more than the 4 that 4 nodes of g6.2xlarge hold, the most of"
      " cluster.gpuPools.l4.maxSize; nearest valid value: 4 [SCALING_MAX_REPLICAS]")),
    (with_service(replicas=1, max_replicas=3), "warning",
     ("models.chat.autoscaling.minReplicas: 1 replica has no disruption budget, which would block node upgrades, and"
      " stops in each rollout, for as long as its weights take to load; nearest valid value: 2"
      " [ROLLOUT_ONE_REPLICA]")),
    (replace(STACK, gpu_pools={"l4": GPU, "spare": replace(GPU, name="spare")}), "warning",
     "cluster.gpuPools.spare.minSize: 2 nodes run for no model; nearest valid value: 0 [POOL_UNUSED]"),
    (with_service(replicas=1), "warning",
     ("models.chat.replicas: 1 replica has no disruption budget, which would block node upgrades, and stops in each"
      " rollout, for as long as its weights take to load; nearest valid value: 2 [ROLLOUT_ONE_REPLICA]")),
    (with_pool(instance_types=("g6.12xlarge",), min_size=1, desired_size=1, max_size=1), "warning",
     ("cluster.gpuPools.l4.maxSize: 1 node runs all 2 replicas of chat, and has 4 GPUs for them;"
      " nearest valid value: 2 [ROLLOUT_ONE_NODE]")),
    (with_pool(disk_gb=24), "error",
     ("cluster.gpuPools.l4.diskGb: 24 GB, a tenth kept free, don't hold the 21 GB of volumes for weights that the pods"
      " of one node ask for, so some pods never start; nearest valid value: 69 [DISK_TOO_SMALL]")),
    (with_pool(disk_gb=60), "warning",
     ("cluster.gpuPools.l4.diskGb: 60 GB, a tenth kept free, may not hold 21 GB of volumes for weights, 15 GB of"
      " images, as many again in an update, and 10 GB for the system; nearest valid value: 69 [DISK_IMAGES]")),
    (with_service(weight_gb=19), "warning",
     ("models.chat.weightGb: 19 GB is more than the 16.1 GB of Llama-3.1-8B, and disk and start-up budgets follow from"
      " it; nearest valid value: 16.1 [WEIGHT_SIZE]")),
    (with_service(weight_gb=8), "error",
     ("models.chat.weightGb: 8 GB is less than the 16.1 GB of Llama-3.1-8B, and the volume of 9601 MiB that follows"
      " from it doesn't hold them; nearest valid value: 16.1 [WEIGHT_SIZE]")),
    (with_service(model=None, model_reference="chat", model_named=False), "unchecked",
     ("models.chat.model: names no model, and 'chat' is none of the catalog: what fits is not checked; nearest valid"
      " value: a name of the catalog, or the path of the model's config.json [MODEL_UNKNOWN]")),
    (with_service(model=None, model_problem="'x' is no model"), "error",
     "models.chat.model: 'x' is no model; what fits is not checked [MODEL_UNKNOWN]"),
    (with_service(timeout_seconds=200), "warning",
     ("models.chat.timeoutSeconds: 200 s ends an answer of maxTotalTokens 5500, which takes 275 s at 20 tokens/s;"
      " nearest valid value: 275 [GATEWAY_GENERATION_TIMEOUT]")),
    (with_service(timeout_seconds=301), "warning",
     ("apiGateway.timeoutSeconds: 300 s is less than the 301 s of models.chat.timeoutSeconds; nearest valid value: 301"
      " [GATEWAY_API_TIMEOUT]")),
    (replace(STACK, response_transfer_mode="BUFFERED"), "warning",
     ("apiGateway.responseTransferMode: BUFFERED cuts answers of chat at 29 s, which is 580 tokens at 20 tokens/s, and"
      " it may answer 5499; nearest valid value: STREAM [GATEWAY_BUFFERED]")),
    (with_cache(engine="redis", engine_version="7.1"), "error",
     ("cache.engine: redis has no vector search; nearest valid value: a node of Valkey 8.2 or newer, as cache.r7g.large"
      " [CACHE_ENGINE]")),
    (with_cache(node_type="serverless"), "error",
     ("cache.nodeType: ElastiCache Serverless has no vector search; nearest valid value: a node of Valkey 8.2 or newer,"
      " as cache.r7g.large [CACHE_ENGINE]")),
    (with_cache(engine_version="8.0"), "error",
     "cache.engineVersion: Valkey 8.0 has no vector search; nearest valid value: 8.2 [CACHE_VERSION]"),
    (with_cache(node_type="cache.r6gd.xlarge"), "error",
     ("cache.nodeType: cache.r6gd.xlarge has data tiering and so no vector search; nearest valid value:"
      " cache.r7g.xlarge [CACHE_DATA_TIERING]")),
    (with_cache(node_type="cache.t4g.micro"), "warning",
     ("cache.nodeType: cache.t4g.micro searches vectors only with reserved-memory-percent 50, and the cache's parameter"
      " group keeps the default of 25; nearest valid value: cache.t4g.medium [CACHE_RESERVED_MEMORY]")),
]  # fmt: skip


@pytest.mark.parametrize(("stack", "severity", "line"), BROKEN, ids=[line.split("[")[-1][:-1] for _, _, line in BROKEN])
def test_broken(stack: Stack, severity: str, line: str) -> None:
    findings = found(stack)
    assert (severity, line) in [(finding.severity, str(finding)) for finding in findings], findings


def test_models_of_a_pool_need_not_be_at_their_most_at_once() -> None:
    shared = {name: replace(SERVICE, name=name, replicas=1, max_replicas=3) for name in ("chat", "code")}
    stack = replace(STACK, services=shared)
    assert [finding.code for finding in found(stack)] == ["ROLLOUT_ONE_REPLICA"] * 2
    beside = replace(stack, services={**shared, "large": replace(SERVICE, name="large", replicas=2)})
    assert [str(finding) for finding in found(beside) if finding.severity == "error"] == [
        f"models.{name}.autoscaling.maxReplicas: 3 is more than the 1 that 4 nodes of g6.2xlarge hold, the most of"
        " cluster.gpuPools.l4.maxSize; nearest valid value: 1 [SCALING_MAX_REPLICAS]"
        for name in ("chat", "code")
    ]


def test_pods_that_there_may_be_need_disk_too() -> None:
    one = with_service(replicas=1)
    instance = ("g6.12xlarge",)
    few = replace(one, gpu_pools={"l4": replace(GPU, instance_types=instance, disk_gb=90)})
    many = replace(few, services={"chat": replace(SERVICE, replicas=1, max_replicas=4)})
    assert "DISK_TOO_SMALL" not in [finding.code for finding in disk_rules.check(few)]
    assert "DISK_TOO_SMALL" in [finding.code for finding in disk_rules.check(many)]


def test_a_start_up_budget_that_the_weights_exceed() -> None:
    stack = with_service(model=SEVENTY, weight_gb=1)
    (finding,) = [finding for finding in disk_rules.check(stack) if finding.code == "STARTUP_BUDGET"]
    assert str(finding) == (
        "models.chat.weightGb: 1 GB gives a pod 144 s to start, and reading the 141.1 GB of Llama-3.1-70B takes 1129 s"
        " at 125 MB/s; nearest valid value: 141.1 [STARTUP_BUDGET]"
    )


def test_weights_that_are_streamed_need_no_disk() -> None:
    copied = with_service(cache_mib=4096)
    streamed = replace(copied, services={"chat": replace(copied.services["chat"], streams_weights=True)})
    pool = {"l4": replace(GPU, disk_gb=60)}
    assert [finding.code for finding in disk_rules.check(replace(copied, gpu_pools=pool))] == ["DISK_IMAGES"]
    assert list(disk_rules.check(replace(streamed, gpu_pools=pool))) == []


def test_a_size_that_only_the_start_up_budget_follows_from() -> None:
    (finding,) = disk_rules.check(with_service(weight_gb=8, streams_weights=True, startup_seconds=800))
    assert str(finding) == (
        "models.chat.weightGb: 8 GB is less than the 16.1 GB of Llama-3.1-8B, and start-up budgets follow from it;"
        " nearest valid value: 16.1 [WEIGHT_SIZE]"
    )


def test_a_start_up_budget_is_the_runtimes_own() -> None:
    enough = with_service(model=SEVENTY, weight_gb=1, startup_seconds=1200)
    assert "STARTUP_BUDGET" not in [finding.code for finding in disk_rules.check(enough)]


def test_weights_that_the_runtime_quantizes_may_be_stored_either_way() -> None:
    for stated in (16.1, 9.1):
        assert list(disk_rules.check(with_service(quantization="eetq", weight_gb=stated))) == []
    stored = with_service(quantization="awq", weight_gb=16.1)
    assert [finding.code for finding in disk_rules.check(stored)] == ["WEIGHT_SIZE"]


def test_an_answer_that_no_api_waits_for() -> None:
    (finding,) = gateway_rules.check(with_service(max_total_tokens=32768))
    assert finding.message.endswith("the longest that an API can wait is 900 s; nearest valid maxTotalTokens: 6001")


def test_pods_share_nodes() -> None:
    node = Room(gpus=4, cpu_millicores=8000, memory_mib=1000)
    assert nodes.nodes_needed(node, []) == 0
    assert nodes.nodes_needed(node, [Room(1, 2000, 250)] * 4) == 1
    assert nodes.nodes_needed(node, [Room(1, 2000, 251)] * 4) == 2
    assert nodes.nodes_needed(node, [Room(3, 100, 10), Room(1, 100, 10), Room(2, 100, 10), Room(2, 100, 10)]) == 2
    assert nodes.nodes_needed(node, [Room(1, 8001, 10)]) is None


def test_memory_of_shards_counts() -> None:
    stack = with_pool(instance_types=("g6.12xlarge",), max_size=4)
    pod = replace(SERVICE, gpus=4, memory_mib=176_000)
    findings = list(cluster_rules.check(replace(stack, services={"chat": pod})))
    assert [(finding.code, finding.setting) for finding in findings] == [
        ("POOL_POD_TOO_LARGE", "models.chat.memoryMib")
    ]
    assert "176000 and 4096 of shared memory" in findings[0].message
    fitting = replace(pod, memory_mib=int(findings[0].alternatives[0]))
    assert list(cluster_rules.check(replace(stack, services={"chat": fitting}))) == []


TOKENS: list[tuple[str, bool, list[str]]] = [
    ("a" * 16, True, []),
    ("A1!&#$^<>-" + "b" * 118, True, []),
    ("a" * 16, False, ["a token needs transit encryption; nearest valid value: TLS on"]),
    ("short", True, ["5 characters are outside 16 to 128; nearest valid length: 16"]),
    ("a" * 129, True, ["129 characters are outside 16 to 128; nearest valid length: 128"]),
    ("p_a@s/s%w:ord-abcdef", True, ["has '%' '/' ':' '@' '_'; allowed besides letters and digits: ! & # $ ^ < > -"]),
    ("pässwörd-abcdefgh", True, ["has 'ä' 'ö'; allowed besides letters and digits: ! & # $ ^ < > -"]),
]


@pytest.mark.parametrize(("token", "tls", "messages"), TOKENS)
def test_auth_tokens(token: str, tls: bool, messages: list[str]) -> None:
    findings = list(cache_rules.check_auth_token(token, transit_encryption=tls))
    assert [finding.message for finding in findings] == messages
    assert {finding.setting for finding in findings} <= {"cache.authToken"}


def _pool_of(stack: Stack, **values: Any) -> Stack:
    return replace(stack, gpu_pools={"l4": replace(stack.gpu_pools["l4"], **values)})


def _service_of(stack: Stack, **values: Any) -> Stack:
    return replace(stack, services={**stack.services, "chat": replace(stack.services["chat"], **values)})


NEAREST: list[tuple[Stack, str, Callable[[Stack, str], Stack]]] = [
    (with_pool(disk_gb=24), "DISK_TOO_SMALL", lambda stack, value: _pool_of(stack, disk_gb=int(value))),
    (with_pool(disk_gb=60), "DISK_IMAGES", lambda stack, value: _pool_of(stack, disk_gb=int(value))),
    (TWO_MODELS, "POOL_TOO_SMALL", lambda stack, value: _pool_of(stack, max_size=int(value), desired_size=int(value))),
    (with_service(max_replicas=9), "SCALING_MAX_REPLICAS",
     lambda stack, value: _service_of(stack, max_replicas=int(value))),
    (with_service(replicas=3), "POOL_NODES_NOW", lambda stack, value: _pool_of(stack, desired_size=int(value))),
    (with_service(cpu_millicores=8000), "POOL_POD_TOO_LARGE",
     lambda stack, value: _service_of(stack, cpu_millicores=int(value))),
    (with_service(memory_mib=32768), "POOL_POD_TOO_LARGE",
     lambda stack, value: _service_of(stack, memory_mib=int(value))),
    (with_service(weight_gb=8), "WEIGHT_SIZE", lambda stack, value: _service_of(stack, weight_gb=float(value))),
    (with_service(timeout_seconds=200), "GATEWAY_GENERATION_TIMEOUT",
     lambda stack, value: _service_of(stack, timeout_seconds=int(value))),
    (with_service(timeout_seconds=301), "GATEWAY_API_TIMEOUT",
     lambda stack, value: replace(stack, api_timeout_seconds=int(value))),
    (with_cache(node_type="cache.t4g.micro"), "CACHE_RESERVED_MEMORY",
     lambda stack, value: replace(stack, cache=replace(stack.cache, node_type=value))),
]  # fmt: skip


@pytest.mark.parametrize(("stack", "code", "mend"), NEAREST, ids=[code for _, code, _ in NEAREST])
def test_the_nearest_valid_value_is_valid(stack: Stack, code: str, mend: Callable[[Stack, str], Stack]) -> None:
    (finding,) = [each for each in found(stack) if each.code == code]
    assert f": {finding.alternatives[0]}" in finding.message
    assert found(mend(stack, finding.alternatives[0])) == []


def test_a_pool_that_grows_by_itself_may_begin_with_fewer_nodes() -> None:
    stack = with_service(replicas=3)
    assert "POOL_NODES_NOW" in {each.code for each in found(stack)}
    assert "POOL_NODES_NOW" not in {each.code for each in found(_pool_of(stack, autoscaled=True))}


def test_a_replica_that_spans_nodes_needs_all_of_them() -> None:
    spanning = replace(SERVICE, runtime="vllm", nodes=2, replicas=2)
    (few,) = [
        each
        for each in found(replace(with_pool(max_size=3), services={"chat": spanning}))
        if each.code == "POOL_TOO_SMALL"
    ]
    assert few.message == (
        "3 nodes of g6.2xlarge don't hold 2 of chat on 2 nodes each: 4 are needed; nearest valid value: 4"
    )
    assert "POOL_TOO_SMALL" not in {
        each.code for each in found(replace(with_pool(max_size=4), services={"chat": spanning}))
    }


def test_the_pods_of_a_replica_are_on_nodes_of_their_own() -> None:
    """Two pods of one GPU each would fit a node of four."""
    spanning = replace(SERVICE, runtime="vllm", nodes=2, replicas=1)
    stack = replace(with_pool(instance_types=("g6.12xlarge",), max_size=1), services={"chat": spanning})
    (few,) = [each for each in found(stack) if each.code == "POOL_TOO_SMALL"]
    assert few.alternatives == ("2",)
