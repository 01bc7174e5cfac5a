"""PEFT adapters for llama.cpp: the file it reads, its rows in its own order, and what is refused instead of ignored."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_runtime import lora

from llm_serving.registry import gguf_header
from tests.model_files import CONFIG, write_adapter, write_random_adapter


def written(tmp_path: Path, adapter: Path, **config: Any) -> bytes:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    lora.write(adapter, tmp_path, tmp_path / "adapter.gguf")
    return (tmp_path / "adapter.gguf").read_bytes()


def one_layer(folder: Path, module: str, rows: int, rank: int = 4, **config: Any) -> np.ndarray:
    """An adapter of one matrix; returns its second half, as PEFT has it."""
    write_adapter(folder, r=rank, **config)
    halves = {"A": np.zeros((rank, 64), np.float32), "B": np.arange(rows * rank, dtype=np.float32).reshape(rows, rank)}
    header: dict[str, Any] = {}
    data = b""
    for half, values in halves.items():
        name = f"base_model.model.model.layers.1.{module}.lora_{half}.weight"
        end = len(data) + values.nbytes
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(data), end]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return halves["B"]


def test_the_file_is_one_that_llama_cpp_knows(tmp_path: Path) -> None:
    content = written(tmp_path, write_random_adapter(tmp_path / "a", CONFIG))
    assert gguf_header.keys(tmp_path / "adapter.gguf") == {
        "general.architecture",
        "general.type",
        "adapter.type",
        "adapter.lora.alpha",
    }
    for layer in range(2):
        for name in ("attn_q", "attn_v"):
            assert f"blk.{layer}.{name}.weight.lora_a".encode() in content


@pytest.mark.parametrize(("module", "heads"), [("q_proj", 4), ("k_proj", 2)])
def test_rows_are_in_the_order_of_llama_cpp(tmp_path: Path, module: str, heads: int) -> None:
    ours = one_layer(tmp_path / "a", f"self_attn.{module}", rows := heads * 16)
    # As convert_hf_to_gguf.py has it in LlamaModel.permute.
    theirs = ours.reshape(heads, 2, rows // heads // 2, 4).swapaxes(1, 2).reshape(ours.shape)
    assert written(tmp_path, tmp_path / "a").endswith(theirs.tobytes())
    assert not np.array_equal(ours, theirs)


@pytest.mark.parametrize("module", ["self_attn.v_proj", "mlp.down_proj"])
def test_other_rows_stay_where_they_are(tmp_path: Path, module: str) -> None:
    ours = one_layer(tmp_path / "a", module, 64)
    assert written(tmp_path, tmp_path / "a").endswith(ours.tobytes())


def test_rank_stabilized_adapters_are_scaled_as_peft_does(tmp_path: Path) -> None:
    for given, alpha in (({}, 8.0), ({"use_rslora": True}, 16.0)):
        one_layer(tmp_path / "a", "self_attn.v_proj", 32, **given)
        key = b"adapter.lora.alpha" + struct.pack("<I", 6)
        content = written(tmp_path, tmp_path / "a")
        assert struct.unpack_from("<f", content, content.index(key) + len(key)) == (alpha,)


@pytest.mark.parametrize(
    ("module", "config", "model", "problem"),
    [
        ("self_attn.v_proj", {}, {"model_type": "qwen2"}, "adapters of Llama models, not of qwen2"),
        ("self_attn.v_proj", {"use_dora": True}, {}, "DoRA are not served"),
        ("self_attn.v_proj", {"alpha_pattern": {"v_proj": 2}}, {}, "alpha_pattern and DoRA are not served"),
        ("mlp.gate", {}, {}, r"layers\.1\.mlp\.gate\.lora_A\.weight is of no layer"),
    ],
)
def test_what_llama_cpp_could_not_apply_is_refused(
    tmp_path: Path, module: str, config: dict[str, Any], model: dict[str, Any], problem: str
) -> None:
    one_layer(tmp_path / "a", module, 32, **config)
    with pytest.raises(lora.AdapterError, match=problem):
        written(tmp_path, tmp_path / "a", **model)


def test_a_folder_without_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(lora.AdapterError, match=r"No adapter found for .*adapter_config\.json"):
        lora.rank(tmp_path)
