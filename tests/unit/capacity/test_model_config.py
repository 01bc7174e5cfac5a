"""Any config.json becomes a shape or one error that says all that is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving.capacity import catalog, kv_cache, weights
from llm_serving.capacity.model_config import ModelConfigError, parse, read, resolve
from llm_serving.capacity.model_shape import CheckpointQuantization, Experts, LatentAttention, ModelShape

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
QWEN_MOE: dict[str, Any] = {
    **LLAMA,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "vocab_size": 151936,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
DEEPSEEK: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    "v_head_dim": 128,
    "vocab_size": 129280,
}
GPT_OSS: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    "sliding_window": 128,
    "vocab_size": 201088,
}


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def error(config: Any) -> str:
    with pytest.raises(ModelConfigError) as caught:
        parse(config, "m")
    return str(caught.value)


def test_dense() -> None:
    assert parse(LLAMA, "m") == ModelShape(
        name="m",
        family="llama",
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=8,
        head_dim=128,
        intermediate=14336,
        vocabulary=128256,
        context=131072,
    )


def test_without_grouped_queries() -> None:
    assert parse(without(LLAMA, "num_key_value_heads"), "m").kv_heads == 32


def test_one_key_value_head_for_all() -> None:
    falcon = without(LLAMA, "num_key_value_heads", "intermediate_size") | {"model_type": "falcon", "multi_query": True}

    shape = parse(falcon, "m")

    assert (shape.kv_heads, shape.intermediate, shape.tied_embeddings) == (1, 4 * 4096, False)


def test_explicit_head_size() -> None:
    assert parse({**LLAMA, "head_dim": 256}, "m").head_dim == 256
    assert parse({**LLAMA, "hidden_size": 4000, "head_dim": 128}, "m").head_dim == 128


@pytest.mark.parametrize(
    ("config", "experts", "intermediate"),
    [
        (QWEN_MOE, Experts(count=128, per_token=8, intermediate=768), 6144),
        (
            {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2},
            Experts(count=8, per_token=2, intermediate=14336),
            14336,
        ),
        (DEEPSEEK, Experts(count=256, per_token=8, intermediate=2048, shared=1, dense_layers=3), 18432),
        ({**QWEN_MOE, "mlp_only_layers": [0, 5]}, Experts(128, 8, 768, dense_layers=2), 6144),
        ({**QWEN_MOE, "decoder_sparse_step": 2}, Experts(128, 8, 768, dense_layers=24), 6144),
        ({**QWEN_MOE, "moe_layer_freq": [0] * 5 + [1] * 43}, Experts(128, 8, 768, dense_layers=5), 6144),
        ({**QWEN_MOE, "shared_expert_intermediate_size": 1536}, Experts(128, 8, 768, shared=2), 6144),
        (
            {**QWEN_MOE, "model_type": "llama4_text", "intermediate_size_mlp": 16384},
            Experts(128, 8, 768, shared=1),
            16384,
        ),
        ({**LLAMA, "num_experts": 0}, None, 14336),
    ],
)
def test_experts(config: dict[str, Any], experts: Experts | None, intermediate: int) -> None:
    shape = parse(config, "m")

    assert (shape.experts, shape.intermediate) == (experts, intermediate)


def test_latent_attention() -> None:
    shape = parse(DEEPSEEK, "m")

    assert shape.latent_attention == LatentAttention(512, 64, 128, 128, 1536)
    assert shape.head_dim == 192
    assert parse({**DEEPSEEK, "q_lora_rank": None}, "m").latent_attention == LatentAttention(512, 64, 128, 128, None)


@pytest.mark.parametrize(
    ("config", "name"), [(LLAMA, "Llama-3.1-8B"), (QWEN_MOE, "Qwen3-30B-A3B"), (DEEPSEEK, "DeepSeek-R1")]
)
def test_a_config_has_the_size_of_its_model_in_the_catalog(config: dict[str, Any], name: str) -> None:
    shape, known = parse(config, name), catalog.model(name)

    assert weights.weight_bytes(shape) == weights.weight_bytes(known)
    assert kv_cache.bytes_per_token(shape, 2, 2) == kv_cache.bytes_per_token(known, 2, 2)


def test_the_size_of_gpt_oss() -> None:
    shape = parse(GPT_OSS, "m")

    assert shape.sliding_window == 128
    assert shape.quantization == CheckpointQuantization("mxfp4", 4.25, 32)
    assert weights.weight_bytes(shape) / (1 << 30) == pytest.approx(12.8, rel=0.02)


def test_sliding_window() -> None:
    assert parse({**LLAMA, "sliding_window": 4096}, "m").sliding_window == 4096
    assert parse({**LLAMA, "sliding_window": 4096, "use_sliding_window": False}, "m").sliding_window is None
    assert parse({**LLAMA, "sliding_window": None}, "m").sliding_window is None


@pytest.mark.parametrize(
    ("config", "read_as"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, CheckpointQuantization("awq", 4.15625, 128)),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, CheckpointQuantization("awq", 4.3125, 64)),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, CheckpointQuantization("gptq", 8.0)),
        ({"quant_method": "fp8"}, CheckpointQuantization("fp8", 8)),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            CheckpointQuantization("fp8", 8 + 32 / 16384, block=(128, 128)),
        ),
        ({"quant_method": "mxfp4"}, CheckpointQuantization("mxfp4", 4.25, 32)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, CheckpointQuantization("bitsandbytes", 8)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, CheckpointQuantization("bitsandbytes", 4.5)),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
            CheckpointQuantization("bitsandbytes", 4.13),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 4, "group_size": 32, "symmetric": True}},
                    "group_1": {"weights": {"num_bits": 8, "strategy": "channel"}},
                },
            },
            CheckpointQuantization("compressed-tensors", 8.0),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 128, "symmetric": False}}},
            },
            CheckpointQuantization("compressed-tensors", 4.15625, 128),
        ),
        ({"quant_method": "compressed-tensors"}, CheckpointQuantization("compressed-tensors", 16)),
        ({"quant_algo": "NVFP4"}, CheckpointQuantization("modelopt", 4.5)),
        ({"quant_method": "modelopt"}, CheckpointQuantization("modelopt", 16)),
        ({"quant_method": "quark"}, CheckpointQuantization("quark", 16)),
        ({"quant_method": "other", "bits": 3}, CheckpointQuantization("other", 3)),
    ],
)
def test_quantized_checkpoints(config: dict[str, Any], read_as: CheckpointQuantization) -> None:
    assert parse({**LLAMA, "quantization_config": config}, "m").quantization == read_as


def test_multimodal() -> None:
    outer = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": without(LLAMA, "architectures", "torch_dtype"),
        "vision_config": {"hidden_size": 1024, "model_type": "clip"},
        "quantization_config": {"quant_method": "fp8"},
        "dtype": "float16",
    }

    shape = parse(outer, "m")

    assert (shape.family, shape.hidden, shape.dtype) == ("llama", 4096, "float16")
    assert shape.quantization == CheckpointQuantization("fp8", 8)


def test_dtype_and_biases() -> None:
    assert parse({**LLAMA, "torch_dtype": "torch.float16"}, "m").dtype == "float16"
    assert parse({**without(LLAMA, "torch_dtype"), "dtype": "float32"}, "m").dtype == "float32"
    assert parse({**without(LLAMA, "attention_bias"), "model_type": "qwen2"}, "m").attention_bias
    assert parse({**without(LLAMA, "tie_word_embeddings"), "model_type": "gemma2"}, "m").tied_embeddings


def test_all_missing_keys_are_named_at_once() -> None:
    text = error({"architectures": ["LlamaForCausalLM"]})

    for key in (
        *("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"),
        "max_position_embeddings",
    ):
        assert f"{key}: missing" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "4096"}, 'hidden_size: "4096" is not a whole number'),
        ({"hidden_size": 4096.0}, "hidden_size: 4096.0 is not a whole number"),
        ({"hidden_size": True}, "hidden_size: true is not a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0 is outside 1 to 10000; nearest valid value: 1"),
        ({"vocab_size": -1}, "vocab_size: -1 is outside 1 to 100000000; nearest valid value: 1"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers: 1000000 is outside 1 to 10000; nearest valid value: 10000"),
        ({"num_hidden_layers": 10**5000}, "num_hidden_layers: a number of 16610 bits is outside 1 to 10000"),
        (
            {"num_attention_heads": 30, "num_key_value_heads": 6},
            "head_dim: missing, and num_attention_heads 30 does not",
        ),
        ({"num_key_value_heads": 5}, "num_key_value_heads: 5 does not divide the 32 heads; nearest valid value: 4"),
        ({"num_key_value_heads": 64}, "num_key_value_heads: 64 does not divide the 32 heads; nearest valid value: 32"),
        ({"model_type": 5}, "model_type: 5 is not a text"),
        ({"tie_word_embeddings": "no"}, 'tie_word_embeddings: "no" is not true or false'),
        ({"sliding_window": [1]}, "sliding_window: [1] is not a whole number"),
        ({"quantization_config": "awq"}, 'quantization_config: "awq" is not an object'),
        ({"quantization_config": {}}, "quantization_config.quant_method: missing"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config.bits: missing"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}},
            "quantization_config.weight_block_size: [128] is not two sizes; nearest valid value: [128, 128]",
        ),
        ({"num_experts": 8}, "num_experts_per_tok: missing"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok: 9 is above the 8 experts; nearest valid"),
        ({"kv_lora_rank": 512}, "qk_rope_head_dim: missing; qk_nope_head_dim: missing; v_head_dim: missing"),
        ({"vocab_size": ["x" * 99]}, f'vocab_size: ["{"x" * 38}... is not a whole number'),
    ],
)
def test_wrong_values(changes: dict[str, Any], message: str) -> None:
    assert message in error({**LLAMA, **changes})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"architectures": ["BertModel"], "model_type": "bert"},
            "not a causal language model: architectures has BertM",
        ),
        ({"model_type": "bert"}, "not a causal language model: model_type is bert"),
        ({**LLAMA, "is_encoder_decoder": True}, "not a causal language model: is_encoder_decoder says"),
        ({"_class_name": "UNet2DConditionModel"}, "not a causal language model: _class_name says it is part of a diff"),
        ({**LLAMA, "mamba_d_state": 16}, "its layers are not all of one known kind (mamba_d_state)"),
    ],
)
def test_other_models(config: dict[str, Any], message: str) -> None:
    assert message in error(config)


def write(folder: Path, text: str) -> Path:
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def test_read_a_folder_and_a_file(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(LLAMA))

    assert read(tmp_path).hidden == 4096
    assert read(tmp_path / "config.json").name == str(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends in the middle of its JSON"),
        (json.dumps(LLAMA)[:-40], "ends in the middle of its JSON"),
        ('{"model_type": "lla', "ends in the middle of its JSON"),
        ("model_type: llama", "not JSON: Expecting value in line 1, column 1"),
        ('{"a": 1,, "b": 2}', "not JSON: .* in line 1, column 9"),
        ("[1, 2]", "a JSON object is expected, not a list"),
        ("null", "a JSON object is expected, not null"),
        ('"llama"', "a JSON object is expected, not a text"),
        ("7", "a JSON object is expected, not a number"),
        ("[" * 100_000, "not JSON that a config.json may have"),
        ('{"vocab_size": ' + "1" * 5000 + "}", "not JSON that a config.json may have"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        read(write(tmp_path, text))


def test_absent_files_name_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "configs.json").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(ModelConfigError, match=r"config\.json: no such file; nearest: configs\.json"):
        read(tmp_path)
    with pytest.raises(ModelConfigError, match="the folder is empty"):
        read(tmp_path / "empty")
    with pytest.raises(ModelConfigError, match="no such file or folder"):
        read(tmp_path / "nowhere" / "config.json")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelConfigError, match="no text in UTF-8"):
        read(tmp_path)

    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(ModelConfigError, match="larger than 16 MiB"):
        read(tmp_path)


@pytest.mark.parametrize("path", ["a\0b/config.json", "x" * 5000])
def test_impossible_paths(tmp_path: Path, path: str) -> None:
    with pytest.raises(ModelConfigError, match="cannot be read"):
        read(tmp_path / path)


def test_resolve(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine", json.dumps(LLAMA))

    assert resolve("Llama-3.1-8B", tmp_path) == catalog.model("Llama-3.1-8B")
    assert resolve("mine", tmp_path) == read(tmp_path / "mine")
    assert resolve("./mine/config.json", tmp_path).hidden == 4096
    assert resolve(str(tmp_path / "mine"), Path("/")).hidden == 4096
    with pytest.raises(catalog.UnknownError, match=r"nearest: Llama-3\.1-8B.*no folder .*Llama-3\.1-9B"):
        resolve("Llama-3.1-9B", tmp_path)
    with pytest.raises(ModelConfigError, match="no such file"):
        resolve("./nowhere", tmp_path)
    with pytest.raises(ModelConfigError, match="no such file"):
        resolve("mine/configs.json", tmp_path)
    with pytest.raises(ValueError, match="is no model of the catalog"):
        resolve("a\0b", tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-2, 300) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=5,
)
KEYS = sorted(
    {
        *LLAMA, *QWEN_MOE, *DEEPSEEK, *GPT_OSS, "text_config", "dtype", "is_encoder_decoder", "multi_query",
        "layer_types", "mlp_layer_types", "attn_type_list", "per_layer_config", "vision_config",
        "moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval",
    }
)  # fmt: skip
QUANTIZATION = st.fixed_dictionaries(
    {},
    optional={
        "quant_method": st.sampled_from(["awq", "gptq", "fp8", "compressed-tensors", "bitsandbytes", "modelopt"])
        | values,
        **dict.fromkeys(("bits", "group_size", "weight_block_size", "load_in_4bit", "quant_algo"), values),
        "config_groups": st.dictionaries(st.text(max_size=2), st.fixed_dictionaries({"weights": values}) | values),
    },
)


def shape_or_error(config: Any) -> None:
    try:
        shape = parse(config, "m")
    except ModelConfigError:
        return
    assert weights.weight_bytes(shape) > 0
    assert kv_cache.bytes_per_token(shape, 2, 2) > 0


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), values, max_size=8))
def test_any_object_is_a_shape_or_an_error(config: dict[str, Any]) -> None:
    shape_or_error(config)


@given(
    st.sampled_from([LLAMA, QWEN_MOE, DEEPSEEK, GPT_OSS]),
    st.dictionaries(st.sampled_from(KEYS), values, max_size=3),
    st.lists(st.sampled_from(KEYS), max_size=2),
    st.none() | QUANTIZATION,
)
def test_any_damage_to_a_config_is_a_shape_or_an_error(
    config: dict[str, Any], changes: dict[str, Any], removed: list[str], quantization: Any
) -> None:
    damaged = without({**config, **changes}, *removed)
    shape_or_error(damaged | ({"quantization_config": quantization} if quantization is not None else {}))


@given(st.text() | values.map(json.dumps))
def test_any_file_is_a_shape_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "config.json").write_bytes(text.encode(errors="surrogatepass"))

    with pytest.raises(ModelConfigError):  # no model is this short
        read(folder)
