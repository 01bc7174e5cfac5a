"""Reads how a checkpoint's weights are quantized from the `quantization_config` of its config.json."""

from llm_serving.capacity.config_reader import ConfigReader
from llm_serving.capacity.model_shape import CheckpointQuantization
from llm_serving.capacity.quantization import UNQUANTIZED_BITS, WEIGHT_BITS, folded

_SCALE_BITS = 16
_BLOCK_SCALE_BITS = 32
_DOUBLE_QUANTIZED_BITS = 4.13
"""Of nf4 whose scales are quantized again."""
_MODELOPT_BITS = {"FP8": 8.0, "NVFP4": 4.5, "W4A16_AWQ": WEIGHT_BITS["awq"], "W4A8_AWQ": WEIGHT_BITS["awq"]}


def read_quantization(reader: ConfigReader) -> CheckpointQuantization | None:
    """Return the checkpoint's quantization; None where it has none.

    Bits are 16 where the config doesn't say how many there are.
    """
    part = reader.part("quantization_config") or reader.part("compression_config")
    if part is None:
        return None
    method = part.text("quant_method", required=not part.has("quant_algo")) or "modelopt"
    name = folded(method)
    if "awq" in name or "gptq" in name:
        return _grouped(part, method)
    if name.startswith("compressed_tensors"):
        return _compressed_tensors(part, method)
    if part.has("weight_block_size"):
        return _blocks(part, method)
    return CheckpointQuantization(method, _bits(part, name), 32 if name == "mxfp4" else None)


def _bits(part: ConfigReader, name: str) -> float:
    if name == "bitsandbytes":
        return _bitsandbytes(part)
    if name.startswith("modelopt"):
        return _MODELOPT_BITS.get(part.text("quant_algo", required=False) or "", UNQUANTIZED_BITS)
    return WEIGHT_BITS.get(name, float(part.optional("bits", most=32) or UNQUANTIZED_BITS))


def _grouped(part: ConfigReader, method: str) -> CheckpointQuantization:
    """Groups of weights along the input share a 16-bit scale, and a zero point as wide as a weight."""
    bits = part.number(("bits", "w_bit"), most=8)
    group = part.optional(("group_size", "q_group_size"), most=1_000_000, least=-1)
    if not group or group < 0:
        return CheckpointQuantization(method, float(bits))
    return CheckpointQuantization(method, bits + (_SCALE_BITS + bits) / group, group)


def _blocks(part: ConfigReader, method: str) -> CheckpointQuantization:
    block = part.numbers("weight_block_size")
    if len(block) != 2 or not all(0 < side <= 1_000_000 for side in block):
        part.problem(
            f"quantization_config.weight_block_size: {block} is not two sizes; nearest valid value: [128, 128]"
        )
        return CheckpointQuantization(method, WEIGHT_BITS["fp8"])
    rows, columns = block
    return CheckpointQuantization(method, 8 + _BLOCK_SCALE_BITS / (rows * columns), block=(rows, columns))


def _bitsandbytes(part: ConfigReader) -> float:
    if part.flag("load_in_4bit", default=False):
        return _DOUBLE_QUANTIZED_BITS if part.flag("bnb_4bit_use_double_quant", default=False) else 4.5
    return WEIGHT_BITS["bitsandbytes"]


def _compressed_tensors(part: ConfigReader, method: str) -> CheckpointQuantization:
    """Of several groups of layers the widest counts for all."""
    widest = CheckpointQuantization(method, 0.0)
    for group in part.parts("config_groups"):
        weights = group.part("weights")
        bits = weights.optional("num_bits", most=32) if weights else None
        if weights is None or bits is None:
            return CheckpointQuantization(method, UNQUANTIZED_BITS)
        size = weights.optional("group_size", most=1_000_000, least=-1)
        size = size if size and size > 0 else None
        zero_point = 0 if weights.flag("symmetric", default=True) else bits
        effective = bits + ((_SCALE_BITS + zero_point) / size if size else 0)
        if effective > widest.bits:
            widest = CheckpointQuantization(method, effective, size)
    return widest if widest.bits else CheckpointQuantization(method, UNQUANTIZED_BITS)
