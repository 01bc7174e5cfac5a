"""What LoRA adapters take of a GPU's memory, and the ranks that vLLM makes room for.

An adapter of rank r has, for each matrix of `in` to `out` elements that it changes, one of r x `in` and one of
`out` x r (Hu et al., "LoRA", 2021). Which matrices those are is in the adapter, which no check reads: all of
the layers' count, at 16 bits, and as if no GPU of several held less than the whole. Both are an upper bound.
"""

from collections.abc import Iterator, Sequence

from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.runtime_names import VLLM
from llm_serving.capacity.weights import feed_forward_matrices

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be (`MaxLoRARanks` in config/lora.py), but for 1, which saves nothing to speak of."""
BYTES = 2
"""Of an element: --lora-dtype is the model's own type by default, and no adapter is quantized."""


def lora_rank(ranks: Sequence[int]) -> int:
    """Return what --max-lora-rank must be for adapters of these ranks: the least that vLLM allows and that holds all.

    Raises ValueError where none does.
    """
    most = max(ranks)
    for allowed in LORA_RANKS:
        if allowed >= most:
            return allowed
    raise ValueError(f"{most} is above {LORA_RANKS[-1]}, the highest rank that vLLM serves")


def per_gpu_bytes(shape: ModelShape, runtime: str, ranks: Sequence[int]) -> int:
    """Return the bytes that adapters of these ranks take on each GPU.

    vLLM makes room at its start for --max-loras adapters of --max-lora-rank (lora/layers in its wheel), whatever their
    own ranks; TGI loads each as it is.
    """
    if not ranks:
        return 0
    held = len(ranks) * lora_rank(ranks) if runtime == VLLM else sum(ranks)
    return held * BYTES * sum(_widths(shape))


def _widths(shape: ModelShape) -> Iterator[int]:
    """Yield, for the matrices of all layers, their inputs and outputs together, in elements."""
    yield shape.layers * sum(sum(matrix) for matrix in _attention(shape))
    matrices = feed_forward_matrices(shape)
    dense = shape.layers
    if shape.experts:
        routed = max(shape.layers - shape.experts.dense_layers, 0)
        dense -= routed
        of_layer = shape.experts.count + shape.experts.shared
        yield routed * of_layer * matrices * (shape.hidden + shape.experts.intermediate)
    yield dense * matrices * (shape.hidden + shape.intermediate)


def _attention(shape: ModelShape) -> Iterator[tuple[int, int]]:
    """Yield the matrices of one layer's attention, as inputs and outputs."""
    latent = shape.latent_attention
    if latent is None:
        query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        yield from ((shape.hidden, query), (shape.hidden, key), (shape.hidden, key), (query, shape.hidden))
        return
    query = shape.heads * (latent.nope_head_dim + latent.rope_head_dim)
    rank = latent.query_lora_rank
    yield from ((shape.hidden, rank), (rank, query)) if rank else ((shape.hidden, query),)
    yield shape.hidden, latent.kv_lora_rank + latent.rope_head_dim
    yield latent.kv_lora_rank, shape.heads * (latent.nope_head_dim + latent.value_head_dim)
    yield shape.heads * latent.value_head_dim, shape.hidden
