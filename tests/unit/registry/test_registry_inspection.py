"""A folder is looked over before it is pushed: every problem at once, each with what to do."""

import contextlib
import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serving.registry import gguf_header, safetensors_header
from llm_serving.registry.errors import InvalidModelError
from llm_serving.registry.inspection import inspect, summary
from llm_serving.registry.safetensors_header import HeaderError
from tests.model_files import gguf, safetensors, write_adapter, write_model

INDEX = "model.safetensors.index.json"


def problems(folder: Path) -> list[str]:
    with pytest.raises(InvalidModelError) as raised:
        inspect(folder)
    return [problem.replace(f"{folder}/", "").replace(f"{folder}", ".") for problem in raised.value.problems]


def test_a_model(model: Path) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "config").write_text("")
    files = inspect(model)
    assert [file.path for file in files] == [
        "config.json",
        "model.safetensors",
        "original/params.json",
        "tokenizer.json",
    ]
    assert files[1].size == (model / "model.safetensors").stat().st_size


def test_links_as_a_download_cache_has_them(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(tmp_path / "blob")
    (model / "model.safetensors").symlink_to(tmp_path / "blob")
    assert inspect(model)[1].size == (tmp_path / "blob").stat().st_size
    (tmp_path / "blob").unlink()
    assert problems(model) == ["model.safetensors: is a link to nothing; download the model again"]


def test_gguf_has_config_and_tokenizer_in_it(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf())
    assert [file.path for file in inspect(tmp_path)] == ["m.gguf"]
    assert summary(tmp_path) == {}


def test_everything_that_is_missing_at_once(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("")
    found = problems(tmp_path)
    assert [problem.split(":")[1].split(",")[0] for problem in found] == [
        " has no weights",
        " has no config.json",
        " has no tokenizer",
    ]
    assert "no *.safetensors and no *.gguf" in found[0]
    assert problems(tmp_path / "nowhere") == [".: is no folder"]


def test_pickles_are_no_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert problems(model) == [
        ".: has no weights but pytorch_model.bin, which may run code when they are loaded: convert them to safetensors"
    ]


def test_large_file_pointers(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert problems(model) == ["model.safetensors: is a Git LFS pointer, not the file itself: run `git lfs pull`"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(model: Path) -> None:
    (model / "config.json").chmod(0)
    assert problems(model) == ["config.json: may not be read: change its permissions"]


def test_a_name_that_s3_cannot_keep(model: Path) -> None:
    (model / "a\nb.txt").write_text("")
    (found,) = problems(model)
    assert found.endswith("has a name that S3 can't keep: rename it, to at most 900 bytes of printable text")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "claims 0 bytes and the file has 0"),
        (b"PK\x03\x04" * 100, "it is no safetensors file, or cut short"),
        ((2**63).to_bytes(8, "little") + b"{}", "claims 9223372036854775808 bytes and the file has 10"),
        ((2).to_bytes(8, "little") + b"[]", "a JSON object is expected"),
        ((2).to_bytes(8, "little") + b"{[", "it is no JSON"),
        (safetensors(a=b"12345")[:-1], "has 4 bytes of tensors and its header tells of 5: copy it again, whole"),
        (safetensors(a=b"12345") + b"x", "has 6 bytes of tensors and its header tells of 5"),
        (safetensors(a=b"12345").replace(b'"U8"', b'"U9"'), "tensor a has no valid type, shape and offsets"),
        (safetensors(a=b"12345").replace(b"[5]", b"[6]"), "tensor a takes 6 bytes and its offsets hold 5"),
        (safetensors(a=b"1234").replace(b"[4]", b"[-]"), "it is no JSON"),
        (safetensors(a=b"12", b=b"34").replace(b"[2, 4]", b"[3, 5]"), "tensor b begins at 3, not where 2 is"),
    ],
)
def test_broken_safetensors(model: Path, content: bytes, problem: str) -> None:
    (model / "model.safetensors").write_bytes(content)
    (found,) = problems(model)
    assert found.startswith("model.safetensors: ")
    assert problem in found


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it doesn't begin with GGUF"),
        (b"GGUF" + struct.pack("<I", 1), "GGUF version 1 is not one of 2, 3"),
        (gguf()[:40], "the file ends within it"),
        (gguf()[:-1], "copy it again, whole"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "has no tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "a count of 1152921504606846976"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 99), "of type 99"),
    ],
)
def test_broken_gguf(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    (found,) = problems(tmp_path)
    assert found.startswith("m.gguf: ")
    assert problem in found


def test_gguf_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf(tokenizer=False))
    assert problems(tmp_path)[0].startswith(".: has no tokenizer: add one of tokenizer.json, ")


