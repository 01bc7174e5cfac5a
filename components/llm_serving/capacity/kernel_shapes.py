"""Whether the matrices of a quantized model still fit the kernels once they are split over several GPUs.

Read in the sources: TGI 3.3.7 (layers/marlin/gptq.py: group size, _check_valid_shape; layers/fp8.py: scales of blocks
are split by utils/weights.py, get_sharded), vLLM 0.33.0
(quantization/utils/fp8_utils.py: validate_fp8_block_shape; quantization/utils/marlin_utils.py: group size). vLLM pads
what is smaller than a tile of its Marlin kernels (marlin_padded_nk), so only TGI's tiles are checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from llm_serving.capacity import parallelism
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.model_shape import CheckpointQuantization, ModelShape
from llm_serving.capacity.naming import GPUS, joined, setting
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_formats import AMPERE
from llm_serving.capacity.runtime_names import TENSORRT_LLM, TGI

CHECKS = (
    Check("QUANT_GROUP", "error", "A quantization group would be cut by the split over several GPUs."),
    Check("QUANT_BLOCK", "error", "An fp8 block would be cut by the split over several GPUs."),
    Check("QUANT_TILE", "error", "A split matrix has a shape that the Marlin kernel has no tile for."),
)

_GROUPED = frozenset({"awq", "gptq"})
_USUAL_GROUP = 128


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A weight matrix, of which each GPU holds a part of the inputs or of the outputs."""

    name: str
    inputs: int
    outputs: int
    splits_inputs: bool

    def part(self, gpus: int) -> tuple[int, int]:
        """Inputs and outputs that one GPU holds."""
        if self.splits_inputs:
            return self.inputs // gpus, self.outputs
        return self.inputs, self.outputs // gpus


def check(placement: Placement) -> Iterator[Finding]:
    """Yield which matrices of a quantized checkpoint do not fit the runtime's kernels on this many GPUs."""
    own = placement.model.quantization or _usual(placement.quantization)
    if own is None or placement.gpus < 1:
        return
    if own.method in _GROUPED:
        yield from _first(placement, "QUANT_GROUP", own)
        if placement.runtime.name == TGI and placement.instance.gpu.compute_capability >= AMPERE:
            yield from _first(placement, "QUANT_TILE", own)
    if own.method == "fp8" and own.block is not None:
        yield from _first(placement, "QUANT_BLOCK", own)


def _usual(given: str | None) -> CheckpointQuantization | None:
    """What a checkpoint of this kind is like where only its kind is known: 4 bits in groups of 128 (AutoAWQ, GPTQ)."""
    return CheckpointQuantization(given, 4.16, _USUAL_GROUP) if given in _GROUPED else None


def _matrices(model: ModelShape) -> Iterator[_Matrix]:
    if model.latent_attention is None:
        queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
        yield _Matrix("query, key and value projection", model.hidden, queries + 2 * keys, splits_inputs=False)
        yield _Matrix("attention output projection", queries, model.hidden, splits_inputs=True)
    if model.experts is None or model.experts.dense_layers > 0:
        yield _Matrix("feed-forward input projection", model.hidden, 2 * model.intermediate, splits_inputs=False)
        yield _Matrix("feed-forward output projection", model.intermediate, model.hidden, splits_inputs=True)
    if model.experts is not None:
        width = model.experts.intermediate
        yield _Matrix("expert input projection", model.hidden, 2 * width, splits_inputs=False)
        yield _Matrix("expert output projection", width, model.hidden, splits_inputs=True)


def _fault(matrix: _Matrix, code: str, own: CheckpointQuantization, gpus: int) -> str | None:
    inputs, outputs = matrix.part(gpus)
    where = f"of the {matrix.name} on each of {gpus} GPUs"
    if code == "QUANT_GROUP" and matrix.splits_inputs and own.group_size and inputs % own.group_size:
        return f"{inputs} inputs {where} do not divide by the group size {own.group_size}"
    if code == "QUANT_BLOCK" and own.block is not None and gpus > 1:
        rows, columns = own.block
        if matrix.splits_inputs and inputs % columns:
            return f"{inputs} inputs {where} do not divide by the block of {columns}"
        if not matrix.splits_inputs and outputs % rows:
            return f"{outputs} outputs {where} do not divide by the block of {rows}"
    if code == "QUANT_TILE" and (inputs % 128 or outputs % 64) and (inputs % 64 or outputs % 128):
        return f"{inputs} inputs and {outputs} outputs {where} are no multiples of 128 and 64, or of 64 and 128"
    return None


def _faults(model: ModelShape, code: str, own: CheckpointQuantization, gpus: int) -> Iterator[str]:
    for matrix in _matrices(model):
        fault = _fault(matrix, code, own, gpus)
        if fault is not None:
            yield fault


def _first(placement: Placement, code: str, own: CheckpointQuantization) -> Iterator[Finding]:
    """Yield one finding for a rule that does not hold, with the numbers of GPUs for which it does."""
    model, gpus = placement.model, placement.gpus
    fault = next(_faults(model, code, own, gpus), None)
    if fault is None:
        return
    sizes = [
        size
        for size in parallelism.legal_sizes(model, placement.runtime.name, model.heads)
        if next(_faults(model, code, own, size), None) is None
    ]
    nearest = tuple(str(size) for size in sorted(sizes, key=lambda size: (abs(size - gpus), size)))
    assumed = model.quantization is None
    severity = "warning" if assumed or placement.runtime.name == TENSORRT_LLM else "error"
    message = f"{fault}; valid: {joined(sizes) or 'none'}"
    if assumed:
        message += f"; groups of {own.group_size} are assumed, as {model.name} says nothing of its own"
    yield Finding(code, severity, setting(placement, GPUS), message, nearest)
