"""Small models that a runtime could load, as folders."""

import json
import struct
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}


def safetensors(**tensors: bytes) -> bytes:
    """A file of tensors of bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, content in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def gguf(data: bytes = bytes(32), *, tokenizer: bool = True) -> bytes:
    """A file with one tensor of 32-bit floats, and a vocabulary of two texts if it is to have a tokenizer."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    entries = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    if tokenizer:
        entries.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"))
    tensor = text("w") + struct.pack("<IQIQ", 1, len(data) // 4, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries) + tensor
    return header + bytes(-len(header) % 32) + data


def write_model(folder: Path, weights: bytes = b"weights", **files: bytes) -> Path:
    """Write a model of one safetensors file, in a folder of its own, and further files."""
    (folder / "original").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors(w=weights))
    (folder / "original" / "params.json").write_text("{}")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
