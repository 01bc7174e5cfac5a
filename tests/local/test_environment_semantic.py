"""The semantic cache in the running environment: it answers other words for a known question, and no other question."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.environment_harness import apply, committed_again, items, ready_pods, wait
from tests.environment_load import EMBEDDINGS, MODEL, client

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("committed_afterwards")]

PATIENT = {"timeoutMilliseconds": 2000}  # the machine is small


@pytest.fixture(scope="module")
def committed_afterwards(environment: str) -> Iterator[None]:
    """The committed settings again after the tests."""
    yield
    committed_again()
    gateways = ("pods", "-n", "llm-serving", "-l", "app.kubernetes.io/instance=llm-gateway")
    wait("the gateways with more memory have ended", lambda: len(items(*gateways)) == 2, seconds=300)


@pytest.mark.parametrize(
    ("semantic", "gateway"),
    [({**PATIENT, "embeddings": EMBEDDINGS}, {}), (PATIENT, {"memoryMib": 576})],
    ids=["by the embedding service", "in the gateway's own process"],
)
def test_other_words_are_answered_and_another_number_is_not(semantic: dict[str, Any], gateway: dict[str, Any]) -> None:
    if "embeddings" in semantic:
        wait("the embedding service's pod", lambda: ready_pods(EMBEDDINGS), seconds=180)
    answering = {MODEL: {"semanticCache": {"mode": "answer"}}}
    apply({"cache": {"semantic": semantic}, "gateway": gateway, "models": answering})
    api = client()
    api.wait(MODEL)

    def asked_twice() -> int:
        """The number in a question that was answered, in other words, by its own answer; 0 where it was not."""
        mark = 1 + secrets.randbelow(10**6)  # no question before has had it
        first = api.ask(MODEL, f"How do I sort a list of {mark} names in Python?")
        time.sleep(1)  # the other pod follows what this one stores
        second = api.ask(MODEL, f"How can I sort a list of {mark} names in Python?")
        assert first.cache == "miss"
        assert second.cache == "miss" or second.text == first.text
        return mark if second.cache == "hit" else 0

    # The gateway's pods follow their configuration when their kubelets do, up to a minute and a half later.
    mark = wait("an answer to other words", asked_twice, seconds=240)
    assert api.ask(MODEL, f"How do I sort a list of {mark + 1} names in Python?").cache == "miss"
