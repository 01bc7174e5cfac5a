"""Small models that a runtime could load, as folders."""

import json
import random
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


ADAPTER: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "base",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
}


def write_adapter(folder: Path, **config: Any) -> Path:
    """Write a LoRA adapter as PEFT does, in a folder of its own, its configuration with changes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**ADAPTER, **config}))
    names = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight" for half in "AB"]
    (folder / "adapter_model.safetensors").write_bytes(safetensors(**dict.fromkeys(names, b"weights")))
    return folder


def write_random_adapter(folder: Path, model: dict[str, Any], *, seed: int = 1, rank: int = 4) -> Path:
    """Write an adapter of the query and the value of every layer of a Llama model, strong enough to be noticed.

    `model` is the model's config.json.
    """
    chance = random.Random(seed)
    write_adapter(folder, r=rank, lora_alpha=4 * rank)
    hidden, heads = model["hidden_size"], model["num_attention_heads"]
    width = {"q_proj": hidden, "v_proj": hidden // heads * model["num_key_value_heads"]}
    header: dict[str, Any] = {}
    data = b""
    for layer in range(model["num_hidden_layers"]):
        for module, out in width.items():
            for half, shape in (("A", (rank, hidden)), ("B", (out, rank))):
                count = shape[0] * shape[1]
                content = struct.pack(f"<{count}f", *(chance.gauss(0, 0.1) for _ in range(count)))
                header[f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{half}.weight"] = {
                    "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(content)],
                }  # fmt: skip
                data += content
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder
