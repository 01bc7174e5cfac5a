"""Reads the header of a safetensors file and checks it against the file, without reading the tensors.

The format, and the rules that readers hold it to: https://github.com/huggingface/safetensors#format.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

MOST_HEADER_BYTES = 100_000_000
"""The longest header that the safetensors library reads."""
_LENGTH_BYTES = 8
_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element of each type that the library knows."""


class HeaderError(ValueError):
    """A weights file that can't be loaded, with what is wrong and what to do."""


def tensors(path: Path) -> list[str]:
    """The names of a file's tensors, once all of them are known to lie in the file. Raises HeaderError, OSError."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > min(MOST_HEADER_BYTES, size - _LENGTH_BYTES):
            raise HeaderError(
                f"broken safetensors header: it claims {length} bytes and the file has {size};"
                " it is no safetensors file, or cut short: copy it again"
            )
        text = stream.read(length)
    try:
        header: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise HeaderError("broken safetensors header: it is no JSON; copy the file again") from None
    if not isinstance(header, dict):
        raise HeaderError("broken safetensors header: a JSON object is expected; copy the file again")
    entries = {name: entry for name, entry in cast("dict[str, Any]", header).items() if name != "__metadata__"}
    ranges = sorted(_range(name, entry) for name, entry in entries.items())
    _check_ranges(ranges, size - _LENGTH_BYTES - length)
    return list(entries)


def _range(name: str, entry: Any) -> tuple[int, int, str]:
    """Where a tensor lies among the data."""
    try:
        bits = _BITS[entry["dtype"]] * math.prod(_sizes(entry["shape"]))
        begin, end = _sizes(entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise HeaderError(f"broken safetensors header: tensor {name} has no valid type, shape and offsets") from None
    if (end - begin) * 8 != bits:
        raise HeaderError(
            f"broken safetensors header: tensor {name} takes {bits / 8:.10g} bytes and its offsets hold {end - begin}"
        )
    return begin, end, name


def _sizes(values: Any) -> Iterator[int]:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(value)
        yield value


def _check_ranges(ranges: list[tuple[int, int, str]], data_bytes: int) -> None:
    """Tensors follow each other without gaps, and the last one ends where the file does."""
    reached = 0
    for begin, end, name in ranges:
        if begin != reached:
            raise HeaderError(f"broken safetensors header: tensor {name} begins at {begin}, not where {reached} is")
        reached = end
    if reached != data_bytes:
        raise HeaderError(
            f"the file has {data_bytes} bytes of tensors and its header tells of {reached}: copy it again, whole"
        )
