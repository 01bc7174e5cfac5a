"""The guard of the semantic cache: what may not have the same answer, however alike it looks."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_gateway.semantic_guard import refusal

from local.bench_semantic import PAIRS

WORDS = st.lists(
    st.sampled_from(
        ["how", "do", "I", "convert", "10", "two", "miles", "km", "to", "from", "Paris", "Rome", "not", "can't", "`rm`",
         "--force", "before", "after", "load_model()", "GPT-4", "the", "file", "increase", "decrease"]
    ),
    min_size=1,
    max_size=9,
).map(" ".join)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "known", "why"),
    [
        ("What is 15% of 80?", "What is 15% of 90?", "number"),
        ("Give me three tips.", "Give me five tips.", "number"),
        ("Is 3.5 enough?", "Is 35 enough?", "number"),
        ("Which countries are in the EU?", "Which countries are not in the EU?", "negation"),
        ("Why can I log in?", "Why can\u2019t I log in?", "negation"),
        ("Show recipes with nuts.", "Show recipes without nuts.", "negation"),
        ("Set it to 30 seconds.", "Set it to 30 minutes.", "unit"),
        ("What is the capital of France?", "What is the capital of Spain?", "name"),
        ("what is in france", "what is in Spain", "name"),
        ('Translate "good morning".', 'Translate "good evening".', "name"),
        ("What does `git rebase` do?", "What does `git merge` do?", "name"),
        ("how do I call load_model()", "how do I call save_model()", "name"),
        ("is gpt-4 better", "is gpt-3 better", "number"),
        ("read /etc/passwd", "read /etc/shadow", "name"),
        ("Copy it from Paris to Rome.", "Copy it from Rome to Paris.", "direction"),
        ("How do I enable it?", "How do I disable it?", "direction"),
        ("How do I block a caller?", "How do I unblock a caller?", "direction"),
        ("Does Alice owe Bob money?", "Does Bob owe Alice money?", "direction"),
        ("Convert miles to kilometers.", "Convert kilometers to miles.", "direction"),
    ],
)
def test_a_swap_is_refused(asked: str, known: str, why: str) -> None:
    assert refusal(asked, known) == why


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("What is the capital of France?", "what's the capital of france"),
        ("Give me three tips.", "Give me 3 tips!"),
        ("Convert 10 kilometers to miles.", "How many miles are 10 km?"),
        ("How do I sort a list in Python?", "In Python, how do I sort a list?"),
        ("I can't log in", "I cannot log in"),
        ("How tall is the Eiffel Tower?", "What is the height of the Eiffel Tower?"),
        ("What is 1,000 plus 1?", "What is 1000 plus 1?"),
    ],
)
def test_other_words_for_the_same_pass(asked: str, known: str) -> None:
    assert refusal(asked, known) == ""


@given(WORDS, WORDS)
def test_it_does_not_matter_which_text_is_first(one: str, other: str) -> None:
    assert refusal(one, other) == refusal(other, one)


@given(st.text(max_size=60))
def test_a_text_passes_beside_itself(text: str) -> None:
    assert refusal(text, text) == ""


@given(WORDS, st.integers(0, 99), st.integers(0, 99))
def test_another_number_never_passes(text: str, one: int, other: int) -> None:
    assert bool(refusal(f"{text} {one}", f"{text} {other}")) == (one != other)


def test_of_the_labelled_near_misses_few_are_left_to_the_threshold() -> None:
    with PAIRS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    kinds = {row["kind"] for row in rows}
    assert kinds == {"paraphrase", "number", "name", "negation", "unit", "direction"}
    passed = {
        kind: sum(not refusal(row["first"], row["second"]) for row in rows if row["kind"] == kind) for kind in kinds
    }
    assert (passed["number"], passed["negation"], passed["unit"], passed["direction"]) == (0, 0, 0, 1)
    assert passed["name"] < 25  # those in lower case: only the vectors can tell them
    assert passed["paraphrase"] > 160
