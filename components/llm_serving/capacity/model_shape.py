"""The shape of a language model: what its memory and its legal splits follow from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek): the cache holds one compressed vector for each token and layer."""

    kv_lora_rank: int
    """Size of the compressed vector, in elements."""
    rope_head_dim: int
    """Size of the positional part beside it, in elements."""
    nope_head_dim: int
    """Size of a query head's part without position, in elements."""
    value_head_dim: int
    """Size of a value head, in elements."""
    query_lora_rank: int | None
    """Size of the compressed query; None where queries are not compressed."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture-of-experts feed-forward part."""

    count: int
    """Routed experts of a layer."""
    per_token: int
    """Routed experts that one token passes."""
    intermediate: int
    """Width of one expert, in elements."""
    shared: int = 0
    """Experts that every token passes."""
    dense_layers: int = 0
    """Layers that have a dense feed-forward part of the model's own `intermediate` width instead."""


@dataclass(frozen=True, slots=True)
class CheckpointQuantization:
    """How a checkpoint's weights are quantized already."""

    method: str
    """As in `quantization_config.quant_method`: awq, gptq, fp8, compressed-tensors, mxfp4, bitsandbytes, ..."""
    bits: float
    """Bits of a weight, scales and zero points included."""
    group_size: int | None = None
    """Weights that share a scale along the input; None where scales are per channel or tensor."""
    block: tuple[int, int] | None = None
    """Block of weights that share a scale (fp8 block quantization), rows by columns."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model, as its config.json tells it."""

    name: str
    """Catalog name or where it was read from."""
    family: str
    """`model_type` of the config: llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gpt_oss, deepseek_v3, ..."""
    layers: int
    hidden: int
    """Width of the residual stream, in elements."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; equal to `heads` without grouped queries."""
    head_dim: int
    """Elements of one head."""
    intermediate: int
    """Width of a dense feed-forward part, in elements."""
    vocabulary: int
    """Tokens of the vocabulary."""
    context: int
    """Longest sequence that the model was made for, in tokens."""
    dtype: str = "bfloat16"
    """What the checkpoint's unquantized weights are stored in."""
    tied_embeddings: bool = False
    """Whether the output layer shares the embedding's weights."""
    sliding_window: int | None = None
    """Tokens that sliding-window layers look back; their cache is counted as full: see `kv_cache`."""
    experts: Experts | None = None
    latent_attention: LatentAttention | None = None
    quantization: CheckpointQuantization | None = None
    attention_bias: bool = False
    """Whether the query, key and value projections have biases."""
    other_parts: tuple[str, ...] = ()
    """Keys of the config that tell of parts beside the language model, as vision_config; nothing counts their
    weights."""
    checkpoint_bytes: int | None = None
    """Size of the checkpoint's weights where it is known better than by computing it from the shape."""
    parameters: int | None = None
    """Number of weights where it is known better than by computing it from the shape."""
