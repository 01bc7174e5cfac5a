"""LoRA adapters as PEFT writes them, made into the GGUF files that llama.cpp takes.

llama.cpp's own script for it needs PyTorch, and its library NumPy, which these images go without: nothing is computed.
Tensors are copied as they are, but for the rows of the query's and key's, whose order differs between Hugging Face's
Llama and llama.cpp's (`convert_lora_to_gguf.py` and `LlamaModel.permute` there). The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_ALIGNMENT = 32
_STRING, _FLOAT32 = 8, 6
_TYPES = {"F32": (0, 4), "F16": (1, 2), "BF16": (30, 2)}
"""Types of both formats, as GGML numbers them, and the bytes of an element."""
_MODULES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip
_HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
_NAME = re.compile(r".*\blayers\.(?P<layer>\d+)\.(?:self_attn|mlp)\.(?P<module>\w+)\.lora_(?P<half>[AB])\.weight")


class AdapterError(Exception):
    """A folder without an adapter that can be served."""


@dataclass(frozen=True)
class _Tensor:
    kind: str
    shape: tuple[int, int]
    data: bytes


def rank(folder: Path) -> int:
    """The rank that an adapter's configuration says. Raises AdapterError where there is none."""
    return _object(folder / CONFIG)["r"]


def write(folder: Path, base: Path, target: Path) -> None:
    """Writes the adapter in `folder` to the GGUF file `target`.

    `base` is the folder of the model that it is for, whose config.json says how many heads it has. Raises AdapterError
    for an adapter that llama.cpp has no way to apply.
    """
    config, model = _object(folder / CONFIG), _object(base / "config.json")
    if model.get("model_type") != "llama":
        raise AdapterError(
            f"{folder}: the local runtime serves adapters of Llama models, not of {model.get('model_type')}"
        )
    if config.get("alpha_pattern") or config.get("use_dora"):
        raise AdapterError(f"{folder}: alpha_pattern and DoRA are not served by the local runtime")
    tensors = {_named(folder, name): _ordered(name, tensor, model) for name, tensor in _read(folder / WEIGHTS).items()}
    # llama.cpp scales by alpha / rank, as PEFT does but for rank-stabilized adapters.
    alpha = float(config["lora_alpha"]) * (math.sqrt(config["r"]) if config.get("use_rslora") else 1)
    target.write_bytes(_gguf(alpha, tensors))


def _object(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise AdapterError(f"No adapter found for {path.parent}: {path.name}: {error}") from error


def _read(path: Path) -> dict[str, _Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AdapterError(f"{path}: {error}") from error
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {
        name: _Tensor(
            entry["dtype"], tuple(entry["shape"]), content[slice(*(start + offset for offset in entry["data_offsets"]))]
        )
        for name, entry in header.items()
    }


def _named(folder: Path, name: str) -> str:
    found = _NAME.fullmatch(name)
    if found is None or found["module"] not in _MODULES:
        raise AdapterError(f"{folder}: {name} is of no layer that the local runtime serves adapters of")
    return f"blk.{found['layer']}.{_MODULES[found['module']]}.weight.lora_{found['half'].lower()}"


def _ordered(name: str, tensor: _Tensor, model: Mapping[str, Any]) -> _Tensor:
    """The tensor with its rows in llama.cpp's order: in each head, pairs of rows that are half a head apart."""
    found = _NAME.fullmatch(name)
    if tensor.kind not in _TYPES:
        raise AdapterError(f"{name}: has the type {tensor.kind}, and not one of {', '.join(_TYPES)}")
    if found is None or found["module"] not in _HEADS or found["half"] == "A":
        return tensor
    rows, columns = tensor.shape
    size = columns * _TYPES[tensor.kind][1]
    head = rows // model[_HEADS[found["module"]]]
    order = [
        start + row + half for start in range(0, rows, head) for row in range(head // 2) for half in (0, head // 2)
    ]
    return _Tensor(tensor.kind, tensor.shape, b"".join(tensor.data[row * size : (row + 1) * size] for row in order))


def _gguf(alpha: float, tensors: Mapping[str, _Tensor]) -> bytes:
    texts = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    entries = [_text(key) + struct.pack("<I", _STRING) + _text(value) for key, value in texts.items()]
    entries.append(_text("adapter.lora.alpha") + struct.pack("<If", _FLOAT32, alpha))
    described: list[bytes] = []
    data = b""
    for name, tensor in tensors.items():
        rows, columns = tensor.shape
        # Dimensions are from the innermost one.
        described.append(_text(name) + struct.pack("<IQQIQ", 2, columns, rows, _TYPES[tensor.kind][0], len(data)))
        data += tensor.data + bytes(-len(tensor.data) % _ALIGNMENT)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join((*entries, *described))
    return header + bytes(-len(header) % _ALIGNMENT) + data


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()
