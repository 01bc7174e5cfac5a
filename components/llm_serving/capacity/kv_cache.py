"""What the cache of keys and values takes for each token of a sequence.

Layers with a sliding window count as full ones (so does hf-mem), the most that they can take. Where a model has full
layers too, vLLM's hybrid cache manager keeps only the window of the others, and TensorRT-LLM has a pool for each size
of window, so that more tokens may fit than this says (their documentation: design/hybrid_kv_cache_manager,
features/kvcache).
"""

import math

from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.quantization import kv_cache_bytes


def bytes_per_token(
    shape: ModelShape, tensor_parallel: int, kv_dtype_bytes: float, pipeline_parallel: int = 1
) -> float:
    """Return the bytes that a token takes in the cache of the GPU that has the most of it.

    Tensor parallel splits heads; where there are fewer heads than GPUs, engines replicate them, so that no GPU has less
    than one. A compressed cache (multi-head latent attention) has no heads to split: every GPU holds all of it.

    :param tensor_parallel: GPUs that share each layer.
    :param kv_dtype_bytes: Bytes of a cached element, as `quantization.kv_cache_bytes` returns them.
    :param pipeline_parallel: Stages that the layers are dealt to, as in nodes of a replica.
    """
    layers = math.ceil(shape.layers / pipeline_parallel)
    if shape.latent_attention is not None:
        latent = shape.latent_attention
        return layers * (latent.kv_lora_rank + latent.rope_head_dim) * kv_dtype_bytes
    heads = shape.kv_heads / min(tensor_parallel, shape.kv_heads)
    return 2 * layers * heads * shape.head_dim * kv_dtype_bytes


def placement_bytes_per_token(placement: Placement) -> float:
    """Return what `bytes_per_token` does, for the GPUs, nodes and types of a placement."""
    element = kv_cache_bytes(placement.kv_cache_dtype, placement.dtype)
    return bytes_per_token(placement.model, placement.gpus, element, placement.nodes)
