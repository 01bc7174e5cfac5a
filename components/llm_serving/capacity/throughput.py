"""How many requests a replica keeps up with: a roofline estimate, and the measurements that it was fitted to.

A decode step reads the weights and every running request's KV cache once; a prompt costs two floating-point operations
for each active weight and token. Both share the GPU, so with a steady batch of B requests a replica answers
1 / (prefill + output tokens x step(B) / B) requests per second: the larger the batch, the more, up to what the KV
cache holds. Where a number that this needs is unknown there is a `NoEstimate` with the reason, never a guess.
"""

from dataclasses import dataclass
from math import inf, isfinite

from llm_serving.capacity import kv_cache, quantization, weights
from llm_serving.capacity.fit import Fit
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_names import TGI

GIB = 2**30

# Fitted by grid search to 192 rows of NVIDIA's "TensorRT-LLM performance overview" of version 0.14 (throughput at
# saturation: Llama 3.1 8B and 70B, Mixtral 8x7B; H200, H100, A100 SXM, A100 PCIe, L40S; FP16 and FP8; 1 to 8 GPUs;
# eight input and output lengths from 128/128 to 5000/500), github.com/NVIDIA/TensorRT-LLM,
# docs/source/performance/perf-overview.md. tests/unit/capacity/test_throughput.py has the rows and checks SPREAD.
BANDWIDTH_EFFICIENCY = 0.75
"""Part of a GPU's memory bandwidth that decoding reaches. vLLM 0.23 reached 0.77 on an A100 with one request
(johnmusgrave.com, "vLLM throughput-latency sweep on NVIDIA A100")."""
COMPUTE_EFFICIENCY = 0.60
"""Part of a GPU's dense tensor-core throughput that prefill and large batches reach."""
POWER_CAPPED_EFFICIENCY = 0.37
"""The same for the 70 W cards: a T4 holds 24 of its 65 TFLOP/s (forums.developer.nvidia.com, "About GPU peak
performance"). Assumed for the L4, for which no measurement was found."""
POWER_CAPPED = frozenset({"T4", "T4g", "L4"})
STEP_SECONDS = 0.002
"""Scheduling and launch of a decode step, in seconds."""
SEQUENCE_SECONDS = 10e-6
"""Sampling and bookkeeping of one request in a decode step, in seconds."""
ALL_REDUCE_SECONDS = 40e-6
"""Latency of one all-reduce, in seconds; a layer has two."""
NVLINK_BYTES_PER_SECOND = 150e9
"""Bus bandwidth of an all-reduce over NVLink, in bytes/s."""
PCIE_BYTES_PER_SECOND = 14e9
"""Bus bandwidth of an all-reduce over PCIe, in bytes/s; from A100 PCIe and L40S (generation 4)."""
SPREAD = (0.82, 1.12)
"""What was measured as a multiple of the estimate, for eight of ten of those rows (all of them: 0.66 to 1.65)."""
VLLM_SPREAD = (0.58, 1.23)
"""The same for 13 published measurements of vLLM, all of them; the test has them with their sources."""

_ALL_REDUCES_PER_LAYER = 2
_ACTIVATION_BYTES = 2
_EMBEDDING_BYTES = 2
_FIRST_NATIVE_FP8 = (8, 9)
_FIRST_NATIVE_FP8_TGI = (9, 0)


