"""Three services in the running environment, one for each runtime, whose weights the command line has pushed.

Two of them serve an adapter too, pushed likewise.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import cloud, weights
from local.paths import ROOT
from tests.environment_harness import committed_again, items, kubectl, override, run, wait
from tests.environment_load import MODEL, client
from tests.model_files import write_random_adapter

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("services")]

NAMESPACE = "llm-serving"
RUNTIMES = {MODEL: "tgi", "on-vllm": "vllm", "on-tensorrt-llm": "tensorrt-llm"}
"""Each has one of the pool's three GPUs."""
READER = "reads-another-model"
ADAPTERS = {MODEL: "tuned", "on-vllm": "tuned-on-vllm"}
"""The adapter of each service that has one."""
QUESTION = "In one sentence, what is a GPU?"
TAGS = {"vllm": {"tag": "0.33.0"}, "tensorrtLlm": {"tag": "1.2.1"}}


def service(name: str, runtime: str) -> dict[str, Any]:
    """The settings of a service. The model's own are in the stack file; the rest of a new one is as small."""
    adapter = {"model": "tuned", "revision": "1", "rank": 4, "weightGb": 0.01}
    adapters = {"adapters": {ADAPTERS[name]: adapter}} if name in ADAPTERS else {}
    if name == MODEL:
        return {"runtime": runtime, "autoscaling": {"minReplicas": 1, "maxReplicas": 1}, **adapters}
    small = {"revision": "1", "weightGb": 0.2, "pool": "l4", "maxInputTokens": 1024, "maxTotalTokens": 2048}
    needs = {"model": MODEL, "cpuMillicores": 100, "memoryMib": 640, "maxConcurrentRequests": 16}
    return {"runtime": runtime, "replicas": 1, **small, **needs, **adapters}


def models(*arguments: str) -> str:
    """Runs `llm-serving models` on the environment's bucket."""
    bucket = weights.model_bucket(cloud.client("s3"))
    assert bucket is not None
    done = subprocess.run(
        [sys.executable, "-m", "cli", "models", *arguments, "--bucket", bucket],
        cwd=ROOT, env={**os.environ, **cloud.environment()}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 4, whose numbers are the same in every run: the bucket may have it already."""
    config = json.loads((weights.smollm2() / "config.json").read_text())
    return write_random_adapter(tmp_path_factory.mktemp("adapter"), config)


@pytest.fixture(scope="module")
def services(environment: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One service for each runtime; the committed ones again afterwards."""
    for name in RUNTIMES.keys() - {MODEL}:
        models("push", str(weights.smollm2()), "--name", name, "--revision", "1")
    models("push", str(adapter(tmp_path_factory)), "--name", "tuned", "--revision", "1")
    override({"images": TAGS, "models": {name: service(name, runtime) for name, runtime in RUNTIMES.items()}})
    try:
        run("up")
        yield
    finally:
        # The model's second pod has no GPU before the other services have gone, and an update deletes last.
        override({"models": {MODEL: service(MODEL, "tgi")}})
        run("up")
        committed_again()


def pods(name: str) -> list[dict[str, Any]]:
    """The pods of a service."""
    return items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={name}")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_answers_with_weights_from_the_bucket(name: str) -> None:
    # The autoscaler takes its time to be sure that the model needs one only.
    wait("one pod", lambda: len(pods(name)) == 1, seconds=240)
    (pod,) = pods(name)
    (container,) = pod["spec"]["containers"]
    assert f"/{RUNTIMES[name]}@sha256:" in container["image"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    api = client()
    api.wait(name)
    assert api.ask(name, QUESTION, fresh=True).text


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_answers_in_its_own_way_and_leaves_the_model_its_own(name: str) -> None:
    api = client()
    api.wait(name)
    before = api.ask(name, QUESTION, fresh=True).text
    adapted = api.ask(ADAPTERS[name], QUESTION, fresh=True).text
    assert api.ask(name, QUESTION, fresh=True).text == before != adapted
    (pod,) = items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={name}")
    loaders = [status["name"] for status in pod["status"]["initContainerStatuses"]]
    assert loaders == ["model-loader", f"adapter-loader-{ADAPTERS[name]}"]


def test_a_role_reads_its_own_model_and_no_other() -> None:
    (pod,) = pods("on-vllm")
    spec = pod["spec"]
    loader = spec["initContainers"][0]
    source, _, _ = loader["args"][0].partition("/models/")
    other = f"{source}/models/on-tensorrt-llm/1"
    kept = ("serviceAccountName", "securityContext", "volumes", "nodeSelector", "tolerations")
    reader = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": READER, "namespace": NAMESPACE},
        "spec": {
            **{key: spec[key] for key in kept},
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "containers": [loader | {"args": [other, "--wait-seconds=5"]}],
        },
    }
    kubectl("apply", "-f", "-", text=json.dumps(reader))
    try:
        wait("it ends", lambda: _phase(READER) not in ("Pending", "Running"), seconds=120)
        said = kubectl("logs", "-n", NAMESPACE, READER)
        assert _phase(READER) == "Failed", said
        assert f"may not read {other}/ (AccessDenied)" in said
        assert "Traceback" not in said
    finally:
        kubectl("delete", "pod", "-n", NAMESPACE, READER)


def _phase(pod: str) -> str:
    return str(json.loads(kubectl("get", "pod", "-n", NAMESPACE, pod, "-o", "json"))["status"]["phase"])


def test_the_registry_has_what_they_serve() -> None:
    for name in RUNTIMES.keys() - {MODEL}:
        assert f"{name} 1 is whole: " in models("verify", name, "1", "--full")
