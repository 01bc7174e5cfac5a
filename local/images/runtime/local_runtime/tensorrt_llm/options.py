"""The fields of a trtllm-serve configuration file: those of TensorRT-LLM's `TorchLlmArgs`, which refuses others. Pure.

Source: `tests/unittest/api_stability/references*/llm.yaml` of NVIDIA/TensorRT-LLM, which lists them all, and
`tensorrt_llm/llmapi/llm_args.py`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class KvCacheConfig(BaseModel):
    """What of the KV cache's configuration people set; of effect here is `max_tokens`."""

    model_config = ConfigDict(extra="allow")

    enable_block_reuse: bool = True
    max_tokens: int | None = Field(default=None, gt=0)
    free_gpu_memory_fraction: float | None = Field(default=0.9, ge=0, le=1)
    dtype: str = "auto"
    tokens_per_block: int = Field(default=32, gt=0)


class TorchLlmArgs(BaseModel):
    """The arguments of the engine. Those without a meaning here are any."""

    model_config = ConfigDict(extra="forbid")

    model: str
    backend: Literal["pytorch", "tensorrt", "_autodeploy"] = "pytorch"
    max_batch_size: int | None = Field(default=2048, gt=0)
    max_num_tokens: int | None = Field(default=8192, gt=0)
    max_seq_len: int | None = Field(default=None, gt=0)
    max_beam_width: int | None = Field(default=1, gt=0)
    max_input_len: int | None = None
    tensor_parallel_size: int = Field(default=1, gt=0)
    pipeline_parallel_size: int = Field(default=1, gt=0)
    context_parallel_size: int = Field(default=1, gt=0)
    kv_cache_config: KvCacheConfig = KvCacheConfig()
    enable_chunked_prefill: bool = False
    enable_iter_perf_stats: bool = False
    iter_stats_max_iterations: int | None = None
    return_perf_metrics: bool = False
    perf_metrics_max_requests: int = 0
    trust_remote_code: bool = False
    dtype: str = "auto"
    quant_config: Any = None
    tokenizer: str | None = None
    custom_tokenizer: str | None = None
    tokenizer_mode: Literal["auto", "slow"] = "auto"
    tokenizer_revision: str | None = None
    skip_tokenizer_init: bool = False
    revision: str | None = None
    reasoning_parser: str | None = None
    stream_interval: int = Field(default=1, gt=0)
    num_postprocess_workers: int = 0
    postprocess_tokenizer_dir: str | None = None
    gpus_per_node: int | None = None
    moe_cluster_parallel_size: int | None = None
    moe_expert_parallel_size: int | None = None
    moe_tensor_parallel_size: int | None = None
    otlp_traces_endpoint: str | None = None
    fail_fast_on_attention_window_too_large: bool = False
    allreduce_strategy: Any = None
    attention_dp_config: Any = None
    attn_backend: Any = None
    batch_wait_max_tokens_ratio: Any = None
    batch_wait_timeout_iters: Any = None
    batch_wait_timeout_ms: Any = None
    batched_logits_processor: Any = None
    cache_transceiver_config: Any = None
    checkpoint_format: Any = None
    checkpoint_loader: Any = None
    cp_config: Any = None
    cuda_graph_config: Any = None
    decoding_config: Any = None
    disable_overlap_scheduler: Any = None
    enable_attention_dp: Any = None
    enable_autotuner: Any = None
    enable_iter_req_stats: Any = None
    enable_layerwise_nvtx_marker: Any = None
    enable_lm_head_tp_in_adp: Any = None
    enable_lora: Any = None
    enable_min_latency: Any = None
    enable_sleep: Any = None
    env_overrides: Any = None
    force_dynamic_quantization: Any = None
    garbage_collection_gen0_threshold: Any = None
    gather_generation_logits: Any = None
    guided_decoding_backend: Any = None
    kv_connector_config: Any = None
    load_format: Any = None
    lora_config: Any = None
    mm_encoder_only: Any = None
    moe_config: Any = None
    nvfp4_gemm_config: Any = None
    orchestrator_type: Any = None
    peft_cache_config: Any = None
    print_iter_log: Any = None
    ray_worker_extension_cls: Any = None
    request_stats_max_iterations: Any = None
    sampler_type: Any = None
    scheduler_config: Any = None
    sparse_attention_config: Any = None
    speculative_config: Any = None
    torch_compile_config: Any = None
    video_pruning_rate: Any = None
