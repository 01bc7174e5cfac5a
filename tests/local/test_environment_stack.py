"""The stack on the real engine: what `up` made, changes of its settings, and in the end nothing left of it.

The last test destroys the stack.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import cloud
from local import environment as stages
from local.cluster import node
from local.paths import STATE
from tests.environment_harness import (
    apply,
    census,
    changed,
    committed_again,
    items,
    kubectl,
    leftovers,
    log_events,
    outputs,
    pool_nodes,
    pulumi,
    ready_pods,
    refresh,
    run,
    settle,
    wait,
)
from tests.environment_load import MODEL, client, stream

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

PROMPT = "canary-prompt-5b1e: name one colour."
NAMESPACE = "llm-serving"
BUCKET = "made-by-hand"
BUCKET_URN = f"urn:pulumi:local::llm-serving::aws:s3/bucket:Bucket::{BUCKET}"
PROVIDER_URN = "urn:pulumi:local::llm-serving::pulumi:providers:aws::aws"


@pytest.fixture(scope="module", autouse=True)
def _settled(environment: str) -> None:
    """No node is left that an autoscaler has added for another test."""
    settle()


@pytest.fixture
def _committed_settings() -> Iterator[None]:
    """After the test the stack is as it is committed."""
    yield
    apply({})


def test_up_ends_with_both_answers(environment: str) -> None:
    lines = environment.splitlines()
    assert lines[-2].startswith("Model ("), environment
    assert lines[-1].startswith("Cache ("), environment
    assert lines[-2].partition(") ")[2] == lines[-1].partition(") ")[2] != ""


def test_pods_run_on_real_nodes() -> None:
    # KEDA's pods wait for the certificate that its operator makes, and the second of the model's for KEDA.
    wait("both replicas", lambda: len(ready_pods(MODEL)) == 2, seconds=180)
    wait("all pods run", lambda: {pod["status"]["phase"] for pod in items("pods", "-A")} == {"Running"}, seconds=180)
    pods = items("pods", "-A")
    assert all(node.is_running(pod["spec"]["nodeName"]) for pod in pods)
    instances = [pod["metadata"]["labels"].get("app.kubernetes.io/instance") for pod in pods]
    assert (instances.count("llm-gateway"), instances.count(MODEL)) == (2, 2)


def test_outputs_lead_to_what_there_is() -> None:
    found = outputs()
    assert set(found) == {
        "apiGatewayUrl",
        "apiKeys",
        "modelBucketName",
        "cacheEndpoint",
        "clusterName",
        "kubeconfig",
    }
    assert found["apiGatewayUrl"].startswith(f"{cloud.url()}/restapis/")
    assert cloud.client("s3").head_bucket(Bucket=found["modelBucketName"])
    assert cloud.client("eks").list_clusters()["clusters"] == [found["clusterName"]]
    group = cloud.client("elasticache").describe_replication_groups()["ReplicationGroups"][0]
    primary = group["NodeGroups"][0]["PrimaryEndpoint"]
    assert found["cacheEndpoint"] == f"{primary['Address']}:{primary['Port']}"


def test_status_shows_everything_well() -> None:
    screen = json.loads(run("status", "--json"))
    assert [part["name"] for part in screen["parts"] if not part["healthy"]] == []
    assert {pod["phase"] for pod in screen["pods"]} == {"Running"}
    assert "down" not in run("status")


def test_no_secret_in_plain_text_and_no_prompt_in_any_log() -> None:
    api = client()
    api.ask(MODEL, PROMPT)
    assert list(stream(api, PROMPT, 4))
    secrets = cloud.client("secretsmanager")
    names = [secret["Name"] for secret in secrets.list_secrets()["SecretList"]]
    values = [secrets.get_secret_value(SecretId=name)["SecretString"] for name in names]
    canaries = [*outputs()["apiKeys"].values(), *values, PROMPT]
    assert len(canaries) >= 4
    commands = b"\n".join(_read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    places = {
        "the exported state": pulumi("stack", "export"),
        "config maps": kubectl("get", "configmaps", "-A", "-o", "json"),
        "pods": kubectl("get", "pods", "-A", "-o", "json"),
        "the processes' arguments": commands.decode(errors="replace"),
        "the pods' logs": kubectl("logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/name", "--tail=-1", "--prefix"),
        "the log groups": "\n".join(each["message"] for events in log_events().values() for each in events),
        "the rules": kubectl("get", "prometheusrules", "-A", "-o", "json"),
    }
    logs = [*(STATE / "log").iterdir(), *(STATE / "pulumi").glob("*.jsonl"), *(STATE / "pulumi-state").rglob("*.json*")]
    places.update({str(path): _read(path).decode(errors="replace") for path in logs})
    found = [place for place, text in places.items() for canary in canaries if canary in text]
    assert not found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_refresh_finds_nothing_changed() -> None:
    outcome = refresh()
    assert not outcome.changed, outcome.changes


@pytest.mark.usefixtures("_committed_settings")
def test_fewer_replicas_change_the_autoscaler_and_the_budget_only() -> None:
    apply({"models": {MODEL: {"autoscaling": {"minReplicas": 1}}}})
    assert changed() == {
        f"kubernetes:keda.sh/v1alpha1:ScaledObject::{MODEL}:{NAMESPACE}/{MODEL}": "update",
        f"kubernetes:policy/v1:PodDisruptionBudget::{MODEL}:{NAMESPACE}/{MODEL}": "delete",
    }
    # The autoscaler takes its time to be sure, and then one pod.
    wait("one pod", lambda: _model_pods() == ["Running"], seconds=180)


def _model_pods() -> list[str]:
    return [
        pod["status"]["phase"] for pod in items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={MODEL}")
    ]


def test_node_group_grows_and_shrinks_with_its_settings() -> None:
    before = pool_nodes("l4")
    size = len(before)
    # As many at least as at most: the program owns the size, and not the autoscaler.
    fixed = dict.fromkeys(("minSize", "desiredSize", "maxSize"), size + 1)
    apply({"cluster": {"gpuPools": {"l4": fixed}}})
    assert changed() == {
        "aws:eks/nodeGroup:NodeGroup::cluster-l4": "update",
        "eks:index:ManagedNodeGroup::cluster-l4": "update",
    }
    wait("one node more", lambda: len(pool_nodes("l4")) == size + 1, seconds=90)
    committed_again()  # the size is the autoscaler's again
    wait("one node less", lambda: len(items("nodes", "-l", "llm-serving/pool=l4")) == size, seconds=120)
    wait("its processes are gone", lambda: len(node.specs()) == len(items("nodes")))


def test_import_takes_over_what_was_made_by_hand() -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    pulumi(
        "import", "aws:s3/bucket:Bucket", BUCKET, BUCKET, "--provider", f"aws={PROVIDER_URN}",
        "--yes", "--skip-preview", "--generate-code=false", "--protect=false",
        "--config-file", str(stages.engine().config_file),
    )  # fmt: skip
    resources = json.loads(pulumi("stack", "export"))["deployment"]["resources"]
    imported = next(each for each in resources if each["urn"] == BUCKET_URN)
    assert imported["outputs"]["arn"] == f"arn:aws:s3:::{BUCKET}"
    pulumi("state", "delete", BUCKET_URN, "--yes")
    s3.delete_bucket(Bucket=BUCKET)


def test_same_again_changes_nothing() -> None:
    text = run("up")
    assert not changed()
    assert " unchanged" in text
    assert " created" not in text


def test_destroy_leaves_nothing_anywhere() -> None:
    engine = stages.engine()
    engine.select()
    outcome = engine.destroy()
    assert set(outcome.changes) == {"delete"}, outcome.changes
    assert {kind: count for kind, count in census().items() if count} == {}
    own = {"monitoring-system", "keda", "lws-system"}
    left = {"default", "kube-system", "kube-public", "kube-node-lease", *own}
    # That of the add-on goes when its pods have ended.
    wait("no namespace", lambda: {each["metadata"]["name"] for each in items("namespaces")} == left, seconds=60)
    wait("no node", lambda: not items("nodes"), seconds=60)
    assert not [pod for pod in items("pods", "-A") if pod["spec"].get("nodeName")]
    assert json.loads(pulumi("stack", "export"))["deployment"].get("resources", []) == []
    run("down")
    assert not leftovers()
