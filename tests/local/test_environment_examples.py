"""The examples on the running environment: another team's cluster, its own model service, its own way in."""

import re
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import cloud, cluster, weights
from local.asking import Client
from tests import environment_load
from tests.environment_harness import items, kubectl, wait
from tests.local.examples_harness import checkout, example
from tests.program_harness import ProgramStack, variables

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NAMESPACE = "team"
MODEL = "team-model"
REGION = {"aws:region": "us-east-1", "aws:s3UsePathStyle": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def engine(folder: Path, environment: str) -> dict[str, str]:
    """What the engine runs with: the environment's cloud and cluster, and a state of its own."""
    kubeconfig = str(cluster.kubeconfig())
    return {
        **variables(folder / "state", cloud.environment()),
        "KUBECONFIG": kubeconfig,
        "LLM_SERVING_KUBECONFIG": kubeconfig,
    }


@pytest.fixture(scope="module")
def vpc(environment: str) -> dict[str, Any]:
    """Name, VPC, subnets and security group of the environment's cluster."""
    (name,) = cloud.client("eks").list_clusters()["clusters"]
    described = cloud.client("eks").describe_cluster(name=name)["cluster"]["resourcesVpcConfig"]
    return {"name": name, **described}


def image(container: str, service: str = environment_load.MODEL) -> str:
    """The image, by digest, of a container of a service of the environment."""
    pods = items("pods", "-n", "llm-serving", "-l", f"app.kubernetes.io/instance={service}")
    specs = [pod["spec"] for pod in pods]
    every = [each for spec in specs for each in (*spec["containers"], *spec.get("initContainers", []))]
    return next(str(each["image"]) for each in every if each["name"] == container)


def test_gpu_cluster(folder: Path, engine: dict[str, str], vpc: dict[str, Any]) -> None:
    config = {**REGION, "vpcId": vpc["vpcId"], "subnetIds": vpc["subnetIds"], "protect": False}
    stack = example(folder, "gpu-cluster", engine, config)
    try:
        stack.up()
        name = stack.outputs()["clusterName"]
        groups = cloud.client("eks").list_nodegroups(clusterName=name)["nodegroups"]
        wait("the example's nodes", lambda: len(_ready(groups)) == 3, seconds=120)
        # A node is ready before its device plugin has said what it has.
        wait("the GPU of one", lambda: len(_with_gpu(groups)) == 1, seconds=60)
        (gpu,) = _with_gpu(groups)
        assert {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"} in gpu["spec"]["taints"]
        assert stack.differences() == set()
    finally:
        stack.destroy()
    wait("the nodes to go", lambda: not _ready(groups), seconds=120)


def _ready(groups: list[str]) -> list[dict[str, Any]]:
    found = items("nodes", "-l", f"eks.amazonaws.com/nodegroup in ({', '.join(groups)})")
    return [each for each in found if _is_ready(each)]


def _with_gpu(groups: list[str]) -> list[dict[str, Any]]:
    return [each for each in _ready(groups) if each["status"]["allocatable"].get("nvidia.com/gpu", "0") != "0"]


def _is_ready(found: dict[str, Any]) -> bool:
    """Whether a node or pod is ready."""
    conditions: list[dict[str, str]] = found["status"].get("conditions", [])
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


@pytest.fixture(scope="module")
def namespace(environment: str) -> Iterator[str]:
    """The namespace of a team, as strict as the environment's own."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    yield NAMESPACE
    kubectl("delete", "namespace", NAMESPACE)


@pytest.fixture(scope="module")
def service(folder: Path, engine: dict[str, str], vpc: dict[str, Any], namespace: str) -> Generator[ProgramStack]:
    s3 = cloud.client("s3")
    bucket = weights.model_bucket(s3)
    assert bucket is not None
    weights.push_when_bucket_exists(MODEL, "1", threading.Event())
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    config = {
        **REGION,
        "clusterName": vpc["name"],
        "namespace": namespace,
        "bucket": bucket,
        "bucketKeyArn": rules[0]["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"],
        "image": image("runtime"),
        "loaderImage": image("model-loader"),
        "model": MODEL,
        "revision": "1",
        "weightGb": 0.2,
        "cpuMillicores": 100,
        "memoryMib": 512,
    }
    stack = example(folder, "model-service", engine, config)
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def test_model_service(service: ProgramStack) -> None:
    assert service.outputs()["url"] == f"http://{MODEL}.{NAMESPACE}.svc.cluster.local:8080"
    (pod,) = items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={MODEL}")
    assert _is_ready(pod)
    assert service.differences() == set()


def test_gateway_and_cache(folder: Path, engine: dict[str, str], vpc: dict[str, Any], service: ProgramStack) -> None:
    config = {
        **REGION,
        "clusterName": vpc["name"],
        "clusterSecurityGroupId": vpc["clusterSecurityGroupId"],
        "namespace": NAMESPACE,
        "vpcId": vpc["vpcId"],
        "subnetIds": vpc["subnetIds"],
        "image": image("gateway", "llm-gateway"),
        "model": MODEL,
        "modelUrl": service.outputs()["url"],
        "cpuMillicores": 20,
        "protect": False,
    }
    stack = example(folder, "gateway-and-cache", engine, config)
    try:
        stack.up()
        client = _client(stack)
        client.wait(MODEL)
        question = "In one sentence, what is a team?"
        first = client.ask(MODEL, question)
        assert first.text
        again = client.ask(MODEL, question)
        assert (again.text, again.cache) == (first.text, "hit")
        assert stack.differences() == set()
    finally:
        stack.destroy()


def _client(stack: ProgramStack) -> Client:
    """A client of the example's API, at the address by which the emulator serves it."""
    outputs = stack.outputs()
    found = re.fullmatch(r"https://(\w+)\.execute-api\.us-east-1\.amazonaws\.com/(\w+)", outputs["url"])
    assert found, outputs["url"]
    return Client(f"{cloud.url()}/restapis/{found[1]}/{found[2]}/_user_request_", outputs["apiKeys"]["team"])