@dataclass(frozen=True, slots=True)
class Load:
    """What a service must carry. Raises ValueError that names every value that is out of range."""

    requests_per_second: float
    """At the busiest time that matters."""
    mean_input_tokens: float
    """Tokens of an average prompt."""
    mean_output_tokens: float
    """Tokens of an average answer."""
    utilization: float = 0.7
    """Part of its peak rate that a replica may be planned for, so that a burst finds room."""
    max_seconds_per_output_token: float | None = None
    """Longest mean time between two tokens of an answer, in seconds, even at a replica's peak; None for any."""

    def __post_init__(self) -> None:
        limits = (
            ("requests_per_second", self.requests_per_second, 0.0, inf, "0.1"),
            ("mean_input_tokens", self.mean_input_tokens, 0.0, inf, "1"),
            ("mean_output_tokens", self.mean_output_tokens, 0.0, inf, "1"),
            ("utilization", self.utilization, 0.0, 1.0, "1" if self.utilization > 1 else "0.1"),
            ("max_seconds_per_output_token", self.max_seconds_per_output_token, 0.0, inf, "0.05"),
        )
        problems = [
            f"{name}: {value:g} is outside {'0 to 1' if most == 1 else 'the numbers above 0'};"
            f" nearest value that works: {nearest}"
            for name, value, least, most, nearest in limits
            if value is not None and not (least < value <= most and isfinite(value))
        ]
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def mean_total_tokens(self) -> float:
        """Tokens of an average request, prompt and answer."""
        return self.mean_input_tokens + self.mean_output_tokens


@dataclass(frozen=True, slots=True)
class NoEstimate:
    """Why there is no honest throughput estimate."""

    reason: str


@dataclass(frozen=True, slots=True)
class Engine:
    """The numbers of one replica that its speed follows from; all of one GPU unless they say otherwise."""

    weight_bytes: float
    """Weights that every decode step reads, in bytes."""
    expert_bytes: float
    """Weights of routed experts, in bytes: a step reads those of the experts that its batch touches."""
    experts: int
    """Routed experts of a layer; 0 without."""
    experts_per_token: int
    flops_per_token: float
    """Floating-point operations for a token, attention apart."""
    attention_flops: float
    """Floating-point operations of attention for a prompt, divided by the square of its tokens."""
    kv_bytes_per_token: float
    link_seconds_per_token: float
    """Time that all-reduces take to move a token's activations, in seconds."""
    step_seconds: float
    """Time of a decode step that no batch size changes, in seconds."""
    bytes_per_second: float
    """Memory bandwidth that it reaches."""
    flops_per_second: float
    """Floating-point throughput that it reaches."""

    def decode_seconds(self, batch: float, context: float) -> float:
        """Time of one decode step of `batch` requests with `context` tokens each in their caches, in seconds.

        Matrix products take what is longer of reading the weights and computing; reading caches comes on top.
        """
        read = self.weight_bytes
        if self.experts:
            untouched = (1 - self.experts_per_token / self.experts) ** batch
            read += self.expert_bytes * (1 - untouched)
        products = max(read / self.bytes_per_second, batch * self.flops_per_token / self.flops_per_second)
        caches = batch * context * self.kv_bytes_per_token / self.bytes_per_second
        return products + caches + batch * (self.link_seconds_per_token + SEQUENCE_SECONDS) + self.step_seconds

    def prefill_seconds(self, tokens: float) -> float:
        """Time to read a prompt of `tokens` tokens with nothing else running, in seconds."""
        flops = tokens * self.flops_per_token + tokens**2 * self.attention_flops
        return flops / self.flops_per_second + tokens * self.link_seconds_per_token

    def seconds_per_output_token(self, load: Load, batch: float) -> float:
        """Mean time between two tokens of an answer when `batch` requests run at full speed, in seconds.

        A step, and the part of other requests' prompts that is read meanwhile.
        """
        context = load.mean_input_tokens + load.mean_output_tokens / 2
        prefill = self.prefill_seconds(load.mean_input_tokens)
        return self.decode_seconds(batch, context) + batch * prefill / load.mean_output_tokens

    def requests_per_second(self, load: Load, batch: float) -> float:
        """Requests answered per second when `batch` run all the time (Little's law); grows with `batch`."""
        return batch / (load.mean_output_tokens * self.seconds_per_output_token(load, batch))


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one replica carries."""

    engine: Engine
    load: Load
    batch: int
    """Requests that run at once at the peak: what the KV cache, the runtime's limit and the latency limit allow."""
    peak_requests_per_second: float
    """Rate above which a queue grows without end."""
    sustainable_requests_per_second: float
    """The part of the peak that it is planned for."""
    prefill_seconds: float
    """Time to the first token of an average prompt on an idle replica, in seconds."""

    @property
    def peak_output_tokens_per_second(self) -> float:
        """Output tokens per second at the peak, of all requests together."""
        return self.peak_requests_per_second * self.load.mean_output_tokens

    def seconds_per_output_token(self, requests_per_second: float) -> float:
        """Mean time between two tokens of an answer at a rate up to the peak, in seconds.

        The batch that settles is the one whose full-speed rate is the rate asked for.
        """
        low, high = 0.0, float(self.batch)
        for _ in range(40):
            middle = (low + high) / 2
            if middle and self.engine.requests_per_second(self.load, middle) >= requests_per_second:
                high = middle
            else:
                low = middle
        # Fewer than one request at a time is one request now and then, at the speed of one.
        return self.engine.seconds_per_output_token(self.load, max(high, 1.0))


