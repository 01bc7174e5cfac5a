"""Reads a Hugging Face config.json into the shape of a model, and says all that is wrong with one at once."""

import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from llm_serving.capacity import catalog
from llm_serving.capacity.checkpoint_format import read_quantization
from llm_serving.capacity.config_reader import ConfigReader
from llm_serving.capacity.model_shape import Experts, LatentAttention, ModelShape

CONFIG = "config.json"
MOST_BYTES = 16 << 20
"""Of a config.json; the longest in use, with a list of unquantized modules, have some hundred KB."""

_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Endings of architectures that generate text."""
_NOT_CAUSAL = frozenset(
    {
        "albert", "bert", "bert-generation", "big_bird", "camembert", "clip", "clip_text_model", "data2vec-text",
        "deberta", "deberta-v2", "distilbert", "electra", "ernie", "git", "megatron-bert", "mpnet", "nomic_bert",
        "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "siglip", "vit", "wav2vec2", "whisper",
        "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip
"""Families that don't, though some have an architecture with such an ending."""
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
"""Where multimodal models keep the language model's own config."""
_HYBRID = (
    "hybrid_override_pattern", "mamba_d_state", "mamba_num_heads", "ssm_state_size", "ssm_cfg", "attn_layer_period",
    "linear_num_key_heads", "linear_attn_config", "global_head_dim", "state_size", "rwkv_version", "per_layer_config",
    "cross_attention_layers", "conv_L_cache", "full_attn_idxs", "index_topk", "index_topk_blocks",
    "num_layers_per_stack", "block_configs",
)  # fmt: skip
"""Keys of models whose layers hold what one shape cannot tell: state spaces, linear attention, convolutions, heads of
two sizes, attention to an image, an index beside the cache, layers that run more than once."""
_CACHED_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Values of `layer_types` whose layers cache keys and values of every token as the shape tells."""
_NOT_ONE_SHAPE = {
    "doge": "its experts are rows of a table",
    "hrm_text": "it runs its layers more than once",
    "jetmoe": "each layer's attention is a mixture of experts too",
    "moshi": "it has a second decoder",
}
"""Families whose config looks like another's, and why it cannot be sized as that."""
_OTHER_PARTS = (
    "vision_config", "audio_config", "speech_config", "encoder_config", "vq_config", "img_processor",
    "audio_processor", "vision_lora", "speech_lora", "mm_vision_tower", "visual",
)  # fmt: skip
"""Where multimodal models keep what stands beside the language model: towers, and adapters for them."""

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_INTERMEDIATE = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
_VOCABULARY = ("vocab_size",)
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_k")
_EXPERT_INTERMEDIATE = ("moe_intermediate_size", "expert_intermediate_size")
_SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
_FIRST_DENSE = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
_EVERY = ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval")

_FOUR_TIMES_HIDDEN = frozenset({"bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gptj", "mpt", "RefinedWeb"})
"""Families whose feed-forward width is 4 times the hidden size where their config has none."""
_TIED = frozenset(
    {
        "biogpt", "bloom", "cohere", "cohere2", "cohere2_moe", "ernie4_5", "ernie4_5_moe", "falcon", "gemma", "gemma2",
        "gemma3", "gemma3_text", "gpt2", "gpt_bigcode", "granite_swa", "minicpm3", "modernbert-decoder", "mpt", "opt",
        "smollm3", "starcoder2", "vaultgemma", "youtu",
    }
)  # fmt: skip
"""Families that tie the output layer to the embedding where their config doesn't say (defaults of transformers)."""
_ONE_KV_HEAD = frozenset({"falcon", "gpt_bigcode"})
"""Families whose heads share one of keys and values where their config doesn't say (defaults of transformers)."""
_BIASED = frozenset(
    {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "gpt2", "opt", "bloom", "gpt_bigcode", "starcoder2"}
)
"""Families whose query, key and value projections have biases where their config doesn't say."""


class ModelConfigError(ValueError):
    """A config.json that is none, or of no language model that can be sized."""


def resolve(reference: str, base: Path) -> ModelShape:
    """Return the shape of a model by catalog name, folder or config.json.

    :param reference: As in Llama-3.1-8B, ./models/mine and ../mine/config.json. A folder that has a config.json comes
        before a catalog name.
    :param base: What a relative path starts from.
    :raises ModelConfigError: The file is none that can be read.
    :raises catalog.UnknownError: Neither a path nor a catalog name.
    """
    path = base / reference
    if reference.startswith((".", "/")) or reference.endswith(".json") or _is_there(path):
        return read(path)
    try:
        return catalog.model(reference)
    except catalog.UnknownError as error:
        raise catalog.UnknownError(f"{error}; no folder {path} with a {CONFIG} either") from None


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or (path / CONFIG).is_file()
    except OSError:
        return False  # as for a name that is too long


def read(path: Path) -> ModelShape:
    """Return the shape of the model in a folder, or of one config.json.

    :raises ModelConfigError: The file is not there, is no JSON, or no config of a language model.
    """
    try:
        file = path / CONFIG if path.is_dir() else path
        text = _text(file)
    except FileNotFoundError as error:
        raise ModelConfigError(_absent(Path(error.filename))) from None
    except UnicodeDecodeError:
        raise ModelConfigError(f"{path}: no text in UTF-8") from None
    except OSError as error:
        raise ModelConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(_json(text, str(file)), str(path))


