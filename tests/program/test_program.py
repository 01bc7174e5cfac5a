"""The whole program on every stack file: settings that load, one shape, the same resources in preview as for real."""

import gc
import json
import runpy
from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest
import yaml

from infra import checks, environment
from infra.environment import Environment
from infra.settings import Settings, load
from llm_serving.capacity import checks as capacity_checks
from llm_serving.capacity import cloud
from llm_serving.capacity.cloud_facts import CloudFacts
from tests.recording import Recording, record

ROOT = Path(__file__).parents[2]
STACKS = sorted(path.name.split(".")[1] for path in (ROOT / "stacks").glob("Pulumi.*.yaml"))
SNAPSHOT = Path(__file__).parent / "urns.json"


def config(stack: str) -> dict[str, str]:
    """Return a stack file's config as the engine hands it to a program."""
    content = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text())
    values = cast(dict[str, Any], content["config"])
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def settings(stack: str) -> Settings:
    return load(config(stack))


@cache
def run(stack: str, *, preview: bool = False) -> Recording:
    return record(lambda: Environment(settings(stack)), preview=preview, stack=stack)


def keys(made: Recording) -> list[str]:
    return sorted(f"{each.type}::{each.name}" for each in made.resources)


def test_stacks() -> None:
    assert STACKS == ["dev", "local", "prod", "staging"]


@pytest.mark.parametrize("stack", STACKS)
def test_preview_registers_what_an_update_does(stack: str) -> None:
    planned = keys(run(stack, preview=True))
    assert planned == keys(run(stack))
    assert not [name for name, count in Counter(planned).items() if count > 1]


@pytest.mark.parametrize("stack", STACKS)
def test_names_are_those_that_were_released(stack: str) -> None:
    """A name that changes replaces its resource. Rewrite with `python -m tests.program.snapshot` and say why."""
    assert keys(run(stack)) == json.loads(SNAPSHOT.read_text())[stack]


@pytest.mark.parametrize("stack", STACKS)
def test_every_resource_names_its_parent_and_provider(stack: str) -> None:
    made = run(stack)
    for each in made.resources:
        if each.type.startswith("pulumi:providers:"):
            continue
        own = each.type.startswith("llm-serving:")
        assert own or each.parent or each.type == "kubernetes:core/v1:Namespace", each.name
        if each.type.startswith("aws:"):
            assert each.provider == "aws", each
        if each.type.startswith("kubernetes:"):
            assert "kubernetes" in each.provider, each
        if not own and each.parent:
            assert each.name.startswith(each.parent), each.name


def test_stacks_have_one_shape() -> None:
    """Sizes, zones and models differ; the kinds of resources do not, but for what a setting turns on."""
    optional = {
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "aws:sns/topicSubscription:TopicSubscription",
        # A firewall stands before the API where `apiGateway.firewall` is on.
        "aws:wafv2/webAcl:WebAcl",
        "aws:wafv2/webAclAssociation:WebAclAssociation",
        "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration",
        "aws:cloudwatch/logResourcePolicy:LogResourcePolicy",
        # Prometheus comes from the chart, or from the operator that the local cluster has.
        "kubernetes:helm.sh/v3:Release",
        # KEDA comes from its chart where a model is autoscaled, or is there already.
        "llm-serving:index:Autoscaling",
        "llm-serving:index:NodeAutoscaling",
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "kubernetes:storage.k8s.io/v1:StorageClass",
        "kubernetes:core/v1:ServiceAccount",
        "kubernetes:monitoring.coreos.com/v1:Prometheus",
        "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole",
        "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
    }
    shapes = {stack: set(run(stack).types()) - optional for stack in STACKS}
    assert len({frozenset(shape) for shape in shapes.values()}) == 1, shapes


@pytest.mark.parametrize("stack", STACKS)
def test_state_is_protected_everywhere_but_locally(stack: str) -> None:
    made = run(stack)
    safe = stack != "local"
    assert made.one("aws:s3/bucket:Bucket", "models-bucket").protect is safe
    assert made.one("aws:elasticache/replicationGroup:ReplicationGroup", "cache-group").protect is safe
    assert made.inputs("eks:index:Cluster", "cluster")["deletionProtection"] is safe
    assert made.inputs("aws:lb/loadBalancer:LoadBalancer", "gateway-nlb")["enableDeletionProtection"] is safe
    assert made.inputs("aws:s3/bucket:Bucket", "models-bucket")["forceDestroy"] is not safe


