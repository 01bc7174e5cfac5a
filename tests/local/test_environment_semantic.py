"""The semantic cache in the running environment: it answers other words for a known question, and no other question."""

import secrets
from collections.abc import Iterator

import pytest

from tests.environment_harness import apply, committed_again, ready_pods, wait
from tests.environment_load import EMBEDDINGS, MODEL, client

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("semantic")]


@pytest.fixture(scope="module")
def semantic(environment: str) -> Iterator[None]:
    """The model asks for the semantic cache; the committed settings again afterwards."""
    wait("the embedding service's pod", lambda: ready_pods(EMBEDDINGS), seconds=180)
    try:
        apply(
            {
                "cache": {"semantic": {"embeddings": EMBEDDINGS, "timeoutMilliseconds": 2000}},  # the machine is small
                "models": {MODEL: {"semanticCache": {"mode": "answer"}}},
            }
        )
        yield
    finally:
        committed_again()


def test_other_words_are_answered_and_another_number_is_not() -> None:
    api = client()
    api.wait(MODEL)
    mark = secrets.randbelow(10**6)  # no test before this one has asked it
    # The gateway's pods follow their configuration and what others store, within seconds.
    first = api.ask(MODEL, f"How do I sort a list of {mark} names in Python?")

    def known() -> str:
        answer = api.ask(MODEL, f"How can I sort a list of {mark} names in Python?", fresh=False)
        return answer.text if answer.cache == "hit" else ""

    assert first.cache == "miss"
    assert wait("an answer to other words", known, seconds=90) == first.text
    assert api.ask(MODEL, f"How do I sort a list of {mark + 1} names in Python?").cache == "miss"
