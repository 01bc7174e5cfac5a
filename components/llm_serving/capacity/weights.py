"""What a model's weights take, from its shape."""

import math
from dataclasses import dataclass

from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.quantization import EXPERTS_ONLY, compute_bytes, folded, reads_checkpoint, weight_bits

_UNGATED = frozenset(
    {
        "apertus", "arcee", "biogpt", "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "jais2",
        "mpt", "nanochat", "nemotron", "opt", "persimmon", "phi", "starcoder2",
    }
)  # fmt: skip
"""Families whose feed-forward part has two matrices; those of all others have three, one of them a gate."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of weights."""

    total: int
    embedding: int
    """The embedding and the output layer, which quantization leaves in 16 bits; one matrix where they are tied."""
    experts: int
    """Routed experts."""

    @property
    def layers(self) -> int:
        """All but the embedding and the output layer."""
        return self.total - self.embedding


def parameters(shape: ModelShape) -> Parameters:
    """Count a model's weights; its own total counts where `shape` has one.

    Source: the layers of Hugging Face's model code; within 1 % of what the models' cards say.
    """
    embedding = _ends(shape) * shape.vocabulary * shape.hidden
    layers, experts = _feed_forward(shape)
    layers += shape.layers * (_attention(shape) + 2 * shape.hidden) + shape.hidden
    total = max(shape.parameters, embedding) if shape.parameters else layers + embedding
    return Parameters(total=total, embedding=embedding, experts=min(experts, total - embedding))


def _ends(shape: ModelShape) -> int:
    return 1 if shape.tied_embeddings else 2


def _attention(shape: ModelShape) -> int:
    """Weights of one layer's attention."""
    latent = shape.latent_attention
    if latent is None:
        query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        return shape.hidden * (2 * query + 2 * key) + (query + 2 * key if shape.attention_bias else 0)
    query = shape.heads * (latent.nope_head_dim + latent.rope_head_dim)
    rank = latent.query_lora_rank
    return (
        (shape.hidden * rank + rank * query if rank else shape.hidden * query)
        + shape.hidden * (latent.kv_lora_rank + latent.rope_head_dim)
        + latent.kv_lora_rank * shape.heads * (latent.nope_head_dim + latent.value_head_dim)
        + shape.heads * latent.value_head_dim * shape.hidden
    )


def feed_forward_matrices(shape: ModelShape) -> int:
    """Return how many matrices one feed-forward part has, or one expert."""
    return 2 if shape.family in _UNGATED else 3


def _feed_forward(shape: ModelShape) -> tuple[int, int]:
    """Weights of all layers' feed-forward parts, and how many of them are routed experts'."""
    matrices = feed_forward_matrices(shape)
    dense = matrices * shape.hidden * shape.intermediate
    if shape.experts is None:
        return shape.layers * dense, 0
    expert_layers = max(shape.layers - shape.experts.dense_layers, 0)
    one = matrices * shape.hidden * shape.experts.intermediate
    routed = expert_layers * shape.experts.count * one
    shared = expert_layers * (shape.experts.shared * one + shape.hidden * shape.experts.count)
    return (shape.layers - expert_layers) * dense + routed + shared, routed


def weight_bytes(shape: ModelShape, quantization: str | None = None, dtype: str | None = None) -> int:
    """Return the bytes of all of a model's weights.

    The embedding and the output layer stay in 16 bits where the rest is quantized; some methods quantize experts only.
    A method that leaves its bits to the checkpoint, where that doesn't say them, counts as no quantization.

    :param quantization: As the runtime spells it; None for the checkpoint's own, if any.
    :param dtype: As the runtime spells it; None for the runtime's own choice, which is of 16 bits.
    """
    own = shape.quantization
    as_it_is = reads_checkpoint(shape, quantization) if quantization else own is not None or dtype is None
    if shape.checkpoint_bytes and as_it_is:
        return shape.checkpoint_bytes
    counts, bits = parameters(shape), weight_bits(shape, quantization)
    if bits is None:
        return counts.total * compute_bytes(dtype)
    method = folded(quantization or (own.method if own else ""))
    quantized = counts.experts if method in EXPERTS_ONLY and counts.experts else counts.layers
    # What is kept stays at 16 bits: no checkpoint in use has more beside quantized weights.
    return math.ceil(quantized * bits / 8) + (counts.total - quantized) * 2


def per_gpu_bytes(
    shape: ModelShape,
    tensor_parallel: int,
    pipeline_parallel: int = 1,
    quantization: str | None = None,
    dtype: str | None = None,
) -> float:
    """Return the bytes of the weights on the GPU that has the most of them.

    Tensor parallel splits every layer evenly. Pipeline parallel deals whole layers to its stages, of which the first
    has the embedding too and the last the output layer.

    :param tensor_parallel: GPUs that share each layer.
    :param pipeline_parallel: Stages, as in nodes of a replica.
    """
    total = weight_bytes(shape, quantization, dtype)
    if pipeline_parallel > 1:
        end = min(2 * shape.vocabulary * shape.hidden, total // _ends(shape))
        layers = total - _ends(shape) * end
        total = min(total, layers * math.ceil(shape.layers / pipeline_parallel) / shape.layers + end)
    return total / tensor_parallel