def test_providers_reach_one_account_and_tag_everything() -> None:
    made = run("dev")
    assert made.inputs("pulumi:providers:aws", "aws") == {
        "region": "us-east-1",
        "allowedAccountIds": '["111111111111"]',
        "s3UsePathStyle": "false",
        "defaultTags": json.dumps(
            {"tags": {"environment": "dev", "pulumi:project": "llm-serving", "pulumi:stack": "dev"}}
        ),
        "skipCredentialsValidation": "false",
        "skipRegionValidation": "true",
    }
    kubernetes = made.inputs("pulumi:providers:kubernetes", "kubernetes")
    assert kubernetes["clusterIdentifier"] == "llm-serving-dev"
    assert kubernetes["enableServerSideApply"] == "true"
    # Changed in place, or pods would lose for a moment what they have mounted.
    assert (kubernetes["enableSecretMutable"], kubernetes["enableConfigMapMutable"]) == ("true", "true")
    assert set(kubernetes["kubeconfig"]) == {"secret"}


def test_what_runs_in_the_cluster_goes_before_the_nodes() -> None:
    made = run("local")
    for type_, name in (
        ("llm-serving:index:LlmGateway", "gateway"),
        ("llm-serving:index:InferenceService", "smollm2-135m"),
        ("llm-serving:index:EmbeddingService", "all-minilm-l6-v2"),
        ("kubernetes:core/v1:Namespace", "llm-serving"),
    ):
        depends_on = made.one(type_, name).depends_on
        assert {"cluster-l4", "cluster-system", "cluster-coredns"} <= set(depends_on), (name, depends_on)


def test_the_gateway_knows_the_embedding_service_and_its_kind() -> None:
    made = run("local")
    models = made.inputs("kubernetes:helm.sh/v4:Chart", "gateway")["values"]["models"]
    assert models["all-minilm-l6-v2"] == {
        "kind": "embedding",
        "url": "http://all-minilm-l6-v2.llm-serving.svc.cluster.local:8080",
        "timeout_seconds": 30,
        "revision": "",
    }
    assert "kind" not in models["smollm2-135m"]
    values = made.inputs("kubernetes:helm.sh/v4:Chart", "all-minilm-l6-v2")["values"]
    assert values["image"] == "000000000000.dkr.ecr.us-east-1.amazonaws.com/embedder@sha256:" + "0" * 64
    assert values["nodeSelector"] == {"llm-serving/pool": "system"}


def test_an_embedding_service_on_a_gpu_has_the_image_for_it() -> None:
    values = config("local")
    images = json.loads(values["llm-serving:images"]) | {"embedderCuda": {"digest": "sha256:" + "b" * 64}}
    values["llm-serving:images"] = json.dumps(images)
    values["llm-serving:embeddings"] = json.dumps({"minilm": {"device": "gpu", "pool": "l4"}})
    made = record(lambda: Environment(load(values)), stack="local")
    passed = made.inputs("kubernetes:helm.sh/v4:Chart", "minilm")["values"]
    assert passed["image"].endswith("/embedder-cuda@sha256:" + "b" * 64)
    assert (passed["gpus"], passed["nodeSelector"]) == (1, {"llm-serving/pool": "l4"})


def test_images_are_named_by_digest() -> None:
    made = run("local")
    assert ("aws:ecr/getImage:getImage", {"repositoryName": "tgi", "imageTag": "3.3.7"}) in made.calls
    values = made.inputs("kubernetes:helm.sh/v4:Chart", "gateway")["values"]
    assert values["image"] == "000000000000.dkr.ecr.us-east-1.amazonaws.com/llm-gateway@sha256:" + "0" * 64


