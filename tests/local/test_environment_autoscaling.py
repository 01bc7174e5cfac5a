"""Scaling under real load: the queue grows, KEDA adds a pod, the pod adds a node; when the load ends, both go again."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from local.cluster import node
from local.cluster.objects import is_true, name, section, sequence
from tests.environment_harness import apply, committed_again, items, kubectl, pool_nodes, ready_pods, wait
from tests.environment_load import MODEL, client, load

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NAMESPACE = "llm-serving"
POOL = "l4"
LEAST, MOST = 2, 3
QUEUE_TARGET = 6
"""These three as in stacks/Pulumi.local.yaml."""
SLOTS = 4
"""Requests that the local image generates at once."""
CLIENTS = MOST * (SLOTS + QUEUE_TARGET) + 2
"""More than the most pods may hold, in their slots and their queues: they are wanted for as long as the load lasts."""


def found(kind: str) -> dict[str, Any]:
    """The model's object of a kind."""
    return json.loads(kubectl("get", kind, MODEL, "-n", NAMESPACE, "-o", "json"))


def wanted() -> int:
    """How many pods the HorizontalPodAutoscaler that KEDA made wants."""
    return section(found("hpa"), "status").get("desiredReplicas", 0)


def values() -> dict[str, str]:
    """What KEDA's adapter last answered, by the metric's name."""
    metrics = sequence(found("hpa"), "status", "currentMetrics")
    return {
        each["external"]["metric"]["name"]: next(iter(each["external"]["current"].values()))
        for each in metrics
        if each["type"] == "External"
    }


@pytest.fixture
def _settled() -> None:
    """As few pods as there may be, each on a node of its own, and no node more: other tests may leave one behind."""
    wait("KEDA knows the model", lambda: is_true(found("scaledobject"), "Ready"), seconds=180)
    wait("the fewest pods", lambda: len(ready_pods(MODEL)) == LEAST == wanted(), seconds=240)
    wait("the fewest nodes", lambda: len(pool_nodes(POOL)) == LEAST, seconds=420)


@pytest.mark.usefixtures("_settled")
def test_the_adapter_answers_for_both_metrics() -> None:
    wait("an answer for both", lambda: len(values()) == 2, seconds=90)
    service = json.loads(kubectl("get", "apiservice", "v1beta1.external.metrics.k8s.io", "-o", "json"))
    assert is_true(service, "Available")
    assert section(service, "spec")["caBundle"]
    assert is_true(found("hpa"), "ScalingActive")
    assert [name(each) for each in items("hpa", "-n", NAMESPACE)] == [MODEL]
    assert not is_true(found("scaledobject"), "Fallback")


@pytest.mark.usefixtures("_settled")
def test_a_queue_raises_pods_and_nodes_and_both_shrink_back() -> None:
    nodes, pods = set(pool_nodes(POOL)), set(ready_pods(MODEL))
    begun = time.monotonic()
    with load(clients=CLIENTS, tokens=8) as record:
        wait("one more pod is wanted", lambda: wanted() == MOST, seconds=120)
        raised = time.monotonic()
        wait("one more node", lambda: len(pool_nodes(POOL)) == MOST, seconds=120)
        grown = time.monotonic()
        wait("one more pod", lambda: len(ready_pods(MODEL)) == MOST, seconds=120)
        served = time.monotonic()
        (new,) = set(pool_nodes(POOL)) - nodes
        assert new in ready_pods(MODEL).values()
        assert node.is_running(new)
        assert pods < set(ready_pods(MODEL))
        record.more(10)
    assert not record.failures
    ended = time.monotonic()
    wait("the fewest pods again", lambda: wanted() == LEAST and len(ready_pods(MODEL)) == LEAST, seconds=240)
    fewer = time.monotonic()
    wait("the fewest nodes again", lambda: len(items("nodes", "-l", f"llm-serving/pool={POOL}")) == LEAST, seconds=240)
    print(
        f"wanted after {raised - begun:.0f} s, node after {grown - begun:.0f} s, pod after {served - begun:.0f} s;"
        f" after the load fewer pods in {fewer - ended:.0f} s, fewer nodes in {time.monotonic() - ended:.0f} s"
    )


def applied(since: float) -> int:
    """How many configurations the gateways have put in force since a moment of `time.monotonic`."""
    seconds = int(time.monotonic() - since) + 1
    pods = ("-l", "app.kubernetes.io/name=llm-gateway", "--tail=-1")
    return kubectl("logs", "-n", NAMESPACE, *pods, f"--since={seconds}s").count('"configuration applied"')


@pytest.fixture
def _to_zero() -> Iterator[None]:
    try:
        begun = time.monotonic()
        apply({"models": {MODEL: {"autoscaling": {"minReplicas": 0, "scaleDownStabilizationSeconds": 10}}}})
        # They follow when their kubelets do, up to a minute and a half later, and hold no request before.
        wait("both gateways to hold requests", lambda: applied(begun) == 2, seconds=240)
        yield
    finally:
        committed_again()


@pytest.mark.usefixtures("_to_zero")
def test_the_last_pod_goes_and_a_request_waits_for_the_first() -> None:
    # None that is on its way out, either: it still answers what comes to it.
    wait("no pod", lambda: not items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={MODEL}"), seconds=240)
    begun = time.monotonic()
    assert client().ask(MODEL, "Are you awake?", fresh=True).text
    print(f"an answer from zero pods after {time.monotonic() - begun:.0f} s")
    assert len(ready_pods(MODEL)) == 1
