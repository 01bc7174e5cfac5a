"""Attention kernels: for each rule a placement that breaks it and one that doesn't."""

from dataclasses import replace

import pytest

from llm_serving.capacity import attention
from llm_serving.capacity.placement import Placement
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import DEEPSEEK, GEMMA2, LLAMA, Rule, place

WINDOW = replace(LLAMA, family="mistral", sliding_window=4096)


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


RULES: list[Rule] = [
    (
        place(on="g4dn.xlarge"),
        "warning",
        (
            "--instance: TGI keeps flashinfer on the T4 of g4dn.xlarge (7.5), which is made for 8.0 and newer; set"
            " ATTENTION=paged; or run on g6, g5, p4d, p5 [ATTENTION_BACKEND]"
        ),
        place(),
    ),
    (
        place(on="g4dn.12xlarge", gpus=4),
        "warning",
        (
            "--tp: splitting models/llama over 4 GPUs needs FlashAttention, and the T4 of g4dn.12xlarge (7.5) has only"
            " its first version; nearest valid: 1; or run on g6, g5, p4d, p5 [ATTENTION_SHARDED]"
        ),
        place(on="g5.12xlarge", gpus=4),
    ),
    (
        place(on="g4dn.xlarge", max_input_tokens=8000, model=WINDOW),
        "error",
        (
            "--max-input-tokens: 8000 is more than the sliding window of 4096, which TGI cannot use on the T4 of"
            " g4dn.xlarge (7.5); nearest valid: 4096; or run on g6, g5, p4d, p5 [ATTENTION_WINDOW]"
        ),
        place(on="g4dn.xlarge", max_input_tokens=4096, model=WINDOW),
    ),
    (
        place(on="g4dn.xlarge", model=GEMMA2, dtype="float16"),
        "warning",
        (
            "--instance: gemma2 caps attention scores, and before 8.0 only flashinfer can; the T4 of g4dn.xlarge (7.5)"
            " has neither FlashAttention 2 nor a paged kernel that does; or run on g6, g5, p4d, p5 [ATTENTION_SOFTCAP]"
        ),
        place(model=GEMMA2),
    ),
    (
        place(model=replace(LLAMA, head_dim=96)),
        "warning",
        (
            "--model: heads of 96 are not among flashinfer's 64, 128, 256: TGI takes flashdecoding and turns its prefix"
            " cache off [ATTENTION_HEAD_DIM]"
        ),
        place(model=replace(LLAMA, head_dim=64)),
    ),
    (
        place(on="g4dn.xlarge", model=replace(LLAMA, head_dim=96)),
        "warning",
        (
            "--model: heads of 96 are not among flashinfer's 64, 128, 256: TGI takes paged and turns its prefix cache"
            " off [ATTENTION_HEAD_DIM]"
        ),
        place("vllm", on="g4dn.xlarge", model=replace(LLAMA, head_dim=96)),
    ),
    (
        place("tensorrt-llm", on="p4d.24xlarge", gpus=8, model=DEEPSEEK),
        "warning",
        (
            "--instance: deepseek has latent attention, and that TensorRT-LLM 1.2.1 runs it on the A100 of p4d.24xlarge"
            " (8.0), before 9.0, is not confirmed; or run on p5, p6-b200 [ATTENTION_LATENT]"
        ),
        place("tensorrt-llm", on="p5.48xlarge", gpus=8, model=DEEPSEEK),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=legality_samples.rule_name)
def test_rule(rule: Rule) -> None:
    legality_samples.assert_rule(attention.check, rule)


def test_every_rule_has_a_case() -> None:
    assert legality_samples.codes(RULES) == {check.code for check in attention.CHECKS}


@pytest.mark.parametrize(
    ("placement", "backend"),
    [
        (place(), "flashinfer"),
        (place(on="g4dn.xlarge"), "flashinfer"),
        (place(model=replace(LLAMA, head_dim=96)), "flashdecoding"),
        (place(on="g4dn.xlarge", model=replace(LLAMA, head_dim=96)), "paged"),
        (place(model=replace(LLAMA, family="falcon", head_dim=64)), "flashdecoding"),
        (place(on="p5.48xlarge", gpus=8, model=DEEPSEEK), "flashdecoding"),
    ],
)
def test_tgi_backend(placement: Placement, backend: str) -> None:
    assert attention.tgi_backend(placement) == backend
