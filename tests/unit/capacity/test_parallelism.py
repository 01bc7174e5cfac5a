"""Into how many GPUs a model may be split: for each rule a placement that breaks it and one that doesn't."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving.capacity import parallelism
from llm_serving.capacity.model_shape import Experts, ModelShape
from llm_serving.capacity.placement import Placement
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import (
    DEEPSEEK,
    FALCON,
    INSTANCES,
    LLAMA,
    MIXTRAL,
    QWEN3_MOE,
    RUNTIMES,
    Rule,
    place,
)

WIDE = replace(LLAMA, heads=48, kv_heads=3, intermediate=14400)


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


RULES: list[Rule] = [
    (
        place(on="g5.12xlarge", gpus=3),
        "error",
        (
            "--tp: 32 heads do not divide by 3; valid: 1, 2, 4, 8; A10G types with such a count: g5.xlarge (1),"
            " g5.12xlarge (4), g5.48xlarge (8) [TP_HEADS]"
        ),
        place(on="g5.12xlarge", gpus=4),
    ),
    (
        place(model=FALCON, on="g5.12xlarge", gpus=2),
        "error",
        "--tp: 71 heads do not divide by 2; valid: 1, 71; A10G types with such a count: g5.xlarge (1) [TP_HEADS]",
        place(model=FALCON),
    ),
    (
        place("vllm", on="p5.48xlarge", gpus=8, model=replace(LLAMA, heads=36, kv_heads=4)),
        "error",
        "--tp: 36 heads do not divide by 8; valid: 1, 2, 4 [TP_HEADS]",
        place("vllm", on="p5.48xlarge", gpus=4, model=replace(LLAMA, heads=36, kv_heads=4)),
    ),
    (
        place("tensorrt-llm", on="p5.48xlarge", gpus=8, model=replace(LLAMA, heads=36)),
        "error",
        "--tp: 36 heads do not divide by 8; valid: 1, 2, 3, 4, 6, 9, 12, 18, 36 [TP_HEADS]",
        place("tensorrt-llm", on="p5.48xlarge", gpus=8),
    ),
    (
        place(on="p5.48xlarge", gpus=8, model=QWEN3_MOE),
        "error",
        "--tp: 4 key-value heads do not divide by 8; valid: 1, 2, 4 [TP_KV_HEADS]",
        place(on="p5.48xlarge", gpus=4, model=QWEN3_MOE),
    ),
    (
        place(on="p5.48xlarge", gpus=8, model=replace(LLAMA, kv_heads=1)),
        "error",
        "--tp: 1 key-value heads do not divide by 8; valid: 1 [TP_KV_HEADS]",
        place(on="p5.48xlarge", gpus=8, model=replace(LLAMA, family="gpt_bigcode", kv_heads=1)),
    ),
    (
        place("vllm", on="p5.48xlarge", gpus=8, model=WIDE),
        "error",
        "--tp: 3 key-value heads do not divide by 8; valid: 1, 3, 6, 12, 24, 48 [TP_KV_HEADS]",
        place("vllm", on="p5.48xlarge", gpus=8, model=replace(WIDE, kv_heads=4)),
    ),
    (
        place("tensorrt-llm", on="p5.48xlarge", gpus=8, model=WIDE),
        "warning",
        (
            "--tp: 3 key-value heads do not divide by 8; valid: 1, 2, 3, 4, 6, 8, 12, 16, 24, 48; H100 types with such"
            " a count: p5.48xlarge (8); how TensorRT-LLM 1.2.1 splits them was not read in its source [TP_KV_HEADS]"
        ),
        place("tensorrt-llm", on="p5.48xlarge", gpus=8, model=replace(WIDE, kv_heads=4)),
    ),
    (
        place(on="p5.48xlarge", gpus=8, model=replace(LLAMA, intermediate=11004)),
        "error",
        "--tp: 11004 feed-forward columns do not divide by 8; valid: 1, 2, 4 [TP_WIDTH]",
        place(on="p5.48xlarge", gpus=8),
    ),
    (
        place("vllm", on="p5.48xlarge", gpus=8, model=replace(MIXTRAL, experts=Experts(8, 2, 1412))),
        "error",
        "--tp: 1412 columns of an expert do not divide by 8; valid: 1, 2, 4 [TP_WIDTH]",
        place("vllm", on="p5.48xlarge", gpus=8, model=MIXTRAL),
    ),
    (
        place("vllm", on="p5.48xlarge", gpus=8, model=replace(DEEPSEEK, intermediate=18436)),
        "error",
        "--tp: 18436 feed-forward columns do not divide by 8; valid: 1, 2, 4 [TP_WIDTH]",
        place("vllm", on="p5.48xlarge", gpus=8, model=DEEPSEEK),
    ),
    (
        place("vllm", on="p5.48xlarge", gpus=8, model=replace(QWEN3_MOE, experts=Experts(4, 2, 768))),
        "error",
        "--tp: 8 GPUs are more than the 4 experts; valid: 1, 2, 4 [TP_EXPERTS]",
        place("vllm", on="p5.48xlarge", gpus=8, model=QWEN3_MOE),
    ),
    (
        place(on="g5.12xlarge", gpus=8),
        "error",
        (
            "--tp: 8 GPUs are more than the 4 A10G of g5.12xlarge; nearest valid: 4; A10G types with enough:"
            " g5.48xlarge [TP_GPUS]"
        ),
        place(on="g5.48xlarge", gpus=8),
    ),
    (
        place(gpus=0),
        "error",
        "--tp: 0 GPUs is fewer than 1; nearest valid: 1 [TP_GPUS]",
        place(),
    ),
    (
        place(on="g6f.xlarge"),
        "warning",
        (
            "--instance: g6f.xlarge has a fraction of one L4, and a replica asks for 1; with whole ones: g6.xlarge,"
            " g6.12xlarge [TP_FRACTION]"
        ),
        place(on="g6.xlarge"),
    ),
    (
        place(on="g6f.xlarge", gpus=2),
        "error",
        (
            "--instance: g6f.xlarge has a fraction of one L4, and a replica asks for 2; with whole ones: g6.12xlarge"
            " [TP_FRACTION]"
        ),
        place(on="g6.12xlarge", gpus=2),
    ),
    (
        place(on="p5.48xlarge", gpus=3, model=WIDE),
        "warning",
        (
            "--tp: replicas of 3 GPUs leave 2 of the 8 H100 of p5.48xlarge unused; evenly used by: 1, 2, 4, 8"
            " [TP_STRANDED]"
        ),
        place(on="p5.48xlarge", gpus=4, model=WIDE),
    ),
    (
        place(on="g5.12xlarge", gpus=4),
        "warning",
        (
            "--tp: the 4 A10G of a replica on g5.12xlarge are joined by PCIe, which slows every token; NVLink: p4d, p5,"
            " p6-b200 [TP_PCIE]"
        ),
        place(on="p5.48xlarge", gpus=4),
    ),
    (
        place(nodes=2),
        "error",
        (
            "--nodes: TGI 3.3.7 cannot spread a replica over 2 nodes here; nearest valid: 1 node, or runtime: vllm"
            " [PP_RUNTIME]"
        ),
        place("vllm", nodes=2),
    ),
    (
        place("tensorrt-llm", nodes=2),
        "error",
        (
            "--nodes: TensorRT-LLM 1.2.1 cannot spread a replica over 2 nodes here; nearest valid: 1 node, or runtime:"
            " vllm [PP_RUNTIME]"
        ),
        place("vllm", nodes=2),
    ),
    (
        place("vllm", nodes=33),
        "error",
        "--nodes: 33 nodes are more than the 32 layers; nearest valid: 32 [PP_LAYERS]",
        place("vllm", nodes=32),
    ),
    (
        place("vllm", nodes=0),
        "error",
        "--nodes: 0 nodes is fewer than 1; nearest valid: 1 [PP_LAYERS]",
        place("vllm"),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=legality_samples.rule_name)
def test_rule(rule: Rule) -> None:
    legality_samples.assert_rule(parallelism.check, rule)


def test_every_rule_has_a_case() -> None:
    assert legality_samples.codes(RULES) == {check.code for check in parallelism.CHECKS}


@st.composite
def shapes(draw: st.DrawFn) -> ModelShape:
    kv_heads = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 16]))
    experts = draw(
        st.none() | st.builds(Experts, st.integers(2, 130), st.just(2), st.integers(1, 40).map(lambda n: 64 * n))
    )
    return replace(
        LLAMA,
        family=draw(st.sampled_from(["llama", "qwen2", "falcon", "qwen3_moe", "mixtral"])),
        kv_heads=kv_heads,
        heads=kv_heads * draw(st.integers(1, 12)),
        intermediate=draw(st.integers(1, 300).map(lambda n: 32 * n)),
        experts=experts,
    )


@given(shapes(), st.sampled_from(["tgi", "vllm", "tensorrt-llm"]), st.integers(1, 8))
def test_legal_sizes_are_those_that_nothing_is_said_against(model: ModelShape, runtime: str, gpus: int) -> None:
    sizes = parallelism.legal_sizes(model, runtime, 8)
    placement = Placement(model, RUNTIMES[runtime], INSTANCES["p5.48xlarge"], gpus)
    wrong = [finding for finding in parallelism.check(placement) if finding.severity == "error"]
    assert sizes[0] == 1
    assert (gpus in sizes) == (not wrong), wrong


@given(shapes(), st.sampled_from(["tgi", "vllm"]), st.integers(2, 16))
def test_what_is_named_as_valid_is_legal(model: ModelShape, runtime: str, gpus: int) -> None:
    placement = Placement(model, RUNTIMES[runtime], INSTANCES["p5.48xlarge"], gpus)
    legal = {str(size) for size in parallelism.legal_sizes(model, runtime, model.heads)}
    splits = {"TP_HEADS", "TP_KV_HEADS", "TP_WIDTH", "TP_EXPERTS"}
    for finding in parallelism.check(placement):
        if finding.code in splits:
            assert set(finding.alternatives) == legal
            named = re.search(r"valid: (\d+(?:, \d+)*)", finding.message)
            assert named is not None
            assert set(named[1].split(", ")) == legal


def test_sizes_of_known_models() -> None:
    assert parallelism.legal_sizes(LLAMA, "tgi", 64) == [1, 2, 4, 8]
    assert parallelism.legal_sizes(LLAMA, "vllm", 64) == [1, 2, 4, 8, 16, 32]
    assert parallelism.legal_sizes(QWEN3_MOE, "tgi", 8) == [1, 2, 4]
    assert parallelism.legal_sizes(QWEN3_MOE, "vllm", 8) == [1, 2, 4, 8]
    assert parallelism.legal_sizes(DEEPSEEK, "vllm", 16) == [1, 2, 4, 8, 16]
    assert parallelism.legal_sizes(FALCON, "tgi", 8) == [1]
