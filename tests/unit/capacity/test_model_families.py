"""Families whose config.json means something of its own: the right size, or a refusal that says why.

Numbers of weights are counted by hand, and compared with what transformers 5.17 builds of the same config.
"""

from typing import Any, cast

import pytest

from llm_serving.capacity import kv_cache, weights
from llm_serving.capacity.model_config import ModelConfigError, parse

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def config(family: str, *sizes: int, **more: Any) -> dict[str, Any]:
    return {"model_type": family, **dict(zip(SIZES, sizes, strict=True)), "max_position_embeddings": 8192, **more}


def family(value: Any) -> str:
    """What pytest calls a parameter."""
    return str(cast("dict[str, Any]", value)["model_type"]) if isinstance(value, dict) else ""


LLAMA = config("llama", 4096, 14336, 32, 32, 128256, num_key_value_heads=8)
FALCON_7B = {
    **config("falcon", 4544, 4 * 4544, 32, 71, 65024),
    "multi_query": True,
    "new_decoder_architecture": False,
    "num_kv_heads": 71,
}
FALCON_40B = {
    **config("falcon", 8192, 4 * 8192, 60, 128, 65024),
    "multi_query": True,
    "new_decoder_architecture": True,
    "num_kv_heads": 8,
}


def cached(given: Any) -> float:
    """Bytes of a token in 16 bits."""
    return kv_cache.bytes_per_token(parse(given, "m"), 1, 2)


def counted(given: Any) -> int:
    return weights.parameters(parse(given, "m")).total


def refused(given: Any) -> str:
    with pytest.raises(ModelConfigError) as caught:
        parse(given, "m")
    return str(caught.value)


def test_falcon_has_one_key_value_head_whatever_the_key_says() -> None:
    # two vectors of 64 for each of 32 layers; 71 times as much with a head for each query head
    assert cached(FALCON_7B) == 2 * 32 * 64 * 2 == 8192
    assert cached({key: value for key, value in FALCON_7B.items() if key != "multi_query"}) == 8192
    assert cached({**FALCON_7B, "multi_query": False}) == 71 * 8192
    # queries, keys and values; what leaves the attention; both matrices of the feed-forward part; two norms
    layer = 4544 * (71 + 2) * 64 + 4544 * 4544 + 2 * 4544 * 4 * 4544 + 2 * 4544
    assert counted(FALCON_7B) == 32 * layer + 65024 * 4544 + 4544 == 6_921_716_160
    assert counted(FALCON_7B) == pytest.approx(6_921_720_704, rel=1e-5)


def test_falcon_40b_has_the_heads_that_its_key_says() -> None:
    assert cached(FALCON_40B) == 2 * 60 * 8 * 64 * 2


UNTIED = {"tie_word_embeddings": False}


@pytest.mark.parametrize(
    ("given", "built"),
    [
        (config("apertus", 4096, 14336, 32, 32, 131072, num_key_value_heads=32, **UNTIED), 6_979_596_352),
        (config("arcee", 2560, 18432, 32, 32, 32000, num_key_value_heads=32, head_dim=80, **UNTIED), 4_022_766_080),
        (
            config("jais2", 3328, 26624, 32, 26, 150272, num_key_value_heads=26, attention_bias=True, **UNTIED),
            8_090_401_280,
        ),
        (config("nanochat", 768, 8192, 12, 6, 50304, num_key_value_heads=6, **UNTIED), 256_573_440),
        (config("persimmon", 4096, 16384, 36, 64, 262144, **UNTIED), 9_397_175_296),
    ],
    ids=family,
)
def test_families_without_a_gate(given: dict[str, Any], built: int) -> None:
    hidden, layers = given["hidden_size"], given["num_hidden_layers"]
    layer = 4 * hidden * hidden + 2 * hidden * given["intermediate_size"] + 2 * hidden
    ends = 2 * given["vocab_size"] * hidden + hidden

    assert counted(given) == pytest.approx(layers * layer + ends, rel=1e-3)
    assert counted(given) == pytest.approx(built, rel=1e-3)


ONE_DENSE = ["dense"] + ["sparse"] * 100
GLM = config(
    "glm4_moe_lite", 2048, 10240, 47, 20, 154880,
    moe_intermediate_size=1536, n_routed_experts=64, n_shared_experts=1, num_experts_per_tok=4, kv_lora_rank=512,
    q_lora_rank=768, qk_rope_head_dim=64, qk_nope_head_dim=192, v_head_dim=256, mlp_layer_types=ONE_DENSE[:47],
)  # fmt: skip
HUNYUAN = config(
    "hy_v3", 4096, 13312, 80, 64, 120832,
    num_key_value_heads=8, head_dim=128, moe_intermediate_size=1536, num_experts=192, num_shared_experts=1,
    num_experts_per_tok=8, mlp_layer_types=ONE_DENSE[:80],
)  # fmt: skip
LAGUNA = config(
    "laguna", 2048, 8192, 40, 48, 100352,
    num_key_value_heads=8, head_dim=128, moe_intermediate_size=512, num_experts=256, num_experts_per_tok=8,
    shared_expert_intermediate_size=512, mlp_layer_types=ONE_DENSE[:40],
)  # fmt: skip
AFMOE = config(
    "afmoe", 2048, 6144, 32, 16, 200192,
    num_key_value_heads=16, head_dim=128, moe_intermediate_size=1408, num_experts=64, num_shared_experts=2,
    num_experts_per_tok=6, num_dense_layers=1,
)  # fmt: skip
ERNIE = config(
    "ernie4_5_moe", 2560, 12288, 28, 20, 103424,
    num_key_value_heads=4, moe_intermediate_size=1536, moe_k=6, moe_num_experts=64, moe_num_shared_experts=2,
    moe_layer_start_index=1, moe_layer_end_index=27, moe_layer_interval=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "dense", "shared", "built"),
    [
        (GLM, 1, 1, 29_943_390_976),
        (HUNYUAN, 1, 1, 295_033_528_320),
        (LAGUNA, 1, 1, 33_189_975_808),
        (AFMOE, 1, 2, 19_232_600_000),
        (ERNIE, 1, 2, 21_825_437_888),  # ERNIE-4.5-21B-A3B
    ],
    ids=family,
)
def test_dense_layers_and_shared_experts(given: dict[str, Any], dense: int, shared: int, built: int) -> None:
    experts = parse(given, "m").experts

    assert experts is not None
    assert (experts.dense_layers, experts.shared) == (dense, shared)
    assert counted(given) == pytest.approx(built, rel=0.01)


