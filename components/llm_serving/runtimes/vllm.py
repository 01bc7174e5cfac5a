"""vLLM 0.33: arguments of `vllm serve`, environment and probes of a model service. Pure.

Read in the sources of the 0.33.0 wheel: engine/arg_utils.py, config/, envs.py, transformers_utils/runai_utils.py,
model_executor/model_loader/runai_streamer_loader.py; and in runai-model-streamer 0.17.
"""

from collections.abc import Iterator

from llm_serving.capacity import runtime_formats
from llm_serving.capacity.adapters import LORA_RANKS, lora_rank
from llm_serving.capacity.runtime_names import VLLM
from llm_serving.runtimes.launch import (
    CACHE_ROOT,
    COPY,
    DRAIN_SECONDS,
    MIB,
    MODELS_ROOT,
    PORT,
    STREAM,
    WEIGHTS_URL,
    Launch,
    ServiceSpec,
    adapter_paths,
    choice_problems,
    memory_problems,
    options,
    refuse,
    startup_seconds,
    token_problems,
)

VERSION = "0.33.0"
MASTER_PORT = 29501
"""Where the first pod of a replica that spans nodes gathers the others: vLLM's default, said so that it stays."""
DTYPES = runtime_formats.DTYPES[VLLM]
QUANTIZATIONS = tuple(
    sorted(name for name, each in runtime_formats.QUANTIZATIONS[VLLM].items() if each.replaced_by is None)
)
"""Without those that vLLM refuses as deprecated."""
KV_CACHE_DTYPES = runtime_formats.KV_CACHE_DTYPES[VLLM]
WARM_UP_SECONDS = 600
"""For torch.compile, kernels that are compiled on first use, profiling and CUDA graphs: what vLLM itself gives its
engine to be ready (VLLM_ENGINE_READY_TIMEOUT_S, its default)."""
CACHE_MIB = 4096
"""Assumed for what torch.compile, Triton and FlashInfer compile, and a model's files other than its weights."""
STEP_TOKENS = 2048
"""What --max-num-batched-tokens is by default on a GPU of less than 70 GiB; larger ones get more."""
STREAM_BUFFER_MIB = 4096
"""Buffer of the streamer for each GPU, in the pod's memory: the largest tensor of the catalog's models has 4.2 GB
(the embedding of Llama 3.1 405B, 128,256 x 16,384 x 2 bytes)."""


def launch(spec: ServiceSpec) -> Launch:
    """Return how to launch vLLM for `spec`; raises ValueError, one line a reason, for what vLLM refuses at its start.

    Unless `spec.weights` is `copy` it streams its weights from the bucket to the GPUs: no copy has to be written to a
    disk first and read back. Nothing then checks them against the manifest's checksums.

    vLLM answers on its port only once its engine is ready. On SIGTERM it would abort what runs, but for
    --shutdown-timeout.
    """
    refuse(_problems(spec))
    streams = spec.weights != COPY
    startup = startup_seconds(spec.weight_gb + spec.adapters_gb, WARM_UP_SECONDS)
    return Launch(
        args=[
            WEIGHTS_URL if streams else f"{MODELS_ROOT}/{spec.model}",
            *("--served-model-name", spec.model),
            *("--host", "0.0.0.0"),  # noqa: S104 - a pod's own network namespace
            *("--port", str(PORT)),
            *("--tensor-parallel-size", str(spec.gpus)),
            *(_spanning(spec) if spec.nodes > 1 else ()),
            *("--max-model-len", str(spec.max_total_tokens)),
            # One more is refused, with 503, instead of waiting in a queue without end.
            *("--max-num-seqs", str(spec.max_concurrent_requests)),
            *("--max-num-queued-reqs", str(spec.max_concurrent_requests)),
            *_optional(spec),
            *(_streaming(spec) if streams else ()),
            *(_lora(spec) if spec.adapters else ()),
            *("--shutdown-timeout", str(DRAIN_SECONDS)),
            # What the kubelet and Prometheus ask every few seconds.
            *("--disable-access-log-for-endpoints", "/health,/metrics"),
        ],
        env={**_environment(startup), **(_streamer_environment(spec) if streams else {})},
        startup_seconds=startup,
        streams_weights=streams,
        cache_mib=CACHE_MIB,
        worker_args=["--headless"] if spec.nodes > 1 else [],
    )


