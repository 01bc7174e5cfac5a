"""What is read of a model folder, what is refused of it, and how texts become token ids."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedder.cpus import available_cpus, computes_bfloat16
from embedder.model import ModelError, Tokenizer, read_shape, read_weights

from tests.embedder_harness import CAT, CLS, HIDDEN, MAX_TOKENS, SEP, WORDS, save_weights, write_json, write_model


def test_the_shape_is_the_configurations(tmp_path: Path) -> None:
    write_model(tmp_path)

    shape = read_shape(tmp_path)

    assert (shape.layers, shape.heads, shape.hidden, shape.intermediate) == (2, 4, HIDDEN, 64)
    assert (shape.vocabulary, shape.positions, shape.max_tokens) == (len(WORDS), 24, MAX_TOKENS)


def test_without_a_limit_of_its_own_a_model_reads_as_far_as_it_has_positions(tmp_path: Path) -> None:
    write_model(tmp_path)
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": None})

    assert read_shape(tmp_path).max_tokens == 24


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "mpnet"}, "model_type is 'mpnet', and only 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"num_hidden_layers": None}, "num_hidden_layers must be whole numbers"),
        ({"num_attention_heads": 5}, "32 does not divide among 5 heads"),
    ],
)
def test_a_model_that_is_not_computed_here_is_refused(tmp_path: Path, config: dict[str, Any], named: str) -> None:
    write_model(tmp_path)
    path = tmp_path / "config.json"
    write_json(path, {**json.loads(path.read_text()), **config})

    with pytest.raises(ModelError, match=named):
        read_shape(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "only the mean of the tokens"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "only the mean"),
        ("modules.json", [{"type": "a.Transformer"}, {"type": "a.Pooling"}], "is not Transformer, Pooling, Normalize"),
        ("modules.json", {"type": "Transformer"}, "modules.json is not a list of JSON objects"),
        ("config.json", [], "config.json is not a JSON object"),
    ],
)
def test_a_folder_that_asks_for_something_else_is_refused(
    tmp_path: Path, file: str, content: object, named: str
) -> None:
    write_model(tmp_path)
    write_json(tmp_path / file, content)

    with pytest.raises(ModelError, match=named):
        read_shape(tmp_path)


def test_a_pooling_that_is_named_by_one_word(tmp_path: Path) -> None:
    write_model(tmp_path)
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode": "mean"})

    assert read_shape(tmp_path).hidden == HIDDEN


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"modules\.json is not JSON"):
        read_shape(tmp_path)

    (tmp_path / "modules.json").unlink()
    with pytest.raises(ModelError, match=r"modules\.json cannot be read: No such file"):
        read_shape(tmp_path)


def test_weights_of_sixteen_bits_are_read_as_thirty_two(tmp_path: Path) -> None:
    stored = write_model(tmp_path, np.float16)

    weights = read_weights(tmp_path, read_shape(tmp_path))

    assert {each.dtype for each in weights.values()} == {np.dtype(np.float32)}
    for name, each in weights.items():
        np.testing.assert_array_equal(each, stored[name].astype(np.float32))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    tensors = write_model(tmp_path)
    shape = read_shape(tmp_path)
    name = "encoder.layer.1.output.dense.bias"

    save_weights(tmp_path, {**tensors, "lm_head.weight": tensors[name]})
    with pytest.raises(ModelError, match=r"not BERT's: lm_head\.weight"):
        read_weights(tmp_path, shape)
    save_weights(tmp_path, {**tensors, name: tensors[name][:-1]})
    with pytest.raises(ModelError, match=r"output\.dense\.bias is \(31,\), and config\.json says \(32,\)"):
        read_weights(tmp_path, shape)
    save_weights(tmp_path, {each: value for each, value in tensors.items() if each != name})
    with pytest.raises(ModelError, match=r"has no tensor encoder\.layer\.1\.output\.dense\.bias"):
        read_weights(tmp_path, shape)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        read_weights(tmp_path, shape)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        read_weights(tmp_path, shape)


def test_a_text_is_all_its_tokens_between_the_two_special_ones(tmp_path: Path) -> None:
    write_model(tmp_path)
    tokenizer = Tokenizer(tmp_path, MAX_TOKENS)

    short, long, unknown = tokenizer.encode(["Cats", "cat " * 20, "xyz"])

    assert [WORDS[each] for each in short] == ["[CLS]", "cat", "##s", "[SEP]"]
    assert long == [CLS, *[CAT] * 20, SEP]
    assert [WORDS[each] for each in unknown] == ["[CLS]", "[UNK]", "[SEP]"]


def test_what_is_cut_still_ends_with_the_last_special_token(tmp_path: Path) -> None:
    write_model(tmp_path)
    tokenizer = Tokenizer(tmp_path, MAX_TOKENS)

    assert tokenizer.cut([CLS, *[CAT] * 20, SEP]) == [CLS, *[CAT] * 14, SEP]
    assert tokenizer.cut([CLS, CAT, SEP]) == [CLS, CAT, SEP]


@pytest.mark.parametrize("ids", [[CAT], [CLS, CAT, SEP]])
def test_ids_get_the_special_tokens_that_they_lack(tmp_path: Path, ids: list[int]) -> None:
    write_model(tmp_path)

    assert Tokenizer(tmp_path, MAX_TOKENS).framed(ids) == [CLS, CAT, SEP]


def test_a_tokenizer_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    path = tmp_path / "tokenizer.json"
    without_frame = {**json.loads(path.read_text()), "post_processor": None}
    write_json(path, without_frame)
    with pytest.raises(ModelError, match="an empty text is 0 tokens"):
        Tokenizer(tmp_path, MAX_TOKENS)

    path.write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        Tokenizer(tmp_path, MAX_TOKENS)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "1600000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_threads_follow_the_containers_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
) -> None:
    def affinity(_: int) -> set[int]:
        return set(range(8))

    monkeypatch.setattr("os.sched_getaffinity", affinity)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")

    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(
    ("cpuinfo", "computes"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse2\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("flags\t\t: fpu avx512f avx512bw\n", False),
        ("flags\t\t: fpu avx_vnni_bf16x\n", False),
        ("Features\t: fp asimd bf16\n", False),
        (None, False),
    ],
)
def test_bfloat16_is_what_the_processor_names(tmp_path: Path, cpuinfo: str | None, computes: bool) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert computes_bfloat16(tmp_path / "cpuinfo") is computes