def test_an_index(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00003.safetensors")
    weight_map = {"w": "model-00001-of-00003.safetensors", "x": "model-00001-of-00003.safetensors", "y": "lost"}
    (model / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert problems(model) == [
        (
            "model-*-of-00003.safetensors: shards are missing: model-00002-of-00003.safetensors,"
            " model-00003-of-00003.safetensors"
        ),
        f"{INDEX}: names shards that are not there: lost",
        f"{INDEX}: names tensors that their shards don't have: x",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"w": 1}}'])
def test_an_index_that_is_none(model: Path, text: str) -> None:
    (model / INDEX).write_text(text)
    assert problems(model)[0].startswith(f"{INDEX}: ")


def test_shards_that_nobody_could_have(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-99999.safetensors")
    assert "99999 shards are said to be there and 4 files are" in problems(model)[0]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("config.json", "{", "is no JSON: copy it again"),
        ("config.json", "[]", "is no JSON object: copy it again"),
        ("config.json", "{}", "has neither `model_type` nor `architectures`, so no runtime knows what the model is"),
        ("tokenizer.json", "", "is no JSON: copy it again"),
    ],
)
def test_broken_configuration(model: Path, name: str, text: str, problem: str) -> None:
    (model / name).write_text(text)
    assert problems(model) == [f"{name}: {problem}"]


def test_what_a_config_says(model: Path) -> None:
    known = summary(model)
    assert (known["model_type"], known["layers"], known["kv_heads"], known["dtype"]) == ("llama", 2, 2, "bfloat16")
    assert known["quantization"] is None
    (model / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8}')
    assert summary(model) == {"model_type": "bert", "architectures": ["BertModel"]}


@settings(max_examples=60)
@given(data=st.data())
def test_no_file_makes_the_headers_fail_in_another_way(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray(data.draw(st.sampled_from([gguf(), safetensors(a=b"12345", b=b"1")])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("broken") / "m"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    for read in (gguf_header.keys, safetensors_header.tensors):
        with contextlib.suppress(HeaderError):
            read(path)


def test_write_model_is_what_a_runtime_could_load(tmp_path: Path) -> None:
    assert len(inspect(write_model(tmp_path))) == 4


def test_an_adapter_needs_neither_tokenizer_nor_the_models_config(tmp_path: Path) -> None:
    assert [file.path for file in inspect(write_adapter(tmp_path))] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert summary(tmp_path) == {
        "peft_type": "LORA",
        "base_model": "base",
        "rank": 4,
        "alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
    }
    assert summary(write_adapter(tmp_path, rank_pattern={"q_proj": 16}))["rank"] == 16


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"peft_type": "IA3"}, "says `peft_type` 'IA3', and runtimes serve LORA only"),
        ({"r": 0}, "says `r` 0, and a rank is a whole number from 1"),
        ({"r": True}, "says `r` True, and a rank is a whole number from 1"),
        ({"target_modules": None}, "has no `target_modules`, so no runtime knows what it changes"),
        (
            {"use_dora": True},
            (
                "is a DoRA adapter (`use_dora`), which no runtime here serves: train it without, or merge it into the"
                " model"
            ),
        ),
        (
            {"modules_to_save": ["lm_head"]},
            (
                "has whole modules beside its low-rank ones (`modules_to_save`), which no runtime here loads:"
                " train it without, or merge it into the model"
            ),
        ),
    ],
)
def test_an_adapter_that_no_runtime_would_load(tmp_path: Path, config: dict[str, object], problem: str) -> None:
    assert problems(write_adapter(tmp_path, **config)) == [f"adapter_config.json: {problem}"]


def test_everything_that_an_adapter_lacks_at_once(tmp_path: Path) -> None:
    (write_adapter(tmp_path) / "adapter_config.json").write_text("[]")
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    assert problems(tmp_path) == [
        (
            ".: has no adapter_model.safetensors but adapter_model.bin, which may run code when it is loaded:"
            " save it as safetensors"
        ),
        "adapter_config.json: is no JSON object: copy it again",
    ]
    (tmp_path / "adapter_model.bin").unlink()
    assert problems(tmp_path)[0] == (
        ".: is a LoRA adapter without adapter_model.safetensors: add it from where the adapter is from"
    )


def test_an_adapters_tensors_come_in_pairs(tmp_path: Path) -> None:
    file = write_adapter(tmp_path) / "adapter_model.safetensors"
    file.write_bytes(safetensors(**{"q_proj.lora_A.weight": b"1"}))
    assert problems(tmp_path) == [
        ("adapter_model.safetensors: has q_proj.lora_A.weight without q_proj.lora_B.weight: save the adapter again")
    ]
    file.write_bytes(safetensors(w=b"1"))
    assert problems(tmp_path) == [
        ("adapter_model.safetensors: has no tensors of an adapter: their names have lora_A or lora_B in them")
    ]
    file.write_bytes(b"1")
    assert [problem.split(":")[1] for problem in problems(tmp_path)] == [" broken safetensors header"]
