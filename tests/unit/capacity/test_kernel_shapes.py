"""Split matrices of quantized models: for each rule a placement that breaks it and one that doesn't."""

from dataclasses import replace

import pytest

from llm_serving.capacity import kernel_shapes
from llm_serving.capacity.model_shape import CheckpointQuantization
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import AWQ, LLAMA, QWEN3_MOE, Rule, place, quantized

FP8_BLOCKS = CheckpointQuantization("fp8", 8.0, block=(128, 128))
SMALL_GROUPS = CheckpointQuantization("gptq", 4.5, 32)
ODD = replace(LLAMA, intermediate=29568)


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


RULES: list[Rule] = [
    (
        place("vllm", on="p5.48xlarge", gpus=8, model=quantized(ODD, AWQ)),
        "error",
        (
            "--tp: 3696 inputs of the feed-forward output projection on each of 8 GPUs do not divide by the group size"
            " 128; valid: 1 [QUANT_GROUP]"
        ),
        place("vllm", on="p5.48xlarge", gpus=8, model=quantized(LLAMA, AWQ)),
    ),
    (
        place("vllm", on="p5.48xlarge", gpus=8, model=ODD, quantization="awq"),
        "warning",
        (
            "--tp: 3696 inputs of the feed-forward output projection on each of 8 GPUs do not divide by the group size"
            " 128; valid: 1; groups of 128 are assumed, as models/llama says nothing of its own [QUANT_GROUP]"
        ),
        place("vllm", on="p5.48xlarge", gpus=8, model=LLAMA, quantization="awq"),
    ),
    (
        place("vllm", on="p5.48xlarge", gpus=4, model=quantized(QWEN3_MOE, FP8_BLOCKS)),
        "error",
        (
            "--tp: 192 inputs of the expert output projection on each of 4 GPUs do not divide by the block of 128;"
            " valid: 1, 2 [QUANT_BLOCK]"
        ),
        place("vllm", on="p5.48xlarge", gpus=2, model=quantized(QWEN3_MOE, FP8_BLOCKS)),
    ),
    (
        place(
            "tensorrt-llm",
            on="p5.48xlarge",
            gpus=8,
            model=quantized(replace(LLAMA, kv_heads=8, head_dim=120), FP8_BLOCKS),
        ),
        "warning",
        (
            "--tp: 720 outputs of the query, key and value projection on each of 8 GPUs do not divide by the block of"
            " 128; valid: 1 [QUANT_BLOCK]"
        ),
        place("tensorrt-llm", on="p5.48xlarge", gpus=8, model=quantized(LLAMA, FP8_BLOCKS)),
    ),
    (
        place(on="p5.48xlarge", gpus=8, model=quantized(replace(LLAMA, intermediate=4352), SMALL_GROUPS)),
        "error",
        (
            "--tp: 544 inputs and 4096 outputs of the feed-forward output projection on each of 8 GPUs are no multiples"
            " of 128 and 64, or of 64 and 128; valid: 1, 2, 4 [QUANT_TILE]"
        ),
        place("vllm", on="p5.48xlarge", gpus=8, model=quantized(replace(LLAMA, intermediate=4352), SMALL_GROUPS)),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=legality_samples.rule_name)
def test_rule(rule: Rule) -> None:
    legality_samples.assert_rule(kernel_shapes.check, rule)


def test_every_rule_has_a_case() -> None:
    assert legality_samples.codes(RULES) == {check.code for check in kernel_shapes.CHECKS}