def test_a_digest_needs_no_lookup() -> None:
    values = config("local")
    images = json.loads(values["llm-serving:images"])
    images["tgi"] = {"digest": "sha256:" + "a" * 64}
    values["llm-serving:images"] = json.dumps(images)
    made = record(lambda: Environment(load(values)), stack="local")
    # All are looked up at the same time, so any may be first.
    looked_up = sorted(arguments["repositoryName"] for token, arguments in made.calls if token.startswith("aws:ecr"))
    assert looked_up == ["dcgm-exporter", "embedder", "llm-gateway", "model-loader"]
    service = made.inputs("kubernetes:helm.sh/v4:Chart", "smollm2-135m")["values"]
    assert service["image"].endswith("/tgi@sha256:" + "a" * 64)


def served_by(runtime: str, **fields: Any) -> Recording:
    """Run dev with its model served by another runtime, in a fixed number of pods: not all can be scaled on."""
    values = config("dev")
    models, images = json.loads(values["llm-serving:models"]), json.loads(values["llm-serving:images"])
    (model,) = models.values()
    del model["autoscaling"]
    model |= {"runtime": runtime, **fields}
    images |= {"vllm": {"tag": "0.33.0"}, "tensorrtLlm": {"tag": "1.2.1"}}
    values["llm-serving:models"], values["llm-serving:images"] = json.dumps(models), json.dumps(images)
    return record(lambda: Environment(load(values)), stack="dev")


@pytest.mark.parametrize(
    ("runtime", "tag", "metrics"),
    [
        ("tgi", "3.3.7", "/metrics"),
        ("vllm", "0.33.0", "/metrics"),
        ("tensorrt-llm", "1.2.1", "/prometheus/metrics"),
    ],
)
def test_the_runtime_is_one_field_of_a_model(runtime: str, tag: str, metrics: str) -> None:
    made = served_by(runtime)
    images = {
        call[1]["repositoryName"]: call[1]["imageTag"] for call in made.calls if call[0] == "aws:ecr/getImage:getImage"
    }
    assert {name: images.get(name) for name in ("tgi", "vllm", "tensorrt-llm")} == {
        **dict.fromkeys(("tgi", "vllm", "tensorrt-llm")),
        runtime: tag,
    }
    values = made.inputs("kubernetes:helm.sh/v4:Chart", "qwen2-5-7b-instruct")["values"]
    assert f"/{runtime}@sha256:" in values["image"]
    assert "/model-loader@sha256:" in values["loader"]["image"]
    monitor = made.inputs("kubernetes:monitoring.coreos.com/v1:ServiceMonitor", "monitoring-model-qwen2-5-7b-instruct")
    assert [endpoint["path"] for endpoint in monitor["spec"]["endpoints"]] == [metrics]
    # Nothing else differs: the same resources under the same names.
    assert keys(made) == keys(served_by("tgi"))


def test_the_controller_of_groups_comes_with_the_first_model_that_spans_nodes() -> None:
    spanning, alone = served_by("vllm", nodes=2), served_by("vllm")
    assert set(keys(spanning)) - set(keys(alone)) == {
        "kubernetes:core/v1:Namespace::leader-worker-sets-namespace",
        "kubernetes:helm.sh/v3:Release::leader-worker-sets-lws",
        "kubernetes:networking.k8s.io/v1:NetworkPolicy::leader-worker-sets-traffic",
        "llm-serving:index:LeaderWorkerSets::leader-worker-sets",
    }
    assert spanning.inputs("kubernetes:helm.sh/v4:Chart", "qwen2-5-7b-instruct")["values"]["nodes"] == 2


def test_how_weights_come_to_a_pod_is_a_models_own() -> None:
    for fields, copies in (({}, False), ({"weights": "copy"}, True)):
        made = served_by("vllm", **fields)
        values = made.inputs("kubernetes:helm.sh/v4:Chart", "qwen2-5-7b-instruct")["values"]
        assert values["loader"]["copies"] is copies
        # Its role reads the model's prefix either way: the credentials are the pod's.
        policy = json.loads(made.inputs("aws:iam/rolePolicy:RolePolicy", "qwen2-5-7b-instruct-weights")["policy"])
        assert policy["Statement"][0]["Resource"].endswith("/models/qwen2-5-7b-instruct/a09a354/*")