def _spanning(spec: ServiceSpec) -> Iterator[str]:
    """Layers are dealt to the nodes, since what tensor parallelism exchanges in every layer is for NVLink.

    The variables are those that the controller of a LeaderWorkerSet sets in each pod. With more than one node the
    processes find each other by torch.distributed, without Ray.
    """
    yield from ("--pipeline-parallel-size", str(spec.nodes))
    yield from ("--nnodes", str(spec.nodes))
    yield from ("--node-rank", "$(LWS_WORKER_INDEX)")
    yield from ("--master-addr", "$(LWS_LEADER_ADDRESS)")
    yield from ("--master-port", str(MASTER_PORT))


def _optional(spec: ServiceSpec) -> Iterator[str]:
    return options(
        {
            "--dtype": spec.dtype,
            "--quantization": spec.quantization,
            "--kv-cache-dtype": spec.kv_cache_dtype,
            "--gpu-memory-utilization": spec.gpu_memory_utilization,
            "--max-num-batched-tokens": spec.max_batch_prefill_tokens,
        }
    )


def _streaming(spec: ServiceSpec) -> Iterator[str]:
    yield from ("--load-format", "runai_streamer")
    if spec.gpus > 1:
        # Each process of a node reads a part and hands it on; otherwise each would read all of the weights.
        yield from ("--model-loader-extra-config", '{"distributed":true}')


def _lora(spec: ServiceSpec) -> Iterator[str]:
    yield "--enable-lora"
    yield from ("--lora-modules", *adapter_paths(spec))
    yield from ("--max-lora-rank", str(lora_rank([adapter.rank for adapter in spec.adapters])))
    # As many in one batch as there are: a request for another one would wait until the batch has room for it.
    yield from ("--max-loras", str(len(spec.adapters)))


def _environment(startup: int) -> dict[str, str]:
    return {
        # Whatever is compiled goes where the next start of the container finds it.
        "HOME": CACHE_ROOT,
        "VLLM_CACHE_ROOT": f"{CACHE_ROOT}/vllm",
        "TRITON_CACHE_DIR": f"{CACHE_ROOT}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_ROOT}/inductor",
        "FLASHINFER_WORKSPACE_BASE": CACHE_ROOT,
        # Folders of temporary files are named after the user, whom an image need not know.
        "USER": "vllm",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # vLLM gives up on its engine after 600 s, reading the weights included: not before the probe does.
        "VLLM_ENGINE_READY_TIMEOUT_S": str(startup),
    }


def _streamer_environment(spec: ServiceSpec) -> dict[str, str]:
    return {
        # Without a limit it takes as much as the weights have, which the pod's memory need not.
        "RUNAI_STREAMER_MEMORY_LIMIT": str(spec.gpus * STREAM_BUFFER_MIB * MIB),
        # Credentials by boto3, which knows Pod Identity.
        "RUNAI_STREAMER_NO_BOTO3_SESSION": "0",
    }


def _problems(spec: ServiceSpec) -> Iterator[str]:
    yield from token_problems(spec)
    yield from choice_problems(f"{spec.model}.dtype", spec.dtype, DTYPES)
    yield from choice_problems(f"{spec.model}.quantization", spec.quantization, QUANTIZATIONS)
    yield from choice_problems(f"{spec.model}.kv_cache_dtype", spec.kv_cache_dtype, KV_CACHE_DTYPES)
    yield from memory_problems(spec, 1, "all of it")
    yield from choice_problems(f"{spec.model}.weights", spec.weights, (COPY, STREAM))
    tokens, requests = spec.max_batch_prefill_tokens or STEP_TOKENS, spec.max_concurrent_requests
    if tokens < requests:
        yield (
            f"{spec.model}.max_batch_prefill_tokens: {tokens} tokens of a step are fewer than the"
            f" max_concurrent_requests of {requests}; nearest valid value: {requests}"
        )
    if spec.engine:
        yield f"{spec.model}.engine: vLLM runs checkpoints only; nearest valid value: false"
    for adapter in spec.adapters:
        if adapter.rank > LORA_RANKS[-1]:
            yield (
                f"{spec.model}.adapters.{adapter.name}.rank: {adapter.rank} is above {LORA_RANKS[-1]}, the highest that"
                f" vLLM serves; nearest valid value: {LORA_RANKS[-1]}"
            )
