"""The embedding service of the running environment, asked through the API Gateway as a client would."""

import base64
import itertools
import struct
from collections.abc import Mapping

import httpx
import numpy as np
import pytest

from tests.environment_harness import items, kubectl, ready_pods, wait
from tests.environment_load import EMBEDDINGS, MODEL, client

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NAMESPACE = "llm-serving"
PARAPHRASES = ("How do I reset my password?", "I forgot my password, how can I set a new one?")
UNRELATED = "The harbour froze over in the winter of 1709."


@pytest.fixture(autouse=True)
def ready() -> None:
    wait("the embedding service's pod", lambda: ready_pods(EMBEDDINGS), seconds=180)


def post(path: str, body: Mapping[str, object]) -> httpx.Response:
    api = client()
    headers = {"x-api-key": api.key}
    return httpx.post(api.url + path, json=body, headers=headers, timeout=60, trust_env=False)


def test_vectors_have_384_numbers_and_length_one() -> None:
    vectors = np.array(client().embed(EMBEDDINGS, [*PARAPHRASES, UNRELATED]))
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_what_means_the_same_is_nearer_than_what_does_not() -> None:
    first, second, other = np.array(client().embed(EMBEDDINGS, [*PARAPHRASES, UNRELATED]))
    assert first @ second > 0.6
    assert max(first @ other, second @ other) < 0.3


def test_base64_is_the_same_vector() -> None:
    body = {"model": EMBEDDINGS, "input": UNRELATED, "encoding_format": "base64"}
    encoded = post("/v1/embeddings", body).json()["data"][0]["embedding"]
    numbers = struct.unpack("<384f", base64.b64decode(encoded))
    (vector,) = client().embed(EMBEDDINGS, [UNRELATED])
    assert numbers == pytest.approx(vector, abs=1e-6)


def test_it_is_listed_beside_the_model() -> None:
    api = client()
    answer = httpx.get(f"{api.url}/v1/models", headers={"x-api-key": api.key}, timeout=30, trust_env=False)
    assert {each["id"] for each in answer.json()["data"]} >= {MODEL, EMBEDDINGS}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/v1/chat/completions",
            {"model": EMBEDDINGS, "messages": [{"role": "user", "content": "Hi"}]},
            f"The model '{EMBEDDINGS}' makes embeddings: ask it at /v1/embeddings.",
        ),
        (
            "/v1/embeddings",
            {"model": MODEL, "input": "Hi"},
            f"The model '{MODEL}' makes no embeddings: ask it at /v1/chat/completions or /v1/completions.",
        ),
        (
            "/v1/embeddings",
            {"model": EMBEDDINGS, "input": "word " * 300},
            "This model's maximum context length is 256 tokens",
        ),
    ],
)
def test_what_cannot_be_answered_says_why(path: str, body: dict[str, object], message: str) -> None:
    answer = post(path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


def test_the_pod_runs_as_nobody_and_can_do_nothing_else() -> None:
    (pod,) = items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={EMBEDDINGS}")
    (container,) = pod["spec"]["containers"]
    assert "initContainers" not in pod["spec"]
    assert "@sha256:" in container["image"]
    assert "/embedder@" in container["image"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    name = pod["metadata"]["name"]
    uid = kubectl("exec", "-n", NAMESPACE, name, "--", "/venv/bin/python", "-c", "import os; print(os.getuid())")
    assert uid.strip() == "10001"


def test_a_rollout_loses_no_request() -> None:
    """With one replica: a new pod is ready before the old one goes."""
    before, api = ready_pods(EMBEDDINGS), client()
    kubectl("rollout", "restart", "-n", NAMESPACE, f"deployment/{EMBEDDINGS}")
    for turn in itertools.count():
        assert len(api.embed(EMBEDDINGS, [f"text number {turn}"])) == 1
        now = ready_pods(EMBEDDINGS)
        if now and not before.keys() & now.keys():
            break
        assert turn < 5000
    kubectl("rollout", "status", "-n", NAMESPACE, f"deployment/{EMBEDDINGS}", "--timeout=110s")
