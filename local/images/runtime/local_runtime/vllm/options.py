"""Every option of `vllm serve` 0.33.0 by the kind of its value, as names and short names: `tensor-parallel-size/tp`.

Source: `vllm/engine/arg_utils.py`, `vllm/entrypoints/common/cli_args.py` and the classes of `vllm/config` in its wheel,
whose annotations decide what argparse reads. An option that takes a word of an enumeration that only GPU kernels have
is read as text.
"""


def names(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


SWITCHES = names(
    """
allow-credentials allow-deprecated-quantization async-scheduling cohere-is-reasoning-model cudagraph-metrics
data-parallel-external-lb/dpe data-parallel-hybrid-lb/dph dcp-q-replicate disable-cascade-attn
disable-chunked-mm-input disable-custom-all-reduce disable-fastapi-docs disable-hybrid-kv-cache-manager
disable-nccl-for-dp-synchronization disable-sliding-window disable-uvicorn-access-log enable-auto-tool-choice
enable-batch-sharded-sampling enable-chunked-prefill enable-cumem-allocator enable-dbo enable-elastic-ep
enable-ep-weight-filter enable-eplb enable-expert-parallel/ep enable-fault-tolerance enable-flash-late-interaction
enable-flashinfer-autotune enable-force-include-usage enable-hc-sp enable-layerwise-nvtx-tracing enable-log-deltas
enable-log-outputs enable-log-requests enable-logging-iteration-details enable-lora
enable-mamba-cache-stochastic-rounding enable-mamba-shared-prefix-checkpoint enable-mfu-metrics
enable-mixed-moe-lora-format enable-mm-embeds enable-moe-shared-loras enable-nccl-comm-suspend enable-offline-docs
enable-per-request-metrics enable-prefix-caching enable-prompt-embeds enable-prompt-tokens-details
enable-request-id-headers enable-return-routed-experts enable-scale-out enable-server-load-tracking
enable-shm-tensor-arena enable-sleep-mode enable-ssl-refresh enable-tokenizer-info-endpoint
enable-tower-connector-lora enable-trace-replay enforce-eager exclude-tools-when-tool-choice-none
fail-on-environ-validation fully-sharded-loras interleave-mm-strings jit-monitor-verbose kv-cache-metrics
kv-sharing-fast-prefill language-model-only log-error-stack long-prefill-token-threshold-adaptive
mm-device-do-normalize mm-encoder-only monokernel numa-bind ray-workers-use-nsight return-sampling-mask
return-tokens-as-token-ids scheduler-reserve-full-isl skip-mm-profiling skip-tokenizer-init
sleep-mode-offload-cudagraph specialize-active-lora swa-bounded-replay tokens-only trust-remote-code
trust-request-chat-template trust-request-mm-kwargs use-fp64-gumbel use-replayssm use-tqdm-on-load
    """
)
INTEGERS = names(
    """
block-size cp-kv-cache-interleave-size cpu-distributed-timeout-seconds data-parallel-rank/dpn
data-parallel-rpc-port/dpp data-parallel-size-local/dpl data-parallel-size/dp data-parallel-start-rank/dpr
data-parallel-supervisor-port dbo-decode-token-threshold dbo-prefill-token-threshold dcp-kv-cache-interleave-size
decode-context-parallel-size/dcp distributed-timeout-seconds dp-supervisor-probe-failure-threshold dp-sync-interval
elastic-ep-max-dp-size grpc-port h11-max-header-count h11-max-incomplete-event-size long-prefill-token-threshold
mamba-block-size mamba-cache-philox-rounds master-port max-cpu-loras max-cudagraph-capture-size max-log-len
max-logprobs max-lora-cls-labels max-loras max-num-active-seqs max-num-queued-reqs max-num-seqs
max-parallel-loading-workers mm-shm-cache-max-object-size-mb nnodes/n node-rank/r num-gpu-blocks-override
offload-group-size offload-num-in-group offload-prefetch-step pipeline-parallel-size/pp port
prefill-context-parallel-size/pcp prefill-schedule-interval prefix-cache-retention-interval prefix-match-unit
renderer-num-workers replayssm-buffer-len safetensors-prefetch-num-threads seed shutdown-timeout spec-tokens
sse-keep-alive-interval ssl-cert-reqs stream-interval tensor-parallel-size/tp ubatch-size
    """
)
SIZES = names(
    """
kv-cache-memory-bytes max-num-batched-tokens max-num-queued-tokens max-num-scheduled-tokens
safetensors-prefetch-block-size
    """
)
DECIMALS = names(
    """
cpu-offload-gb dp-supervisor-probe-interval-s dp-supervisor-probe-timeout-s
gpu-memory-utilization/device-memory-utilization kv-cache-metrics-sample kv-offloading-size
mm-encoder-fp8-scale-save-margin mm-ipc-gpu-memory-gb mm-processor-cache-gb video-pruning-rate watermark
    """
)
TEXTS = names(
    """
allowed-headers allowed-local-media-path allowed-methods allowed-origins attention-backend chat-template
code-revision cohere-format config config-format data-parallel-address/dpa data-parallel-backend/dpb device-ids
disable-access-log-for-endpoints distributed-executor-backend download-dir fingerprint-value generation-config
hf-config-path host io-processor-plugin kv-cache-dtype linear-backend load-format log-config-file
mamba-backend master-addr mm-encoder-attn-backend mm-encoder-fp8-scale-path mm-encoder-fp8-scale-save-path model
model-impl moe-backend optimization-level otlp-traces-endpoint pt-load-map-location quantization/q reasoning-parser
reasoning-parser-plugin response-role revision root-path scheduler-cls show-hidden-metrics-for-version
sleep-mode-backend sparse-indexer-topk-backend spec-model ssl-ca-certs ssl-certfile ssl-ciphers ssl-keyfile
tokenizer tokenizer-mode tokenizer-revision tool-call-parser tool-parser-plugin tool-server uds worker-cls
worker-extension-cls spec-method
    """
)
LISTS = names(
    """
allowed-media-domains api-key collect-detailed-traces cpu-offload-params ignore-patterns kv-cache-dtype-skip-layers
logits-processors lora-modules lora-target-modules numa-bind-cpus offload-params served-model-name
sleep-preserve-parameter-names
    """
)
DOCUMENTS = names(
    """
additional-config attention-config/ac aux-output-config compilation-config/cc custom-histogram-buckets
default-chat-template-kwargs default-mm-loras diffusion-config/dc ec-manager-config ec-transfer-config engram-config
eplb-config fault-tolerance-config hf-overrides ir-op-priority kernel-config kv-events-config kv-transfer-config
limit-mm-per-prompt logging-config media-io-kwargs mm-processor-kwargs model-class-overrides
model-loader-extra-config override-generation-config pooler-config profiler-config quantization-config
reasoning-config reasoning-effort-map speculative-config/sc structured-outputs-config watchdog-config
watermark-config weight-transfer-config
    """
)
FLAGS = names("aggregate-engine-logging data-parallel-multi-port-external-lb/dpm disable-log-stats grpc headless")
"""Without the `--no-` form that switches have."""

CHOICES: dict[str, tuple[str | int, ...]] = {
    "all2all-backend": (
        "naive", "pplx", "deepep_high_throughput", "deepep_low_latency", "deepep_v2", "mori_high_throughput",
        "mori_low_latency", "moonep", "nixl_ep", "allgather_reducescatter", "flashinfer_all2allv",
        "flashinfer_nvlink_two_sided", "flashinfer_nvlink_one_sided", "passthrough",
    ),
    "anthropic-disabled-thinking-effort": ("auto", "none", "low"),
    "chat-template-content-format": ("auto", "string", "openai"),
    "convert": ("auto", "none", "embed", "classify"),
    "dcp-comm-backend": ("ag_rs", "a2a"),
    "dtype": ("auto", "half", "float16", "bfloat16", "float", "float32"),
    "expert-placement-strategy": ("linear", "round_robin"),
    "fingerprint-mode": ("full", "hash", "custom", "none"),
    "gdn-prefill-backend": ("flashinfer", "triton", "cutedsl", "aiter_flydsl", "sycl"),
    "jit-monitor-mode": ("warn", "error"),
    "kda-decode-backend": ("auto", "native", "flashinfer", "triton"),
    "kda-prefill-backend": ("auto", "triton", "flashkda", "flashinfer", "fused"),
    "kv-offloading-backend": ("native", "lmcache"),
    "log-level": ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"),
    "logprobs-mode": ("raw_logits", "raw_logprobs", "processed_logits", "processed_logprobs"),
    "lora-dtype": ("auto", "float16", "bfloat16"),
    "mamba-cache-dtype": ("auto", "float32", "float16", "bfloat16"),
    "mamba-cache-mode": ("align", "none"),
    "mamba-ssm-cache-dtype": ("auto", "float32", "float16", "bfloat16"),
    "mamba-ssu-algorithm": ("auto", "simple", "vertical", "horizontal"),
    "max-lora-rank": (1, 8, 16, 32, 64, 128, 256, 320, 512),
    "mm-encoder-attn-dtype": ("fp8",),
    "mm-encoder-tp-mode": ("weights", "data"),
    "mm-hasher-algorithm": ("blake3", "sha256", "sha512"),
    "mm-processor-cache-type": ("shm", "lru"),
    "mm-processor-device": ("auto", "cpu", "cuda"),
    "mm-tensor-ipc": ("direct_rpc", "torch_shm"),
    "offload-backend": ("auto", "uva", "prefetch"),
    "per-request-spec-decode-metrics": ("none", "summary", "detailed"),
    "performance-mode": ("balanced", "interactivity", "throughput"),
    "prefix-caching-hash-algo": ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor"),
    "runner": ("auto", "generate", "pooling", "draft"),
    "safetensors-load-strategy": ("lazy", "eager", "prefetch", "torchao"),
    "scheduling-policy": ("fcfs", "priority"),
    "tool-strict-level": ("auto", "function", "parameter"),
    "uvicorn-log-level": ("critical", "error", "warning", "info", "debug", "trace"),
    "video-pruning-method": ("evs", "vidcom2"),
}  # fmt: skip

QUANTIZATION = (
    "awq", "auto_awq", "fp8", "fbgemm_fp8", "fp_quant", "modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed",
    "auto_gptq", "gptq", "gptq_marlin", "awq_marlin", "humming", "compressed-tensors", "experts_int8", "quark",
    "moe_wna16", "torchao", "inc", "mxfp4", "gpt_oss_mxfp4", "deepseek_v4_fp8", "online", "fp8_per_tensor",
    "fp8_per_block", "fp8_per_channel", "int8_per_channel_weight_only", "nvfp4_per_token", "mxfp8",
)  # fmt: skip
"""The methods that vLLM knows, in its order; its command line takes any and its configuration refuses others."""

LOAD_FORMATS = (
    "auto", "hf", "dummy", "fastsafetensors", "instanttensor", "ipc_cache", "mistral", "modelexpress", "npcache", "pt",
    "runai_streamer", "runai_streamer_sharded", "safetensors", "sharded_state", "tensorizer",
)  # fmt: skip
