"""Number formats against GPUs and runtimes: for each rule a placement that breaks it and one that doesn't."""

from dataclasses import replace

import pytest

from llm_serving.capacity import precision
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import DEEPSEEK, GEMMA2, LLAMA, Rule, place


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


RULES: list[Rule] = [
    (
        place(dtype="bf16"),
        "error",
        "--dtype: TGI 3.3.7 knows no dtype 'bf16'; it knows float16, bfloat16 [DTYPE_UNKNOWN]",
        place(dtype="bfloat16"),
    ),
    (
        place(dtype="half"),
        "error",
        "--dtype: TGI 3.3.7 knows no dtype 'half'; it knows float16, bfloat16 [DTYPE_UNKNOWN]",
        place("vllm", dtype="half"),
    ),
    (
        place("vllm", on="g4dn.xlarge", dtype="bfloat16"),
        "error",
        (
            "--dtype: bfloat16 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5; use half; or run on g6,"
            " g5, p4d, p5 [DTYPE_CAPABILITY]"
        ),
        place("vllm", on="g4dn.xlarge", dtype="half"),
    ),
    (
        place(on="g4dn.xlarge", dtype="bfloat16"),
        "error",
        (
            "--dtype: bfloat16 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5; use float16; or run on"
            " g6, g5, p4d, p5 [DTYPE_CAPABILITY]"
        ),
        place(dtype="bfloat16"),
    ),
    (
        place("vllm", on="g4dn.xlarge"),
        "warning",
        (
            "--dtype: the checkpoint's bfloat16 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5: vLLM"
            " 0.33.0 turns it into float16; use half to accept that; or run on g6, g5, p4d, p5 [DTYPE_CAPABILITY]"
        ),
        place("vllm", on="g4dn.xlarge", model=replace(LLAMA, dtype="float16")),
    ),
    (
        place(on="g4dn.xlarge"),
        "warning",
        (
            "--dtype: the checkpoint's bfloat16 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5: TGI"
            " 3.3.7 turns it into float16; use float16 to accept that; or run on g6, g5, p4d, p5 [DTYPE_CAPABILITY]"
        ),
        place(on="g4dn.xlarge", dtype="float16"),
    ),
    (
        place(on="g4dn.xlarge", model=GEMMA2),
        "error",
        (
            "--dtype: TGI 3.3.7 runs gemma2 in bfloat16, which needs compute capability 8.0, and the T4 of g4dn.xlarge"
            " is 7.5; use float16; or run on g6, g5, p4d, p5 [DTYPE_CAPABILITY]"
        ),
        place(model=GEMMA2),
    ),
    (
        place("vllm", on="g4dn.xlarge", model=GEMMA2),
        "warning",
        (
            "--dtype: the checkpoint's bfloat16 needs compute capability 8.0, and the T4 of g4dn.xlarge is 7.5: vLLM"
            " 0.33.0 turns it into float32, with twice the memory; use float32 to accept that; or run on g6, g5, p4d,"
            " p5 [DTYPE_CAPABILITY]"
        ),
        place("vllm", on="g4dn.xlarge", model=GEMMA2, dtype="float32"),
    ),
    (
        place("vllm", model=GEMMA2, dtype="half"),
        "error",
        (
            "--dtype: vLLM 0.33.0 refuses gemma2 in half, where it is numerically unstable; nearest valid: bfloat16"
            " [DTYPE_MODEL]"
        ),
        place("vllm", dtype="half"),
    ),
    (
        place(kv_cache_dtype="fp8"),
        "error",
        (
            "--kv-cache-dtype: TGI 3.3.7 knows no key-value cache type 'fp8'; nearest valid: fp8_e5m2, fp8_e4m3fn"
            " [KV_DTYPE]"
        ),
        place(kv_cache_dtype="fp8_e5m2"),
    ),
    (
        place("vllm", kv_cache_dtype="fp8_e4m3fn"),
        "error",
        (
            "--kv-cache-dtype: vLLM 0.33.0 knows no key-value cache type 'fp8_e4m3fn'; nearest valid: fp8_e4m3,"
            " fp8_e5m2, fp8_inc [KV_DTYPE]"
        ),
        place("vllm", kv_cache_dtype="fp8_e4m3"),
    ),
    (
        place("tensorrt-llm", kv_cache_dtype="fp4"),
        "error",
        (
            "--kv-cache-dtype: TensorRT-LLM 1.2.1 knows no key-value cache type 'fp4'; nearest valid: nvfp4, fp8"
            " [KV_DTYPE]"
        ),
        place("tensorrt-llm", kv_cache_dtype="auto"),
    ),
    (
        place("vllm", on="g4dn.xlarge", kv_cache_dtype="fp8"),
        "error",
        (
            "--kv-cache-dtype: fp8 is native from compute capability 8.9, and the T4 of g4dn.xlarge is 7.5: vLLM 0.33.0"
            " refuses to start; nearest valid: float16; or run on g6, p5, p6-b200 [KV_DTYPE_CAPABILITY]"
        ),
        place("vllm", on="g4dn.xlarge", kv_cache_dtype="float16"),
    ),
    (
        place("vllm", on="g4dn.xlarge", kv_cache_dtype="bfloat16"),
        "error",
        (
            "--kv-cache-dtype: bfloat16 is native from compute capability 8.0, and the T4 of g4dn.xlarge is 7.5: vLLM"
            " 0.33.0 refuses to start; nearest valid: float16; or run on g6, g5, p4d, p5 [KV_DTYPE_CAPABILITY]"
        ),
        place("vllm", kv_cache_dtype="bfloat16"),
    ),
    (
        place("vllm", kv_cache_dtype="fp8"),
        "warning",
        (
            "--kv-cache-dtype: fp8 is native from compute capability 8.9, and the A10G of g5.xlarge is 8.6: it saves"
            " memory and may cost speed; or run on g6, p5, p6-b200 [KV_DTYPE_CAPABILITY]"
        ),
        place("vllm", on="g6.xlarge", kv_cache_dtype="fp8"),
    ),
    (
        place("vllm", kv_cache_dtype="nvfp4"),
        "warning",
        (
            "--kv-cache-dtype: nvfp4 is native from compute capability 10.0, and the A10G of g5.xlarge is 8.6: it saves"
            " memory and may cost speed; or run on p6-b200 [KV_DTYPE_CAPABILITY]"
        ),
        place("vllm", on="p6-b200.48xlarge", kv_cache_dtype="nvfp4"),
    ),
    (
        place(on="g4dn.xlarge", kv_cache_dtype="fp8_e5m2"),
        "warning",
        (
            "--kv-cache-dtype: fp8_e5m2 is native from compute capability 8.9, and the T4 of g4dn.xlarge is 7.5: it"
            " saves memory and may cost speed; or run on g6, p5, p6-b200 [KV_DTYPE_CAPABILITY]"
        ),
        place(on="g6.xlarge", kv_cache_dtype="fp8_e5m2"),
    ),
    (
        place(model=replace(LLAMA, head_dim=96), kv_cache_dtype="fp8_e5m2"),
        "error",
        (
            "--kv-cache-dtype: fp8_e5m2 is read by TGI's flashinfer and paged attention only, and models/llama is given"
            " flashdecoding; leave it out, or set ATTENTION=paged [KV_DTYPE_ATTENTION]"
        ),
        place(model=LLAMA, kv_cache_dtype="fp8_e5m2"),
    ),
    (
        place(on="p5.48xlarge", gpus=8, model=DEEPSEEK, kv_cache_dtype="fp8_e4m3fn"),
        "error",
        (
            "--kv-cache-dtype: fp8_e4m3fn is read by TGI's flashinfer and paged attention only, and deepseek is given"
            " flashdecoding; leave it out, or set ATTENTION=paged [KV_DTYPE_ATTENTION]"
        ),
        place(on="p5.48xlarge", gpus=8, model=DEEPSEEK),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=legality_samples.rule_name)
def test_rule(rule: Rule) -> None:
    legality_samples.assert_rule(precision.check, rule)


def test_every_rule_has_a_case() -> None:
    assert legality_samples.codes(RULES) == {check.code for check in precision.CHECKS}
