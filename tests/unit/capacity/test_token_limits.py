"""Token limits: for each rule a placement that breaks it and one that doesn't."""

from dataclasses import replace

import pytest

from llm_serving.capacity import token_limits
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import LLAMA, Rule, place


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


RULES: list[Rule] = [
    (
        place(max_total_tokens=0),
        "error",
        "--max-total-tokens: 0 is less than 1; nearest valid: 1 [TOKENS_RANGE]",
        place(max_total_tokens=1),
    ),
    (
        place(max_concurrent_requests=-1),
        "error",
        "--max-concurrent-requests: -1 is less than 1; nearest valid: 1 [TOKENS_RANGE]",
        place(max_concurrent_requests=1),
    ),
    (
        place(max_input_tokens=8192),
        "error",
        (
            "--max-total-tokens: 8192 leaves no room for an answer after a prompt of 8192; nearest valid: 8193"
            " [TOKENS_INPUT]"
        ),
        place(max_input_tokens=8191),
    ),
    (
        place(max_input_tokens=8000, max_batch_prefill_tokens=4096),
        "warning",
        (
            "--max-batch-prefill-tokens: 4096 is less than the longest prompt of 8000 tokens, which is then read in"
            " several steps; nearest valid: 8000 [TOKENS_PREFILL]"
        ),
        place(max_input_tokens=8000, max_batch_prefill_tokens=8000),
    ),
    (
        place(on="g4dn.xlarge", model=replace(LLAMA, head_dim=96), max_batch_prefill_tokens=4096),
        "error",
        (
            "--max-batch-prefill-tokens: 4096 is less than the longest prompt of 8191 tokens, which TGI refuses with"
            " paged attention; nearest valid: 8191 [TOKENS_PREFILL]"
        ),
        place("vllm", on="g4dn.xlarge", model=replace(LLAMA, head_dim=96), max_batch_prefill_tokens=4096),
    ),
    (
        place("vllm", max_batch_prefill_tokens=64),
        "error",
        (
            "--max-batch-prefill-tokens: 64 tokens of a step are fewer than the 128 requests at once, which vLLM 0.33.0"
            " refuses; nearest valid: 128 [TOKENS_BATCH]"
        ),
        place("vllm", max_batch_prefill_tokens=128),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=legality_samples.rule_name)
def test_rule(rule: Rule) -> None:
    legality_samples.assert_rule(token_limits.check, rule)


def test_every_rule_has_a_case() -> None:
    assert legality_samples.codes(RULES) == {check.code for check in token_limits.CHECKS}
