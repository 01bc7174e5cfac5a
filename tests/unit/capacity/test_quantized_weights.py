"""Quantized weights: for each rule a placement that breaks it and one that doesn't."""

import pytest

from llm_serving.capacity import quantized_weights
from llm_serving.capacity.model_shape import CheckpointQuantization
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import (
    AWQ,
    CATALOG_MODEL,
    GPT_OSS,
    GPTQ,
    LLAMA,
    MIXTRAL,
    Rule,
    place,
    quantized,
)

EXL2 = CheckpointQuantization("exl2", 4.0)


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


RULES: list[Rule] = [
    (
        place("vllm", quantization="bitsandbytes"),
        "error",
        (
            "--quantization: vLLM 0.33.0 does not know 'bitsandbytes'; nearest valid: fp8, int8_per_channel_weight_only"
            " [QUANT_UNKNOWN]"
        ),
        place(quantization="bitsandbytes"),
    ),
    (
        place("vllm", quantization="gguf"),
        "error",
        (
            "--quantization: vLLM 0.33.0 does not know 'gguf'; nearest valid: fp8, int8_per_channel_weight_only"
            " [QUANT_UNKNOWN]"
        ),
        place("vllm", quantization="fp8"),
    ),
    (
        place(quantization="gptqq"),
        "error",
        "--quantization: TGI 3.3.7 does not know 'gptqq'; nearest valid: gptq [QUANT_UNKNOWN]",
        place(model=quantized(LLAMA, GPTQ), quantization="gptq"),
    ),
    (
        place(model=GPT_OSS),
        "error",
        "--quantization: TGI 3.3.7 does not know the checkpoint's 'mxfp4'; nearest valid: fp8, eetq [QUANT_UNKNOWN]",
        place("vllm", model=GPT_OSS),
    ),
    (
        place("tensorrt-llm", quantization="fp6"),
        "warning",
        (
            "--quantization: 'fp6' is not among the formats known of TensorRT-LLM 1.2.1: fp8, nvfp4, awq, gptq, mxfp4"
            " [QUANT_UNKNOWN]"
        ),
        place("tensorrt-llm", quantization="fp8"),
    ),
    (
        place("vllm", quantization="fbgemm_fp8"),
        "error",
        "--quantization: vLLM 0.33.0 refuses fbgemm_fp8 as deprecated; nearest valid: fp8 [QUANT_DEPRECATED]",
        place("vllm", quantization="fp8"),
    ),
    (
        place(on="g4dn.xlarge", quantization="fp8"),
        "error",
        (
            "--quantization: fp8 in TGI 3.3.7 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5; or run on"
            " g6, g5, p4d, p5 [QUANT_CAPABILITY]"
        ),
        place(on="p5.48xlarge", quantization="fp8"),
    ),
    (
        place("vllm", quantization="fp8"),
        "warning",
        (
            "--quantization: vLLM 0.33.0 computes fp8 natively from compute capability 8.9, and the A10G of g5.xlarge"
            " is 8.6: there it only makes the weights smaller [QUANT_CAPABILITY]"
        ),
        place("vllm", on="g6.xlarge", quantization="fp8"),
    ),
    (
        place("vllm", on="g4dn.xlarge", model=GPT_OSS),
        "error",
        (
            "--quantization: mxfp4 in vLLM 0.33.0 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5; or"
            " run on g6, g5, p4d, p5 [QUANT_CAPABILITY]"
        ),
        place("vllm", model=GPT_OSS),
    ),
    (
        place(on="g4dn.xlarge", model=quantized(LLAMA, CheckpointQuantization("marlin", 4.16, 128))),
        "error",
        (
            "--quantization: marlin in TGI 3.3.7 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5; or run"
            " on g6, g5, p4d, p5 [QUANT_CAPABILITY]"
        ),
        place(model=quantized(LLAMA, CheckpointQuantization("marlin", 4.16, 128))),
    ),
    (
        place("vllm", model=quantized(LLAMA, CheckpointQuantization("modelopt_fp4", 4.5))),
        "warning",
        (
            "--quantization: vLLM 0.33.0 computes modelopt_fp4 natively from compute capability 10.0, and the A10G of"
            " g5.xlarge is 8.6: there it only makes the weights smaller [QUANT_CAPABILITY]"
        ),
        place("vllm", on="p6-b200.48xlarge", model=quantized(LLAMA, CheckpointQuantization("modelopt_fp4", 4.5))),
    ),
    (
        place("tensorrt-llm", on="p4d.24xlarge", quantization="fp8"),
        "warning",
        (
            "--quantization: TensorRT-LLM 1.2.1 computes fp8 natively from compute capability 8.9, and the A100 of"
            " p4d.24xlarge is 8.0: there it only makes the weights smaller [QUANT_CAPABILITY]"
        ),
        place("tensorrt-llm", on="p5.48xlarge", quantization="fp8"),
    ),
    (
        place("vllm", model=quantized(LLAMA, AWQ), quantization="gptq"),
        "error",
        (
            "--quantization: gptq is not what models/llama is quantized as, awq; leave it out to take the checkpoint's"
            " own [QUANT_CONFLICT]"
        ),
        place("vllm", model=quantized(LLAMA, AWQ), quantization="awq_marlin"),
    ),
    (
        place(model=quantized(LLAMA, AWQ), quantization="fp8"),
        "error",
        (
            "--quantization: fp8 is not what models/llama is quantized as, awq; leave it out to take the checkpoint's"
            " own [QUANT_CONFLICT]"
        ),
        place(model=quantized(LLAMA, AWQ), quantization="gptq"),
    ),
    (
        place(quantization="awq"),
        "error",
        (
            "--quantization: awq needs a checkpoint that is quantized as awq or gptq, and models/llama is not;"
            " quantized while loading: fp8, eetq [QUANT_CHECKPOINT]"
        ),
        place(model=quantized(LLAMA, AWQ), quantization="awq"),
    ),
    (
        place("vllm", quantization="gptq"),
        "error",
        (
            "--quantization: gptq needs a checkpoint that is quantized as gptq, and models/llama is not; quantized"
            " while loading: fp8, int8_per_channel_weight_only [QUANT_CHECKPOINT]"
        ),
        place("vllm", quantization="fp8"),
    ),
    (
        place("vllm", model=CATALOG_MODEL, quantization="awq"),
        "warning",
        (
            "--quantization: awq needs a checkpoint that is quantized as awq, and the catalog's Llama-3.1-8B is not;"
            " quantized while loading: fp8, int8_per_channel_weight_only [QUANT_CHECKPOINT]"
        ),
        place("vllm", model=quantized(CATALOG_MODEL, AWQ)),
    ),
    (
        place("tensorrt-llm", quantization="awq"),
        "warning",
        (
            "--quantization: awq needs a checkpoint that is quantized as awq or modelopt, and models/llama is not"
            " [QUANT_CHECKPOINT]"
        ),
        place("tensorrt-llm", model=quantized(LLAMA, AWQ)),
    ),
    (
        place(quantization="fp8", dtype="bfloat16"),
        "error",
        "--dtype: TGI 3.3.7 takes no dtype bfloat16 beside fp8; leave it out [QUANT_DTYPE]",
        place(quantization="bitsandbytes", dtype="bfloat16"),
    ),
    (
        place(model=quantized(LLAMA, AWQ), dtype="float16"),
        "error",
        "--dtype: TGI 3.3.7 takes no dtype float16 beside the checkpoint's awq; leave it out [QUANT_DTYPE]",
        place("vllm", model=quantized(LLAMA, AWQ), dtype="float16"),
    ),
    (
        place(on="p5.48xlarge", gpus=2, model=quantized(LLAMA, EXL2)),
        "error",
        "--tp: TGI cannot split exl2 over 2 GPUs; nearest valid: 1 [QUANT_SHARDED]",
        place(model=quantized(LLAMA, EXL2)),
    ),
    (
        place(model=MIXTRAL, quantization="eetq"),
        "error",
        (
            "--quantization: TGI runs mixtures of experts unquantized or as awq, fp8, gptq, and mixtral with eetq is"
            " none of these [QUANT_EXPERTS]"
        ),
        place(model=MIXTRAL, quantization="fp8"),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=legality_samples.rule_name)
def test_rule(rule: Rule) -> None:
    legality_samples.assert_rule(quantized_weights.check, rule)


def test_every_rule_has_a_case() -> None:
    assert legality_samples.codes(RULES) == {check.code for check in quantized_weights.CHECKS}
