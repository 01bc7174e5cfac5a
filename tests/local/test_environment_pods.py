"""Pods of the running environment, under load through the API Gateway: replaced, killed, cut off from their cache."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from local import cloud
from local.cloud import cache
from local.cluster import node
from local.processes import Daemon
from tests.environment_harness import kill, kubectl, ready_pods, settle, wait
from tests.environment_load import MODEL, client, failure, load, stream

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NAMESPACE = "llm-serving"
GATEWAY = "llm-gateway"
BROKEN_OFF = '"code":"incomplete"'
"""In the event with which a stream ends that its pod could not end."""


def test_the_gateways_pods_are_on_nodes_of_their_own() -> None:
    wait("two pods", lambda: len(ready_pods(GATEWAY)) == 2, seconds=60)
    assert len(set(ready_pods(GATEWAY).values())) == 2


def test_pieces_arrive_one_by_one() -> None:
    api, begun = client(), time.monotonic()
    # Without sampling its answer always has some 30 pieces; with it, now and then half a dozen.
    times = [at - begun for at, _ in stream(api, "In one sentence, what is a GPU?", 48, temperature=0)]
    assert len(times) > 10
    assert times[0] < times[-1] / 2
    assert len({round(at, 2) for at in times}) > len(times) / 3


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "no-such-key-0123456789"}], ids=["no key", "wrong key"])
def test_key_is_needed(headers: dict[str, str]) -> None:
    answer = httpx.get(f"{client().url}/v1/models", headers=headers, timeout=10, trust_env=False)
    assert (answer.status_code, answer.json()) == (403, {"message": "Forbidden"})


def test_answers_go_on_without_the_cache_and_come_from_it_again() -> None:
    api, question = client(), "What is a cache?"
    first = api.ask(MODEL, question)
    assert api.ask(MODEL, question).cache == "hit"
    kill(cache.DAEMON.name)
    try:
        without = api.ask(MODEL, question)
    finally:
        cloud.start(bridge=True)
    assert without.cache != "hit"
    assert without.text == first.text
    wait("answers from the cache", lambda: api.ask(MODEL, question).cache == "hit", seconds=30)


def test_a_cache_that_is_killed_under_load_loses_no_request() -> None:
    with load(clients=4) as record:
        record.more(5)
        kill(cache.DAEMON.name)
        try:
            record.more(10)
        finally:
            cloud.start(bridge=True)
        record.more(5)
    assert not record.failures


@pytest.mark.parametrize("deployment", [GATEWAY, MODEL])
def test_rolling_update_loses_no_request(deployment: str) -> None:
    before = ready_pods(deployment)
    with load() as record:
        record.more(10)
        kubectl("rollout", "restart", "-n", NAMESPACE, f"deployment/{deployment}")
        kubectl("rollout", "status", "-n", NAMESPACE, f"deployment/{deployment}", "--timeout=110s")
        record.more(20)
    assert not record.failures
    assert len(ready_pods(deployment)) == len(before)
    assert not before.keys() & ready_pods(deployment).keys()


def test_a_gateway_pod_that_is_deleted_loses_no_request() -> None:
    before = ready_pods(GATEWAY)
    with load() as record:
        record.more(10)
        kubectl("delete", "pod", "-n", NAMESPACE, min(before), "--wait=false")
        wait("another pod", lambda: len(ready_pods(GATEWAY).keys() - {min(before)}) == len(before), seconds=60)
        record.more(20)
    assert not record.failures


def test_drained_nodes_give_their_pods_away_within_the_budget() -> None:
    before = ready_pods(MODEL)
    assert len(before) == 2
    counts: list[int] = []
    with load() as record, ThreadPoolExecutor() as drains:
        record.more(10)
        # Both at once: the second may only lose its pod once the first's is ready on a node that the autoscaler adds.
        drained = [
            drains.submit(kubectl, "drain", each, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=110s")
            for each in before.values()
        ]
        while not all(each.done() for each in drained):
            counts.append(len(ready_pods(MODEL)))
        for each in drained:
            each.result()
        kubectl("uncordon", *before.values())
        wait("both pods again", lambda: len(ready_pods(MODEL)) == 2, seconds=120)
        record.more(20)
    assert not before.keys() & ready_pods(MODEL).keys()
    assert min(counts) >= 1
    assert not record.failures
    settle()


def test_killed_node_is_replaced_and_the_service_is_back() -> None:
    before = ready_pods(MODEL)
    lost = min(before.values())
    pid = Daemon(f"node-{lost}").pid
    assert pid is not None
    api = client()
    with load() as record:
        record.more(10)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        wait("an answer", lambda: failure(api, "Are you there?", 8) is None, seconds=30)
        answered = time.monotonic()
        wait("all pods again", lambda: _is_elsewhere(before, lost), seconds=120)
        back = time.monotonic()
        record.more(20)
    # What had begun to stream could not be saved, but says so; everything else was answered by another pod.
    failed = record.failures_begun()
    print(f"an answer after {answered - killed:.1f} s, all pods after {back - killed:.1f} s; failed: {failed}")
    assert not record.failures_begun(after=back)
    assert all(BROKEN_OFF in why for why in failed)
    assert len(failed) <= 10
    assert all(node.is_running(name) for name in ready_pods(MODEL).values())


def _is_elsewhere(before: dict[str, str], lost: str) -> bool:
    now = ready_pods(MODEL)
    return len(now) == len(before) and lost not in now.values()
