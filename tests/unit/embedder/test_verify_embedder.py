"""The comparison of the two backends counts what it should, with a tiny model and no PyTorch."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from embedder import onnx_model
from embedder.model import read_shape, read_weights

from local import served_embedder, verify_embedder
from local.errors import LocalError
from local.verify_embedder import Side, compared, report
from tests.embedder_harness import HIDDEN, write_model


def test_there_are_two_hundred_sentences_and_none_is_there_twice() -> None:
    sentences = verify_embedder.sentences()

    assert len(sentences) == len(set(sentences)) == 200
    assert all(sentences)


def test_the_least_cosine_counts_whatever_the_vectors_lengths() -> None:
    one = np.eye(200, 8, dtype=np.float32) + np.float32(0.1)
    other = one * np.float32(2)
    other[7] = [3, 0, 0, 0, 0, 0, 0, 4]

    found = compared("a", one, "b", other)

    expected = one[7] @ other[7] / (np.linalg.norm(one[7]) * np.linalg.norm(other[7]))
    assert found.min_cosine == pytest.approx(float(expected), abs=1e-6)
    assert found.mean_cosine == pytest.approx((199 + float(expected)) / 200, abs=1e-6)
    assert found.worst == verify_embedder.sentences()[7][:60]


def test_a_report_holds_while_the_sides_agree(tmp_path: Path) -> None:
    write_model(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(200, HIDDEN)).astype(np.float32)
    base = Side("onnx cpu", {"onnx cpu": vectors}, [], {"numpy": "2"})
    torch = Side("torch cpu", {"torch cpu": vectors}, [], {"torch": "2"}, {"exit_status": 0})

    assert report(tmp_path, [base, torch], None)["holds"]
    assert not report(tmp_path, [base, replace(torch, vectors={"torch cpu": vectors[::-1]})], None)["holds"]
    assert not report(tmp_path, [base, replace(torch, served={"exit_status": 1})], None)["holds"]


def test_the_model_with_weights_of_half_the_size_is_the_same_model(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config_sentence_transformers.json"):
        (tmp_path / "model" / name).write_text("{}")
    verify_embedder.write_half(tmp_path / "model", tmp_path / "half")

    shape = read_shape(tmp_path / "half")
    halved, whole = read_weights(tmp_path / "half", shape), read_weights(tmp_path / "model", shape)
    for name, each in whole.items():
        np.testing.assert_array_equal(halved[name], each.astype(np.float16).astype(np.float32))


def test_a_running_embedder_is_asked_by_many_and_at_once(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    onnx_model.write(tmp_path / "model", tmp_path / "graph")

    served = served_embedder.ask(Path(sys.executable), tmp_path / "graph", "onnx", "cpu", ["the cat", "a dog"] * 10)

    alone, at_once = served.vectors.values()
    assert alone.shape == (20, HIDDEN)
    np.testing.assert_allclose(alone, at_once, atol=1e-6)
    assert served.exit_status == 0
    assert served.inputs_per_batch >= 1


def test_an_embedder_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"did not start: it said: .*config\.json cannot be read"):
        served_embedder.ask(Path(sys.executable), tmp_path, "onnx", "cpu", ["a"])
