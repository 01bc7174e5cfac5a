"""Tensor and pipeline parallel rules: into how many GPUs each runtime can split a model, and where.

What must divide, as read in the runtimes' sources:

- TGI 3.3.7: query heads and key-value heads (server/.../custom_modeling/flash_*_modeling.py; flash_llama_modeling.py
  checks both, the others divide the key-value heads and fail at what is left over), and every feed-forward width
  (utils/weights.py, get_sharded). Multi-query families keep their one key-value head on every shard.
- vLLM 0.33.0: query heads (config/model.py); key-value heads, which are replicated where there are more GPUs
  (model_executor/layers/linear.py); feed-forward widths (linear.py, fused_moe/config.py); Qwen MoE has no more GPUs
  than experts (models/qwen2_moe.py, models/qwen3_moe.py).
- TensorRT-LLM: query heads (tensorrt_llm/_torch/modules/attention.py). No source was found for the rest, so it warns.

The vocabulary need not divide: vLLM pads it (vocab_parallel_embedding.py), TGI keeps an uneven output layer whole
(layers/tensor_parallel.py). Latent attention (DeepSeek) has one compressed cache and no key-value heads to split.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from llm_serving.capacity import hardware
from llm_serving.capacity.findings import Check, Finding, Severity
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.naming import GPUS, INSTANCE, NODES, RUNTIME, joined, setting
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_formats import AMPERE
from llm_serving.capacity.runtime_names import TENSORRT_LLM, TGI, VLLM, title

CHECKS = (
    Check("TP_HEADS", "error", "The query heads do not divide by the number of GPUs.", ("F2",)),
    Check("TP_KV_HEADS", "error", "The key-value heads do not split over the number of GPUs.", ("F2",)),
    Check("TP_WIDTH", "error", "A feed-forward width does not divide by the number of GPUs.", ("F2",)),
    Check("TP_EXPERTS", "error", "There are more GPUs than experts, which the runtime refuses.", ("F2",)),
    Check("TP_GPUS", "error", "A replica asks for more GPUs than its instance type has.", ("F2",)),
    Check(
        "TP_FRACTION", "error", "The instance type has a fraction of a GPU, which cannot be one of several.", ("F2",)
    ),
    Check("TP_STRANDED", "warning", "The replica's GPUs do not divide the instance's, so some stay unused."),
    Check("TP_PCIE", "warning", "Tensor parallelism over GPUs that are joined by PCIe, not by NVLink."),
    Check("PP_RUNTIME", "error", "The runtime cannot spread a replica over several nodes.", ("F2",)),
    Check("PP_LAYERS", "error", "There are more nodes than layers to put on them.", ("F2",)),
)

_MULTI_QUERY = frozenset({"falcon", "RefinedWeb", "RefinedWebModel", "gpt_bigcode", "starcoder"})
"""TGI families that keep a single key-value head whole (flash_rw_modeling.py, flash_santacoder_modeling.py)."""
_EXPERTS_BOUND = frozenset({"qwen2_moe", "qwen3_moe"})


@dataclass(frozen=True, slots=True)
class _Split:
    """Something that is cut into as many equal parts as there are GPUs."""

    code: str
    what: str
    elements: int
    severity: Severity = "error"
    replicated: bool = False
    """Whether several GPUs may hold copies of one part."""

    def allows(self, gpus: int) -> bool:
        return self.elements % gpus == 0 or (self.replicated and gpus % self.elements == 0)


def legal_sizes(model: ModelShape, runtime: str, most: int) -> list[int]:
    """Return the numbers of GPUs, 1 to `most`, over which `runtime` can split `model`; always begins with 1."""
    splits = [split for split in _splits(model, runtime) if split.severity == "error"]
    limit = min(most, _most_gpus(model, runtime))
    return [size for size in range(1, max(limit, 1) + 1) if all(split.allows(size) for split in splits)]


def check(placement: Placement) -> Iterator[Finding]:
    """Yield what is wrong with the number of GPUs and nodes of a replica."""
    if placement.gpus < 1:
        name = setting(placement, GPUS)
        yield Finding("TP_GPUS", "error", name, f"{placement.gpus} GPUs is fewer than 1; nearest valid: 1", ("1",))
    else:
        yield from _check_splits(placement)
        yield from _check_instance(placement)
    yield from _check_nodes(placement)


def _splits(model: ModelShape, runtime: str) -> Iterator[_Split]:
    yield _Split("TP_HEADS", "heads", model.heads)
    others: Severity = "warning" if runtime == TENSORRT_LLM else "error"
    multi_query = runtime == TGI and model.kv_heads == 1 and model.family in _MULTI_QUERY
    if model.latent_attention is None and not multi_query:
        yield _Split("TP_KV_HEADS", "key-value heads", model.kv_heads, others, replicated=runtime != TGI)
    if model.experts is None or model.experts.dense_layers > 0:
        yield _Split("TP_WIDTH", "feed-forward columns", model.intermediate, others)
    if model.experts is not None:
        yield _Split("TP_WIDTH", "columns of an expert", model.experts.intermediate, others)


def _most_gpus(model: ModelShape, runtime: str) -> int:
    if runtime == VLLM and model.experts is not None and model.family in _EXPERTS_BOUND:
        return min(model.heads, model.experts.count)
    return model.heads


def _check_splits(placement: Placement) -> Iterator[Finding]:
    model, gpus = placement.model, placement.gpus
    broken = [split for split in _splits(model, placement.runtime.name) if not split.allows(gpus)]
    experts = 0 if model.experts is None else model.experts.count
    few_experts = _most_gpus(model, placement.runtime.name) < gpus and gpus > experts > 0
    if not broken and not few_experts:
        return
    name, sizes = setting(placement, GPUS), legal_sizes(model, placement.runtime.name, model.heads)
    valid = _valid(placement, sizes)
    nearest = tuple(str(size) for size in sorted(sizes, key=lambda size: (abs(size - gpus), size)))
    for split in broken:
        message = f"{split.elements} {split.what} do not divide by {gpus}; {valid}"
        if split.severity == "warning":
            message += f"; how {title(placement.runtime)} splits them was not read in its source"
        yield Finding(split.code, split.severity, name, message, nearest)
    if few_experts:
        message = f"{gpus} GPUs are more than the {experts} experts; {valid}"
        yield Finding("TP_EXPERTS", "error", name, message, nearest)


def _valid(placement: Placement, sizes: list[int]) -> str:
    gpu = placement.instance.gpu
    types = hardware.same_gpu(gpu, lambda count: count in sizes)
    text = f"valid: {joined(sizes)}"
    if types:
        text += f"; {gpu.name} types with such a count: {joined(f'{each.name} ({each.gpus})' for each in types)}"
    return text


def _check_instance(placement: Placement) -> Iterator[Finding]:
    instance, gpus = placement.instance, placement.gpus
    if instance.gpus == 0:
        yield from _check_fraction(placement)
    elif gpus > instance.gpus:
        yield _too_many(placement)
    else:
        if instance.gpus % gpus:
            unused = instance.gpus % gpus
            divisors = [size for size in range(1, instance.gpus + 1) if instance.gpus % size == 0]
            nearest = sorted(divisors, key=lambda size: (abs(size - gpus), size))
            message = (
                f"replicas of {gpus} GPUs leave {unused} of the {instance.gpus} {instance.gpu.name} of {instance.name}"
                f" unused; evenly used by: {joined(divisors)}"
            )
            yield Finding("TP_STRANDED", "warning", setting(placement, GPUS), message, tuple(map(str, nearest)))
        if gpus > 1 and not instance.gpu.nvlink:
            linked = hardware.families_from(AMPERE, nvlink=True)
            message = (
                f"the {gpus} {instance.gpu.name} of a replica on {instance.name} are joined by PCIe, which slows every"
                f" token; NVLink: {joined(linked) or 'no type of the catalog'}"
            )
            yield Finding("TP_PCIE", "warning", setting(placement, GPUS), message, linked)


def _check_fraction(placement: Placement) -> Iterator[Finding]:
    instance = placement.instance
    whole = [each.name for each in hardware.same_gpu(instance.gpu, lambda count: count >= placement.gpus)]
    several = placement.gpus > 1
    gpu = instance.gpu.name.removesuffix("-fraction")
    message = (
        f"{instance.name} has a fraction of one {gpu}, and a replica asks for {placement.gpus};"
        f" with whole ones: {joined(whole) or 'no type of the catalog'}"
    )
    yield Finding("TP_FRACTION", "error" if several else "warning", setting(placement, INSTANCE), message, tuple(whole))


def _too_many(placement: Placement) -> Finding:
    instance, gpus = placement.instance, placement.gpus
    fewer = legal_sizes(placement.model, placement.runtime.name, instance.gpus)[-1]
    enough = [each.name for each in hardware.same_gpu(instance.gpu, lambda count: count >= gpus)]
    message = (
        f"{gpus} GPUs are more than the {instance.gpus} {instance.gpu.name} of {instance.name};"
        f" nearest valid: {fewer}; {instance.gpu.name} types with enough: {joined(enough) or 'none'}"
    )
    return Finding("TP_GPUS", "error", setting(placement, GPUS), message, (str(fewer), *enough))


def _check_nodes(placement: Placement) -> Iterator[Finding]:
    name, nodes = setting(placement, NODES), placement.nodes
    if nodes < 1:
        yield Finding("PP_LAYERS", "error", name, f"{nodes} nodes is fewer than 1; nearest valid: 1", ("1",))
    elif nodes > 1:
        if placement.runtime.name != VLLM:
            # TensorRT-LLM could, by MPI, whose launcher logs in to each pod: the chart starts no SSH server.
            message = (
                f"{title(placement.runtime)} cannot spread a replica over {nodes} nodes here; nearest valid: 1 node,"
                f" or {RUNTIME[0]}: {VLLM}"
            )
            yield Finding("PP_RUNTIME", "error", name, message, ("1",))
        if nodes > placement.model.layers:
            layers = placement.model.layers
            message = f"{nodes} nodes are more than the {layers} layers; nearest valid: {layers}"
            yield Finding("PP_LAYERS", "error", name, message, (str(layers),))
