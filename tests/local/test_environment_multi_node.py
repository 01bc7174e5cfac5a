"""A model whose replica spans two nodes, in the running environment: a group of pods under its real controller."""

from collections.abc import Iterator
from typing import Any

import pytest

from local import weights
from local.cluster.objects import sequence
from tests.environment_harness import changed, committed_again, items, kubectl, override, ready_pods, run, wait
from tests.environment_load import MODEL, client
from tests.local.test_environment_runtimes import NAMESPACE, QUESTION, TAGS, models, pods, service

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("group")]

NAME = "on-two-nodes"
LEADER, WORKER = f"{NAME}-group-0", f"{NAME}-group-0-1"
ONE_POD = {"autoscaling": {"minReplicas": 1, "maxReplicas": 1}}
"""The pool has three GPUs, each on a node of its own: one is left for the committed model."""


@pytest.fixture(scope="module")
def group(environment: str) -> Iterator[None]:
    """The model beside the committed one, which is alone again afterwards."""
    models("push", str(weights.smollm2()), "--name", NAME, "--revision", "1")
    spanning = {**service(NAME, "vllm"), "nodes": 2}
    override({"images": {"vllm": TAGS["vllm"]}, "models": {MODEL: ONE_POD, NAME: spanning}})
    try:
        run("up")
        yield
    finally:
        # As many GPUs as the committed model wants are free once the group is gone.
        override({"models": {MODEL: ONE_POD}})
        run("up")
        committed_again()


def uids() -> dict[str, str]:
    """The uids of the group's pods that are ready, by name."""
    ready = ready_pods(NAME)
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods(NAME) if pod["metadata"]["name"] in ready}


def test_two_pods_on_two_nodes_answer_as_one() -> None:
    placed = ready_pods(NAME)
    assert set(placed) == {LEADER, WORKER}
    assert len(set(placed.values())) == 2
    said = {pod: kubectl("logs", "-n", NAMESPACE, pod, "-c", "runtime") for pod in placed}
    assert "Node 1 of 2 has joined" in said[LEADER]
    assert "Node 1 of 2 is ready" in said[WORKER]
    api = client()
    api.wait(NAME)
    assert api.ask(NAME, QUESTION, fresh=True).text


def test_only_the_leader_is_asked_and_both_are_known_by_name() -> None:
    assert endpoints(NAME) == {LEADER}
    assert endpoints(f"{NAME}-group") == {LEADER, WORKER}


def endpoints(service: str) -> set[str]:
    """The pods behind a Service."""
    found: list[dict[str, Any]] = items(
        "endpointslices", "-n", NAMESPACE, "-l", f"kubernetes.io/service-name={service}"
    )
    return {each["targetRef"]["name"] for item in found for each in sequence(item, "endpoints")}


def test_the_same_again_changes_nothing() -> None:
    run("up")
    assert not changed()


def test_a_worker_that_goes_takes_the_group_along() -> None:
    before = uids()
    assert set(before) == {LEADER, WORKER}
    kubectl("delete", "pod", "-n", NAMESPACE, WORKER, "--wait=false")

    def renewed() -> bool:
        now = uids()
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    wait("a new group", renewed, seconds=100)  # less than a worker that its leader's end tells nothing would sleep
    assert len(set(ready_pods(NAME).values())) == 2
    api = client()
    api.wait(NAME)
    assert api.ask(NAME, QUESTION, fresh=True).text