def _text(file: Path) -> str:
    if "\0" in str(file):
        raise OSError(errno.EINVAL, "a path has no zero bytes")
    with file.open("rb") as stream:  # a device has no size to ask for, and may have no end
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ModelConfigError(f"{file}: larger than {MOST_BYTES >> 20} MiB, so no {CONFIG}")
    return content.decode("utf-8")


def _absent(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"{file}: no such file or folder"
    names = sorted(entry.name for entry in folder.iterdir())
    near = catalog.near_matches(file.name, names) if names else "the folder is empty"
    return f"{file}: no such file; {near}"


def _json(text: str, name: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise ModelConfigError(f"{name}: ends in the middle of its JSON, as a copy that was cut off does") from None
        raise ModelConfigError(f"{name}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (RecursionError, ValueError):
        raise ModelConfigError(f"{name}: not JSON that a {CONFIG} may have") from None
    if not isinstance(config, dict):
        raise ModelConfigError(f"{name}: a JSON object is expected, not {_kind(config)}")
    return cast("dict[str, Any]", config)


def _kind(value: object) -> str:
    for kind, name in ((bool, "true or false"), (str, "a text"), (list, "a list"), (type(None), "null")):
        if isinstance(value, kind):
            return name
    return "a number"


def parse(config: Mapping[str, Any], name: str) -> ModelShape:
    """Return the shape that a config tells.

    Understands dense models with and without grouped queries, mixtures of experts, multi-head latent attention,
    explicit head sizes, sliding windows, quantized checkpoints, and the language model of a multimodal one.

    :param name: What the shape and errors are called.
    :raises ModelConfigError: Not a causal language model's; or keys are missing, of a wrong type or out of range. The
        text names all such keys at once.
    """
    if reason := _not_a_language_model(config):
        raise ModelConfigError(f"{name}: not a causal language model: {reason}")
    reader = ConfigReader(_language_part(config))
    if hybrid := _hybrid(reader):
        raise ModelConfigError(
            f"{name}: its layers are not all of one known kind ({', '.join(hybrid)}), so their memory cannot be told"
        )
    shape = _shape(reader, name)
    if reason := _NOT_ONE_SHAPE.get(shape.family):
        raise ModelConfigError(f"{name}: {shape.family} cannot be sized: {reason}")
    if reader.problems:
        raise ModelConfigError(f"{name}: {'; '.join(reader.problems)}")
    return shape


def _not_a_language_model(config: Mapping[str, Any]) -> str | None:
    for key in ("_class_name", "_diffusers_version"):
        if key in config:
            return f"{key} says it is part of a diffusion pipeline"
    if config.get("is_encoder_decoder") is True:
        return "is_encoder_decoder says that it has an encoder"
    listed = config.get("architectures")
    names = [name for name in cast("list[object]", listed) if isinstance(name, str)] if isinstance(listed, list) else []
    if names and not any(name.endswith(_CAUSAL) for name in names):
        return f"architectures has {', '.join(names)}, and none that ends in {', '.join(_CAUSAL)}"
    family = config.get("model_type")
    if isinstance(family, str) and family in _NOT_CAUSAL:
        return f"model_type is {family}"
    return None


def _language_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in _TEXT_PARTS:
        part = config.get(key)
        if isinstance(part, dict):
            return {**config, **cast("dict[str, Any]", part)}
    return config


def _hybrid(reader: ConfigReader) -> list[str]:
    """Return the keys, and of `layer_types` the values, that tell of layers that one shape does not."""
    found = [key for key in _HYBRID if reader.has(key)]
    if reader.optional("hidden_size_per_layer_input", most=1_000_000, least=0):
        found.append("hidden_size_per_layer_input")
    if 0 in reader.numbers("attn_type_list"):
        found.append("attn_type_list: 0")  # MiniMax's word for linear attention
    kinds = sorted(set(reader.texts("layer_types")) - _CACHED_LAYERS)
    return [*found, *(f"layer_types: {kind}" for kind in kinds)]


def _shape(reader: ConfigReader, name: str) -> ModelShape:
    """What this returns is a shape only where the reader has no problems."""
    family = reader.text("model_type") or ""
    layers = reader.number(_LAYERS, most=10_000)
    hidden = reader.number(_HIDDEN, most=1_000_000)
    heads = reader.number(_HEADS, most=100_000)
    wide = 4 * hidden if family in _FOUR_TIMES_HIDDEN else None
    intermediate = reader.number(_INTERMEDIATE, most=10_000_000, default=wide)
    latent = _latent_attention(reader)
    head_dim = _head_dim(reader, hidden, heads, latent)
    _check_values(reader, head_dim, latent)
    window = reader.optional("sliding_window", most=1_000_000_000, least=0) or None
    dtype = reader.text("torch_dtype", required=False) or reader.text("dtype", required=False) or "bfloat16"
    biased = [reader.flag(key, default=family in _BIASED) for key in ("attention_bias", "qkv_bias", "use_qkv_bias")]
    return ModelShape(
        name=name,
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(reader, family, heads),
        head_dim=head_dim,
        # Llama 4 has the experts' width here, and that of dense layers under a key of its own.
        intermediate=reader.optional("intermediate_size_mlp", most=10_000_000) or intermediate,
        vocabulary=reader.number(_VOCABULARY, most=100_000_000),
        context=reader.number(_CONTEXT, most=1_000_000_000),
        dtype=dtype.removeprefix("torch."),
        tied_embeddings=reader.flag("tie_word_embeddings", default=family in _TIED),
        sliding_window=window if reader.flag("use_sliding_window", default=True) else None,
        experts=_experts(reader, family, layers, intermediate),
        latent_attention=latent,
        quantization=read_quantization(reader),
        attention_bias=any(biased),
        other_parts=tuple(key for key in _OTHER_PARTS if reader.has(key)),
    )


def _kv_heads(reader: ConfigReader, family: str, heads: int) -> int:
    """Without the key every query head has its own keys and values.

    Falcon's and StarCoder's flag means one head for all, whatever the key says: Falcon-7B has its 71 query heads there.
    """
    one_for_all = reader.flag("multi_query", default=family in _ONE_KV_HEAD)
    if one_for_all and not reader.flag("new_decoder_architecture", default=False):
        return 1
    kv_heads = reader.number(_KV_HEADS, most=100_000, default=heads)
    if heads and kv_heads and heads % kv_heads:
        near = max(divisor for divisor in range(1, min(kv_heads, heads) + 1) if heads % divisor == 0)
        reader.problem(f"{_KV_HEADS[0]}: {kv_heads} does not divide the {heads} heads; nearest valid value: {near}")
    return kv_heads


def _latent_attention(reader: ConfigReader) -> LatentAttention | None:
    if not reader.has("kv_lora_rank"):
        return None
    rank, rope, nope, value = (
        reader.number((key,), most=1_000_000)
        for key in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    )
    return LatentAttention(rank, rope, nope, value, reader.optional("q_lora_rank", most=1_000_000))


def _head_dim(reader: ConfigReader, hidden: int, heads: int, latent: LatentAttention | None) -> int:
    explicit = reader.optional("head_dim", most=1_000_000)
    if latent is not None:
        return latent.nope_head_dim + latent.rope_head_dim
    if explicit is not None or not hidden or not heads:
        return explicit or 0
    if hidden % heads:
        near = round(hidden / heads) * heads or heads
        reader.problem(
            f"head_dim: missing, and {_HEADS[0]} {heads} does not divide {_HIDDEN[0]} {hidden};"
            f" nearest valid {_HIDDEN[0]}: {near}"
        )
    return hidden // heads


def _check_values(reader: ConfigReader, head_dim: int, latent: LatentAttention | None) -> None:
    """Values may be of another size than keys only where both are compressed into one vector."""
    value = reader.optional("v_head_dim", most=1_000_000) if latent is None else None
    if value and head_dim and value != head_dim:
        reader.problem(
            f"v_head_dim: {value} is not the head size of {head_dim}, and the memory of keys and values of two sizes"
            " cannot be told"
        )


def _experts(reader: ConfigReader, family: str, layers: int, intermediate: int) -> Experts | None:
    count = reader.optional(_EXPERTS, most=1_000_000, least=0) or 0
    if count < 2:
        return None
    per_token = reader.number(_EXPERTS_PER_TOKEN, most=1_000_000)
    if per_token > count:
        reader.problem(
            f"{_EXPERTS_PER_TOKEN[0]}: {per_token} is above the {count} experts; nearest valid value: {count}"
        )
    width = reader.number(_EXPERT_INTERMEDIATE, most=10_000_000, default=intermediate)
    shared = reader.optional(_SHARED_EXPERTS, most=1_000_000, least=0) or 0
    shared_width = reader.optional("shared_expert_intermediate_size", most=10_000_000, least=0)
    if shared_width and width:
        shared = math.ceil(shared_width / width)
    elif family.startswith("llama4"):
        shared = 1
    return Experts(count, per_token, width, shared, _dense_layers(reader, layers))


def _dense_layers(reader: ConfigReader, layers: int) -> int:
    """Count the layers without experts; a list with a word for each layer says it by itself."""
    if kinds := reader.texts("mlp_layer_types"):
        return kinds[:layers].count("dense")
    first = reader.optional(_FIRST_DENSE, most=10_000, least=0) or 0
    # Ernie's; a last layer of -1 is the model's last.
    last = reader.optional("moe_layer_end_index", most=10_000, least=-1)
    end = layers if last is None or last < 0 else last + 1
    step = reader.optional(_EVERY, most=10_000) or 1
    dense = {*reader.numbers("mlp_only_layers"), *range(first), *range(end, layers)}
    dense |= {layer for layer, sparse in enumerate(reader.numbers("moe_layer_freq", or_one=True)) if not sparse}
    return sum(layer in dense or (layer + 1) % step != 0 for layer in range(layers))
