"""Numbers of weights, bytes of weights and bytes of cached tokens against those of public configs and model cards."""

from dataclasses import replace

import pytest

from llm_serving.capacity import catalog, kv_cache, weights
from llm_serving.capacity.model_shape import CheckpointQuantization, ModelShape
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.quantization import compute_bytes, is_size_unknown, kv_cache_bytes

GIB = 1 << 30

# Model, 10^9 weights, GiB in bf16, fp8 and 4 bits (groups of 128), KiB of cache for a token.
TABLE = [
    ("Llama-3.1-8B", 8.03, 15.0, 8.5, 5.3, 128),
    ("Llama-3.1-70B", 70.55, 131.4, 67.7, 37.0, 320),
    ("Llama-3.1-405B", 405.85, 756.0, 381.9, 202.2, 504),
    ("Mistral-7B-v0.3", 7.25, 13.5, 7.0, 3.9, 128),
    ("Mixtral-8x7B", 46.70, 87.0, 43.7, 23.0, 128),
    ("Qwen2.5-72B", 72.71, 135.4, 70.0, 38.6, 320),
    ("Qwen3-8B", 8.19, 15.3, 8.8, 5.7, 144),
    ("Qwen3-32B", 32.76, 61.0, 32.0, 18.0, 256),
    ("Qwen3-30B-A3B", 30.53, 56.9, 29.0, 15.6, 96),
    ("Qwen3-235B-A22B", 235.09, 437.9, 220.1, 115.5, 188),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_models(row: tuple[str, float, float, float, float, int]) -> None:
    name, billions, bf16, fp8, four_bits, kib = row
    shape = catalog.model(name)

    assert weights.parameters(shape).total / 1e9 == pytest.approx(billions, rel=0.01)
    assert weights.weight_bytes(shape) / GIB == pytest.approx(bf16, rel=0.02)
    assert weights.weight_bytes(shape, "fp8") / GIB == pytest.approx(fp8, rel=0.02)
    assert weights.weight_bytes(shape, "awq") / GIB == pytest.approx(four_bits, rel=0.02)
    assert kv_cache.bytes_per_token(shape, 1, 2) == kib * 1024
    assert kv_cache.bytes_per_token(shape, 1, kv_cache_bytes("fp8", None)) == kib * 512


@pytest.mark.parametrize(
    ("name", "billions", "gib", "kib"),
    [("gpt-oss-20b", 20.9, 12.8, 48), ("gpt-oss-120b", 116.8, 60.8, 72), ("DeepSeek-R1", 671, 625, 68.625)],
)
def test_quantized_checkpoints(name: str, billions: float, gib: float, kib: float) -> None:
    shape = catalog.model(name)
    computed = replace(shape, parameters=None, checkpoint_bytes=None)

    for each in (shape, computed):
        assert weights.parameters(each).total / 1e9 == pytest.approx(billions, rel=0.01)
        assert weights.weight_bytes(each) / GIB == pytest.approx(gib, rel=0.02)
    assert kv_cache.bytes_per_token(shape, 1, 2) == kib * 1024


@pytest.mark.parametrize(("name", "billions"), [("SmolLM2-135M", 0.1345), ("Qwen2.5-7B", 7.616), ("gemma-2-9b", 9.24)])
def test_other_families(name: str, billions: float) -> None:
    assert weights.parameters(catalog.model(name)).total / 1e9 == pytest.approx(billions, rel=0.01)


def test_two_matrices_where_there_is_no_gate() -> None:
    shape = replace(catalog.model("Llama-3.1-8B"), family="starcoder2")

    gate = shape.layers * shape.hidden * shape.intermediate
    assert weights.parameters(catalog.model("Llama-3.1-8B")).total - weights.parameters(shape).total == gate


def test_the_output_layer_and_the_embedding_stay_in_16_bits() -> None:
    shape = catalog.model("Llama-3.1-8B")

    ends = 2 * 128256 * 4096
    assert weights.parameters(shape).embedding == ends
    assert weights.weight_bytes(shape, "fp8") == weights.parameters(shape).layers + 2 * ends
    assert weights.parameters(replace(shape, tied_embeddings=True)).embedding == ends / 2


def test_dtypes() -> None:
    shape = replace(catalog.model("Llama-3.1-8B"), dtype="float32")

    assert weights.weight_bytes(shape) == 2 * weights.parameters(shape).total
    assert weights.weight_bytes(shape, dtype="float32") == 4 * weights.parameters(shape).total
    assert weights.weight_bytes(shape, dtype="half") == weights.weight_bytes(shape, dtype="auto")


def quantized(method: str, bits: float) -> ModelShape:
    return replace(catalog.model("Llama-3.1-8B"), quantization=CheckpointQuantization(method, bits))


@pytest.mark.parametrize(
    ("own", "bits", "asked", "counted"),
    [
        ("awq", 4.5, None, 4.5),
        ("awq", 4.5, "awq_marlin", 4.5),  # another kernel for the same format
        ("gptq", 8.1, "gptq", 8.1),
        ("compressed-tensors", 8.0, "compressed-tensors", 8.0),
        ("fp8", 8.0, "bitsandbytes-nf4", 4.5),
        ("exl2", 3.5, "exl2", 3.5),
    ],
)
def test_a_checkpoints_own_bits_count(own: str, bits: float, asked: str | None, counted: float) -> None:
    shape = quantized(own, bits)

    counts = weights.parameters(shape)
    assert weights.weight_bytes(shape, asked) == pytest.approx(counts.layers * counted / 8 + counts.embedding * 2)
    assert not is_size_unknown(shape, asked)


def test_unknown_bits_count_as_16() -> None:
    plain = catalog.model("Llama-3.1-8B")

    for shape, method in ((plain, "exl2"), (plain, "no-such-method"), (quantized("quark", 16), None)):
        assert weights.weight_bytes(shape, method) == weights.weight_bytes(plain)
        assert is_size_unknown(shape, method)
    assert not is_size_unknown(plain, None)


def test_only_experts_have_mxfp4() -> None:
    shape = replace(catalog.model("gpt-oss-20b"), checkpoint_bytes=None, parameters=None)

    counts = weights.parameters(shape)
    assert counts.experts == 24 * 32 * 3 * 2880 * 2880
    assert weights.weight_bytes(shape) == counts.experts * 4.25 / 8 + (counts.total - counts.experts) * 2


def test_tensor_parallel_splits_weights_and_heads() -> None:
    shape = catalog.model("Llama-3.1-70B")

    assert weights.per_gpu_bytes(shape, 4) == weights.weight_bytes(shape) / 4
    assert kv_cache.bytes_per_token(shape, 4, 2) == 80 * 1024
    assert kv_cache.bytes_per_token(shape, 16, 2) == kv_cache.bytes_per_token(shape, 8, 2)  # heads are replicated


def test_a_compressed_cache_is_not_split() -> None:
    shape = catalog.model("DeepSeek-R1")

    assert kv_cache.bytes_per_token(shape, 8, 2) == kv_cache.bytes_per_token(shape, 1, 2) == 61 * (512 + 64) * 2


def test_pipeline_parallel_deals_whole_layers() -> None:
    shape = catalog.model("Llama-3.1-405B")

    end = 2 * shape.vocabulary * shape.hidden
    layers = weights.weight_bytes(shape) - 2 * end
    assert weights.per_gpu_bytes(shape, 8, 4) == (layers * 32 / 126 + end) / 8
    assert kv_cache.bytes_per_token(shape, 8, 2, 4) == 2 * 32 * 128 * 2


def test_types_of_the_cache() -> None:
    assert [
        kv_cache_bytes(name, None) for name in (None, "auto", "fp8_e5m2", "FP8", "nvfp4", "int4_per_token_head")
    ] == [
        *(2, 2, 1, 1, 0.5625, 0.5),
    ]
    assert kv_cache_bytes(None, "float32") == compute_bytes("float32") == 4
    assert kv_cache_bytes("no-such-type", None) == 2


def test_a_placement_says_what_a_token_takes() -> None:
    instance = catalog.instance("g6e.12xlarge")
    placement = Placement(catalog.model("Llama-3.1-70B"), catalog.runtime("vllm"), instance, 4, kv_cache_dtype="fp8")

    assert kv_cache.placement_bytes_per_token(placement) == 40 * 1024
    assert kv_cache.placement_bytes_per_token(replace(placement, nodes=2)) == 20 * 1024