def test_outputs() -> None:
    known: dict[str, Any] = {}

    def program() -> None:
        for name, output in Environment(settings("local")).outputs.items():
            output.apply(lambda value, name=name: known.update({name: value}))

    record(program, stack="local")
    assert known == {
        "apiGatewayUrl": "http://127.0.0.1:4566/restapis/api-api-id/llm/_user_request_",
        "apiKeys": {"demo": "key-value"},
        "modelBucketName": "models-bucket",
        "cacheEndpoint": "cache.example:6379",
        "clusterName": "llm-serving-local",
        "kubeconfig": '{"clusters":[{"cluster":{"server":"https://cluster.example"}}]}',
    }


def test_existing_network() -> None:
    values = config("local")
    values["llm-serving:network"] = json.dumps(
        {"existing": {"vpcId": "vpc-1", "privateSubnetIds": ["subnet-1", "subnet-2"]}}
    )
    made = record(lambda: Environment(load(values)), stack="local")
    assert "aws:ec2/vpc:Vpc" not in made.types()
    assert made.inputs("eks:index:Cluster", "cluster")["privateSubnetIds"] == ["subnet-1", "subnet-2"]


def rolled_out(**versions: dict[str, Any]) -> Recording:
    """The local stack with versions of its model, and a replica of each."""
    models = json.loads(config("local")["llm-serving:models"])
    models["smollm2-135m"] |= {"replicas": 1, "autoscaling": None, "versions": versions}
    changed = load({**config("local"), "llm-serving:models": json.dumps(models)})
    return record(lambda: Environment(changed), stack="local")


CANARY = {"revision": "2", "weight": 10}


def test_a_first_canary_adds_a_service_and_replaces_nothing() -> None:
    added = set(keys(rolled_out(stable={"weight": 90}, canary=CANARY))) - set(keys(run("local")))
    assert not set(keys(run("local"))) - set(keys(rolled_out(stable={"weight": 90}, canary=CANARY)))
    assert added == {
        "aws:eks/podIdentityAssociation:PodIdentityAssociation::smollm2-135m-canary-pods",
        "aws:iam/role:Role::smollm2-135m-canary-pods",
        "aws:iam/rolePolicy:RolePolicy::smollm2-135m-canary-weights",
        "kubernetes:helm.sh/v4:Chart::smollm2-135m-canary",
        "kubernetes:monitoring.coreos.com/v1:ServiceMonitor::monitoring-model-smollm2-135m-canary",
        "llm-serving:index:InferenceService::smollm2-135m-canary",
    }


def test_versions_leave_the_stable_one_as_the_model_was() -> None:
    models = json.loads(config("local")["llm-serving:models"])
    models["smollm2-135m"] |= {"replicas": 1, "autoscaling": None}
    without = load({**config("local"), "llm-serving:models": json.dumps(models)})
    alone = record(lambda: Environment(without), stack="local")
    beside = rolled_out(stable={"weight": 90}, canary=CANARY)
    for each in alone.resources:
        if each.name.startswith(("smollm2-135m", "monitoring-model-")):
            assert beside.one(each.type, each.name).inputs == each.inputs


ENDS = {"url": "", "pods_url": "-pods"}


def test_the_gateway_is_told_of_weights_and_services() -> None:
    made = rolled_out(stable={"weight": 90}, canary=CANARY, same={"weight": 0})
    route = made.inputs("kubernetes:helm.sh/v4:Chart", "gateway")["values"]["models"]["smollm2-135m"]

    def version(name: str, suffix: str, revision: str, weight: int) -> dict[str, Any]:
        urls = {
            key: f"http://smollm2-135m{suffix}{end}.llm-serving.svc.cluster.local:8080" for key, end in ENDS.items()
        }
        return {"name": name, **urls, "revision": revision, "weight": weight, "shadow": False}

    assert route == {
        "timeout_seconds": 120,
        "versions": [
            version("stable", "", "1", 90),
            version("canary", "-canary", "2", 10),
            version("same", "-same", "1+same", 0),
        ],
    }
    reads = json.loads(made.inputs("aws:iam/rolePolicy:RolePolicy", "smollm2-135m-canary-weights")["policy"])
    assert "models/smollm2-135m/2" in json.dumps(reads)
    assert "models/smollm2-135m/1" not in json.dumps(reads)


