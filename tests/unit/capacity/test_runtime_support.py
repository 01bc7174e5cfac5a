"""Runtimes against GPUs and model families: for each rule a placement that breaks it and one that doesn't."""

from dataclasses import replace

import pytest

from llm_serving.capacity import runtime_support
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import GPT_OSS, LLAMA, QWEN3, RUNTIMES, Rule, place

HOPPER_ONLY = replace(RUNTIMES["vllm"], capabilities=((9, 0),))


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


RULES: list[Rule] = [
    (
        place(model=GPT_OSS),
        "error",
        (
            "--runtime: TGI 3.3.7 does not know gpt_oss, the family of gpt-oss-20b: neither it nor its transformers"
            " 4.51.0 has it; nearest valid: vllm [RUNTIME_MODEL]"
        ),
        place("vllm", model=GPT_OSS),
    ),
    (
        place(model=QWEN3),
        "warning",
        (
            "--runtime: TGI 3.3.7 has no code of its own for qwen3 and runs qwen3-32b through transformers, slower;"
            " vllm has its own [RUNTIME_MODEL]"
        ),
        place("vllm", model=QWEN3),
    ),
    (
        place(on="p5.48xlarge", gpus=8, model=replace(LLAMA, family="stablelm")),
        "error",
        "--runtime: TGI 3.3.7 cannot split stablelm over 8 GPUs; nearest valid: 1 GPU, or vllm [RUNTIME_SHARDED]",
        place(model=replace(LLAMA, family="stablelm")),
    ),
    (
        place(model=QWEN3, quantization="awq"),
        "error",
        "--quantization: TGI 3.3.7 refuses awq for qwen3, which runs in transformers [RUNTIME_QUANTIZATION]",
        place("vllm", model=QWEN3, quantization="awq"),
    ),
    (
        place(model=QWEN3, quantization="fp8"),
        "warning",
        "--quantization: TGI 3.3.7 ignores fp8 for qwen3, which runs in transformers [RUNTIME_QUANTIZATION]",
        place(quantization="fp8"),
    ),
    (
        place(model=QWEN3, kv_cache_dtype="fp8_e5m2"),
        "warning",
        "--kv-cache-dtype: TGI 3.3.7 ignores fp8_e5m2 for qwen3, which runs in transformers [RUNTIME_QUANTIZATION]",
        place(kv_cache_dtype="fp8_e5m2"),
    ),
    (
        place("vllm", on="p3.2xlarge"),
        "error",
        (
            "--instance: vLLM 0.33.0 has no code for the V100 of p3.2xlarge (7.0); or run on g6, g5, p4d, p5"
            " [RUNTIME_GPU]"
        ),
        place("vllm", on="g4dn.xlarge"),
    ),
    (
        place(on="p3.2xlarge"),
        "error",
        ("--instance: TGI 3.3.7 has no code for the V100 of p3.2xlarge (7.0); or run on g6, g5, p4d, p5 [RUNTIME_GPU]"),
        place(on="g6.xlarge"),
    ),
    (
        place("tensorrt-llm", on="g4dn.xlarge"),
        "error",
        (
            "--instance: TensorRT-LLM 1.2.1 has no code for the T4 of g4dn.xlarge (7.5); or run on p4d, p5, p6-b200"
            " [RUNTIME_GPU]"
        ),
        place("tensorrt-llm", on="p5.48xlarge", gpus=8),
    ),
    (
        place("tensorrt-llm"),
        "warning",
        (
            "--instance: NVIDIA does not list the A10G of g5.xlarge (8.6) for TensorRT-LLM 1.2.1: it may run, but was"
            " not tested; or run on p4d, p5, p6-b200 [RUNTIME_GPU]"
        ),
        place("tensorrt-llm", on="p4d.24xlarge"),
    ),
    (
        place(on="p6-b200.48xlarge", gpus=8),
        "warning",
        (
            "--instance: TGI 3.3.7 has no machine code for the B200 of p6-b200.48xlarge (10.0) and compiles that of 9.0"
            " when it starts, which takes minutes and may fail; or run on g6, g5, p4d, p5 [RUNTIME_GPU]"
        ),
        place("vllm", on="p6-b200.48xlarge", gpus=8),
    ),
    (
        place(on="g4dn.xlarge"),
        "warning",
        (
            "--instance: TGI 3.3.7 is built for 8.0, 8.6, 9.0; on the T4 of g4dn.xlarge (7.5) it runs float16 with"
            " slower kernels; or run on g6, g5, p4d, p5 [RUNTIME_GPU]"
        ),
        place(),
    ),
    (
        replace(place("vllm", on="p6-b200.48xlarge"), runtime=HOPPER_ONLY),
        "error",
        "--instance: vLLM 0.33.0 has no code for the B200 of p6-b200.48xlarge (10.0); or run on p5 [RUNTIME_GPU]",
        replace(place("vllm", on="p5.48xlarge", gpus=8), runtime=HOPPER_ONLY),
    ),
    (
        place(on="g5g.xlarge"),
        "error",
        (
            "--instance: g5g.xlarge is arm64, and the image tgi:3.3.7 is built for x86_64 only; or run on g6, g5, p4d,"
            " p5 [RUNTIME_ARCHITECTURE]"
        ),
        place(on="g4dn.xlarge"),
    ),
    (
        place("vllm", on="g5g.xlarge"),
        "warning",
        (
            "--instance: g5g.xlarge is arm64, and the image vllm:v0.33.0 is not confirmed to be built for arm64; or run"
            " on g6, g5, p4d, p5 [RUNTIME_ARCHITECTURE]"
        ),
        place("vllm", on="g4dn.xlarge"),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=legality_samples.rule_name)
def test_rule(rule: Rule) -> None:
    legality_samples.assert_rule(runtime_support.check, rule)


def test_every_rule_has_a_case() -> None:
    assert legality_samples.codes(RULES) == {check.code for check in runtime_support.CHECKS}