def test_ernie_counted_by_hand() -> None:
    attention = 2 * 2560 * 2560 + 2 * 2560 * 512 + 2 * 2560
    experts = 27 * ((64 + 2) * 3 * 2560 * 1536 + 2560 * 64)

    assert counted(ERNIE) == 28 * attention + experts + 3 * 2560 * 12288 + 103424 * 2560 + 2560


@pytest.mark.parametrize(
    ("changes", "dense"),
    [
        ({"moe_layer_end_index": -1}, 1),
        ({"moe_layer_end_index": 19}, 1 + 8),
        ({"moe_layer_start_index": 3, "moe_layer_interval": 2}, 14 + 1),  # those of even numbers, and 1
        ({"moe_layer_start_index": 0, "moe_layer_end_index": -1}, 0),
    ],
)
def test_ernies_layers_of_experts(changes: dict[str, int], dense: int) -> None:
    experts = parse({**ERNIE, **changes}, "m").experts

    assert experts is not None
    assert experts.dense_layers == dense


def test_layers_by_name_come_before_counts() -> None:
    experts = parse({**GLM, "first_k_dense_replace": 40, "mlp_layer_types": ["dense", "dense", "sparse"]}, "m").experts

    assert experts is not None
    assert experts.dense_layers == 2
    assert "mlp_layer_types: [1] is not a list of texts" in refused({**GLM, "mlp_layer_types": [1]})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # as transformers 5 writes gemma4's heads of two sizes
        ({"per_layer_config": {"05": {"head_dim": 512}}}, "(per_layer_config)"),
        ({"hidden_size_per_layer_input": 256}, "(hidden_size_per_layer_input)"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "(layer_types: linear_attention)"),
        ({"layer_types": ["conv", "mamba"]}, "(layer_types: conv, layer_types: mamba)"),
        ({"layer_types": "full_attention"}, 'layer_types: "full_attention" is not a list of texts'),
        ({"attn_type_list": [0, 1]}, "(attn_type_list: 0)"),
        ({"cross_attention_layers": [3, 8]}, "(cross_attention_layers)"),
        ({"conv_L_cache": 3, "full_attn_idxs": [2]}, "(conv_L_cache, full_attn_idxs)"),
        ({"index_topk": 2048}, "(index_topk)"),
        ({"v_head_dim": 64}, "v_head_dim: 64 is not the head size of 128, and the memory of keys and values of two"),
        ({"model_type": "jetmoe"}, "jetmoe cannot be sized: each layer's attention is a mixture of experts too"),
        ({"model_type": "hrm_text"}, "hrm_text cannot be sized: it runs its layers more than once"),
        ({"model_type": "roberta", "architectures": ["RobertaForCausalLM"]}, "model_type is roberta"),
    ],
)
def test_what_one_shape_cannot_tell_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert reason in refused({**LLAMA, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_types": ["full_attention", "sliding_attention", "chunked_attention"]},
        {"hidden_size_per_layer_input": 0},
        {"per_layer_config": None},
        {"v_head_dim": 128},
        {"attn_type_list": [1, 1]},
    ],
)
def test_keys_that_change_nothing(changes: dict[str, Any]) -> None:
    assert parse({**LLAMA, **changes}, "m") == parse(LLAMA, "m")


def test_a_sliding_window_of_zero_is_none() -> None:
    # as transformers 5 writes it for qwen2_moe
    assert parse({**LLAMA, "sliding_window": 0, "use_sliding_window": False}, "m") == parse(LLAMA, "m")
    assert parse({**LLAMA, "sliding_window": 0}, "m").sliding_window is None


def test_parts_beside_the_language_model() -> None:
    outer = {"model_type": "gemma3", "text_config": LLAMA, "vision_config": {"hidden_size": 1152}, "audio_config": None}

    assert parse(outer, "m").other_parts == ("vision_config",)
    assert parse({**LLAMA, "audio_config": {}, "speech_lora": {}}, "m").other_parts == ("audio_config", "speech_lora")
    assert parse(LLAMA, "m").other_parts == ()