def test_the_gateway_waits_for_versions_with_requests_and_for_no_others() -> None:
    def waits_for(made: Recording) -> set[str]:
        return {name for name in made.one("llm-serving:index:LlmGateway", "gateway").depends_on if "smollm2" in name}

    stable, canary = "smollm2-135m-weights", "smollm2-135m-canary-weights"
    assert waits_for(rolled_out(stable={"weight": 90}, canary=CANARY)) >= {stable, canary}
    back = waits_for(rolled_out(stable={"weight": 100}, canary={**CANARY, "weight": 0}))
    assert stable in back
    assert not [name for name in back if "canary" in name]
    assert not waits_for(run("local"))


ZONES = frozenset({"us-east-1a", "us-east-1b", "us-east-1c"})
OFFERINGS: dict[str, frozenset[str]] = dict.fromkeys(
    ("m7i.large", "m7i.xlarge", "g6.xlarge", "g6.2xlarge", "g6e.24xlarge"), ZONES
)
ACCEPTED = {
    "dev": {"ROLLOUT_ONE_REPLICA"},
    "local": {"CACHE_RESERVED_MEMORY", "DEVICE_PLUGIN", "ROLLOUT_ONE_REPLICA"},
    "prod": {"GATEWAY_GENERATION_TIMEOUT", "TP_PCIE"},
    "staging": set[str](),
}


@pytest.mark.parametrize("stack", STACKS)
def test_checks_find_nothing_that_a_stack_does_not_accept(stack: str) -> None:
    made = checks.stack_of(settings(stack), stack)
    found = capacity_checks.check(made, today=date(2026, 11, 25), cloud=CloudFacts({}, OFFERINGS, ()))
    assert {finding.code for finding in found} == ACCEPTED[stack]
    assert all(finding.severity == "warning" and "; accepted: " in finding.message for finding in found)


def refused(stack: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the program's entry on a changed stack that it must refuse; return what it says."""
    values = config(stack)
    for section, changed in changes.items():
        values[f"llm-serving:{section}"] = json.dumps({**json.loads(values[f"llm-serving:{section}"]), **changed})
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(values))

    def gather(*_: object, **__: object) -> CloudFacts:
        return CloudFacts.unchecked("there are no AWS credentials")

    def make(_: Settings) -> None:
        pytest.fail("something was made")

    monkeypatch.setattr(cloud, "gather", gather)
    monkeypatch.setattr(environment, "Environment", make)
    monkeypatch.setattr(gc, "disable", lambda: None)  # as the program does for its whole process
    with pytest.raises(pulumi.RunError) as caught:
        record(lambda: runpy.run_module("infra", run_name="__main__"), stack=stack)
    return str(caught.value)


def test_a_model_that_does_not_fit_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = json.loads(config("prod")["llm-serving:cluster"])["gpuPools"]
    models = json.loads(config("prod")["llm-serving:models"])
    pools["l40s"]["instanceTypes"] = ["g5.12xlarge"]
    models["llama-3-3-70b-instruct"] |= {"cpuMillicores": 40000, "memoryMib": 163840, "allow": {}}
    cluster = {**json.loads(config("prod")["llm-serving:cluster"]), "gpuPools": pools}
    text = refused("prod", {"cluster": cluster, "models": models}, monkeypatch)
    first, *lines = text.split("\n")
    assert first == "stack prod cannot be used:"
    assert len(lines) == 1
    assert lines[0].startswith("llm-serving:models.llama-3-3-70b-instruct.pool: g5.12xlarge (4 x A10G) with TGI")
    assert "largest context that fits: 0 tokens; would do: " in lines[0]
    assert lines[0].endswith("[FIT_WEIGHTS]")


def test_all_that_is_wrong_with_a_stack_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    models = json.loads(config("dev")["llm-serving:models"])
    models["qwen2-5-7b-instruct"] |= {"maxTotalTokens": 33000, "memoryMib": 20000, "weightGb": 5}
    lines = refused("dev", {"models": models}, monkeypatch).split("\n")[1:]
    assert sorted(line.rpartition("[")[2] for line in lines) == ["FIT_CONTEXT]", "POOL_POD_TOO_LARGE]", "WEIGHT_SIZE]"]