def estimate(placement: Placement, fitted: Fit, load: Load) -> Throughput | NoEstimate:
    """What one replica of `placement` carries of requests like those of `load`.

    :param fitted: `fit.fit(placement)`.
    :returns: `NoEstimate` where a replica spans nodes, the GPU's speed is unknown, not one average request fits, or
        one request alone is slower than the load allows.
    """
    if reason := _unknown(placement, fitted, load):
        return NoEstimate(reason)
    engine = engine_of(placement, fitted)
    batch = min(int(fitted.kv_pool_tokens // load.mean_total_tokens), placement.max_concurrent_requests)
    limit = load.max_seconds_per_output_token
    if limit is not None:
        alone = engine.seconds_per_output_token(load, 1)
        if alone > limit:
            return NoEstimate(
                f"one request alone takes {alone * 1000:.0f} ms for an output token, above {limit * 1000:.0f} ms"
            )
        batch = _largest_batch(engine, load, batch, limit)
    peak = engine.requests_per_second(load, batch)
    return Throughput(
        engine=engine,
        load=load,
        batch=batch,
        peak_requests_per_second=peak,
        sustainable_requests_per_second=peak * load.utilization,
        prefill_seconds=engine.prefill_seconds(load.mean_input_tokens),
    )


def _unknown(placement: Placement, fitted: Fit, load: Load) -> str | None:
    gpu = placement.instance.gpu
    if placement.nodes > 1:
        return f"a replica spans {placement.nodes} nodes, and no measurement of pipeline parallelism backs an estimate"
    if not gpu.bandwidth_gb_s > 0:
        return f"the memory bandwidth of {gpu.name} is unknown"
    if not gpu.tflops_16bit > 0:
        return f"the tensor-core throughput of {gpu.name} is unknown"
    if fitted.kv_pool_tokens < load.mean_total_tokens:
        return f"the KV cache holds {fitted.kv_pool_tokens} tokens, an average request {load.mean_total_tokens:g}"
    return None


def _largest_batch(engine: Engine, load: Load, most: int, limit: float) -> int:
    """The largest batch from 1 to `most` whose tokens come `limit` seconds apart or less; 1 must do."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        if engine.seconds_per_output_token(load, middle) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def engine_of(placement: Placement, fitted: Fit) -> Engine:
    """The numbers that the speed of a replica of `placement` follows from.

    Weights are those of the fit, less the input embedding, of which a step reads a few rows. Experts are taken to be
    chosen alike, so that a batch touches as many as it can: real routing touches fewer.
    """
    model, gpu, shards = placement.model, placement.instance.gpu, placement.gpus
    experts, counts = model.experts, weights.parameters(model)
    table = model.vocabulary * model.hidden
    input_table = 0 if model.tied_embeddings else table
    passed = counts.total - input_table - (counts.experts * (1 - experts.per_token / experts.count) if experts else 0)
    read = fitted.per_gpu.weights * GIB - input_table * _EMBEDDING_BYTES / shards
    layers = max(0.0, read - table * _EMBEDDING_BYTES / shards)
    expert_bytes = layers * counts.experts / max(1, counts.layers)
    moved = 2 * (shards - 1) / shards * model.hidden * _ACTIVATION_BYTES * _ALL_REDUCES_PER_LAYER * model.layers
    link = NVLINK_BYTES_PER_SECOND if gpu.nvlink else PCIE_BYTES_PER_SECOND
    latency = ALL_REDUCE_SECONDS * _ALL_REDUCES_PER_LAYER * model.layers if shards > 1 else 0.0
    return Engine(
        weight_bytes=read - expert_bytes,
        expert_bytes=expert_bytes,
        experts=experts.count if experts else 0,
        experts_per_token=experts.per_token if experts else 0,
        flops_per_token=2 * passed / shards,
        attention_flops=2 * model.layers * model.heads * _attention_width(model) / shards,
        kv_bytes_per_token=kv_cache.placement_bytes_per_token(placement),
        link_seconds_per_token=moved / link,
        step_seconds=STEP_SECONDS + latency,
        bytes_per_second=gpu.bandwidth_gb_s * 1e9 * BANDWIDTH_EFFICIENCY,
        flops_per_second=_flops_per_second(placement),
    )


def _attention_width(model: ModelShape) -> float:
    """Mean of the widths of a head's keys and values, in elements."""
    latent = model.latent_attention
    if latent is None:
        return model.head_dim
    return (latent.nope_head_dim + latent.rope_head_dim + latent.value_head_dim) / 2


def _flops_per_second(placement: Placement) -> float:
    gpu = placement.instance.gpu
    efficiency = POWER_CAPPED_EFFICIENCY if gpu.name in POWER_CAPPED else COMPUTE_EFFICIENCY
    return gpu.tflops_16bit * 1e12 * efficiency * (2 if _computes_in_fp8(placement) else 1)


def _computes_in_fp8(placement: Placement) -> bool:
    """Whether products run in 8 bits, at twice the 16-bit rate: weight-only quantization computes in 16 bits.

    TGI's kernels do so from Hopper on, other runtimes' from Ada on.
    """
    checkpoint = placement.model.quantization
    method = quantization.folded(placement.quantization or (checkpoint.method if checkpoint else ""))
    first = _FIRST_NATIVE_FP8_TGI if placement.runtime.name == TGI else _FIRST_NATIVE_FP8
    return method.startswith("fp8") and placement.instance.gpu.compute_capability >= first


def assumption(load: Load) -> str:
    """What an estimate for `load` rests on, in a few sentences that stand beside every number made from it."""
    return (
        f"Roofline estimate for requests of {load.mean_input_tokens:g} input and {load.mean_output_tokens:g} output"
        f" tokens, replicas planned for {load.utilization:.0%} of their peak, no prefix cache hits:"
        f" {BANDWIDTH_EFFICIENCY:.0%} of memory bandwidth, {COMPUTE_EFFICIENCY:.0%} of dense tensor-core throughput"
        f" ({POWER_CAPPED_EFFICIENCY:.0%} on {', '.join(sorted(POWER_CAPPED))}),"
        f" all-reduce at {PCIE_BYTES_PER_SECOND / 1e9:g} GB/s over PCIe."
        " Fitted to TensorRT-LLM with Llama 3.1 and Mixtral on H200, H100, A100 and L40S, where eight of ten"
        f" measurements were {SPREAD[0]:g} to {SPREAD[1]:g} times the estimate; 13 of vLLM were {VLLM_SPREAD[0]:g} to"
        f" {VLLM_SPREAD[1]:g} times. Other GPUs, models and runtimes are extrapolated."
    )
