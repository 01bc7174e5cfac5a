"""A rollout in the running environment: a canary's share, all requests for it, back again, and its place as stable."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cli import rollout_edits
from llm_serving.registry.push import push
from llm_serving.registry.s3 import Bucket
from local import cloud, weights
from tests.environment_harness import apply, changed, committed_again, items, refresh, wait
from tests.environment_load import MODEL, client, load

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NAMESPACE = "llm-serving"
CANARY = f"{MODEL}-canary"
REQUESTS = 5000
TO_KNOW_S = 180
"""For the kubelets to hand on a changed ConfigMap, a minute or more, and for the gateways to read it."""
IN_A_ROW = 40
"""Requests that show what both gateways do: each gets some."""
GATEWAY_CONFIG = "kubernetes:core/v1:ConfigMap::gateway:llm-serving/llm-gateway"
RULES = "kubernetes:monitoring.coreos.com/v1:PrometheusRule::monitoring-rules"


class Rollout:
    """The model's settings, and what is in force of them."""

    def __init__(self) -> None:
        self.model: dict[str, Any] = {"revision": "1", "replicas": 1, "autoscaling": None}
        self.up()
        # The autoscaler may have set minReplicas once more before it went: docs/scaling.md.
        wait("the autoscaler to go", lambda: not items("hpa", "-n", NAMESPACE), seconds=120)
        refresh()
        self.up()

    def up(self) -> dict[str, str]:
        """Puts the settings in force; returns what that changed."""
        apply({"models": {MODEL: self.model}})
        return changed()


@pytest.fixture(scope="module")
def rollout(environment: str) -> Iterator[Rollout]:
    """The environment with one pod of its model, and the same weights once more as another revision."""
    s3 = cloud.client("s3")
    bucket = weights.model_bucket(s3)
    assert bucket is not None
    push(weights.smollm2(), Bucket(bucket, s3), MODEL, "2")
    yield Rollout()
    committed_again()


def answered_by(count: int, model: str = MODEL, clients: int = 8) -> Counter[str]:
    """Which versions answer so many short requests, none of them from the cache; the status of those that fail."""
    api, numbers, lock = client(), iter(range(count)), threading.Lock()
    versions: Counter[str] = Counter()
    headers = {"x-api-key": api.key, "cache-control": "no-cache"}

    def ask() -> None:
        with httpx.Client(headers=headers, timeout=60, trust_env=False) as http:
            while (number := _next(numbers, lock)) is not None:
                body = {"model": model, "messages": [{"role": "user", "content": f"{number}"}], "max_tokens": 1}
                answer = http.post(f"{api.url}/v1/chat/completions", json=body)
                while answer.status_code == 429:  # the usage plan's rate
                    answer = http.post(f"{api.url}/v1/chat/completions", json=body)
                said = answer.headers["x-model-version"] if answer.status_code == 200 else str(answer.status_code)
                with lock:
                    versions[said] += 1

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return versions


def _next(numbers: Iterator[int], lock: threading.Lock) -> int | None:
    with lock:
        return next(numbers, None)


def wait_for(version: str, model: str = MODEL) -> None:
    """Waits until that version alone answers, at whichever gateway."""
    wait(f"{version} answers", lambda: set(answered_by(IN_A_ROW, model)) == {version}, seconds=TO_KNOW_S)


def sources(name: str) -> set[str]:
    """The revisions that the pods of a service have loaded."""
    pods = items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={name}")
    return {pod["spec"]["initContainers"][0]["args"][0].rpartition("/")[2] for pod in pods}


def test_a_canary_is_added_and_gets_its_share(rollout: Rollout) -> None:
    rollout_edits.start(rollout.model, "canary", "2", 10, shadow=False)
    changes = rollout.up()
    assert {step for name, step in changes.items() if "canary" in name} == {"create"}
    assert {name: step for name, step in changes.items() if "canary" not in name} == {
        GATEWAY_CONFIG: "update",
        RULES: "update",
    }
    assert (sources(MODEL), sources(CANARY)) == ({"1"}, {"2"})
    wait_for("canary", f"{MODEL}@canary")
    answered = answered_by(REQUESTS)
    print(f"{REQUESTS} requests: {dict(answered)}")
    assert set(answered) == {"stable", "canary"}
    assert 0.08 * REQUESTS <= answered["canary"] <= 0.12 * REQUESTS


def test_all_requests_move_to_the_canary_and_back_while_streams_run(rollout: Rollout) -> None:
    with load(clients=3, tokens=150) as record:
        record.more(3)
        assert not rollout_edits.promote(rollout.model)
        assert rollout.up() == {GATEWAY_CONFIG: "update"}
        wait_for("canary")
        assert sources(MODEL) == {"1"}  # still up
        rollout_edits.rollback(rollout.model)
        assert rollout.up() == {GATEWAY_CONFIG: "update"}
        wait_for("stable")
        record.more(3)
    assert not record.failures


def test_a_canary_becomes_stable_and_is_gone(rollout: Rollout) -> None:
    with load(clients=3, tokens=50) as record:
        rollout_edits.shift(rollout.model, {"canary": 10})
        for settled in (False, True):
            assert rollout_edits.promote(rollout.model) is settled
            rollout.up()
            wait_for("stable" if settled else "canary")
        assert sources(MODEL) == {"2"}
        rollout_edits.clean(rollout.model)
        rollout.up()
        record.more(5)
    assert not record.failures
    assert rollout.model == {"revision": "2", "replicas": 1, "autoscaling": None}
    wait("the canary's pods are gone", lambda: not sources(CANARY), seconds=150)
    assert set(answered_by(IN_A_ROW)) == {"stable"}
