"""The ONNX graph computes what a BERT encoder, the mean of its tokens and their norm are, written down once more."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedder import onnx_model
from embedder.backend import Passes, in_passes, padded
from embedder.cpus import computes_bfloat16
from embedder.model import GRAPH, GRAPH_WEIGHTS, ModelError, Vectors
from embedder.onnx_backend import OnnxBackend
from numpy.typing import NDArray

from tests.embedder_harness import CAT, CLS, SEP, write_json, write_model

Array = NDArray[np.float64]
HEADS, WIDTH = 4, 8
INPUTS = [[CLS, CAT, SEP], [CLS, 4, 6, 8, 10, 4, 11, 12, SEP], [CLS, SEP], [CLS, *[5, 7, 9, 13] * 3, 12, 12, SEP]]
"""From two tokens to sixteen."""


def reference(tensors: dict[str, NDArray[Any]], ids: Sequence[int]) -> Array:
    """The vector of one input, in 64-bit floats, with no padding."""
    weights = {name: value.astype(np.float64) for name, value in tensors.items()}
    words = weights["embeddings.word_embeddings.weight"][list(ids)]
    places = weights["embeddings.position_embeddings.weight"][: len(ids)]
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    state = norm(weights, "embeddings.LayerNorm", words + places + segment)
    for layer in range(2):
        name = f"encoder.layer.{layer}"
        attended = linear(weights, f"{name}.attention.output.dense", attention(weights, name, state))
        state = norm(weights, f"{name}.attention.output.LayerNorm", state + attended)
        wide = gelu(linear(weights, f"{name}.intermediate.dense", state))
        state = norm(weights, f"{name}.output.LayerNorm", state + linear(weights, f"{name}.output.dense", wide))
    mean = state.mean(0)
    return mean / np.linalg.norm(mean)


def attention(weights: dict[str, Array], name: str, state: Array) -> Array:
    parts = [linear(weights, f"{name}.attention.self.{part}", state) for part in ("query", "key", "value")]
    outputs: list[Array] = []
    for head in range(HEADS):
        query, key, value = (part[:, head * WIDTH : (head + 1) * WIDTH] for part in parts)
        scores = np.exp(query @ key.T / math.sqrt(WIDTH))
        outputs.append(scores / scores.sum(1, keepdims=True) @ value)
    return np.concatenate(outputs, 1)


def linear(weights: dict[str, Array], name: str, state: Array) -> Array:
    return state @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: dict[str, Array], name: str, state: Array) -> Array:
    centred = state - state.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(state: Array) -> Array:
    return state * 0.5 * (1 + np.vectorize(math.erf)(state / math.sqrt(2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_graph_computes_what_the_reference_does(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    tensors = write_model(tmp_path / "model", dtype)
    onnx_model.write(tmp_path / "model", tmp_path / "graph")

    vectors = OnnxBackend(tmp_path / "graph", threads=1, bfloat16=False).embed(INPUTS)

    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [reference(tensors, each) for each in INPUTS], atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_bfloat16_gives_the_reference_s_vectors_but_for_rounding(tmp_path: Path) -> None:
    tensors = write_model(tmp_path / "model")
    onnx_model.write(tmp_path / "model", tmp_path / "graph")

    vectors = OnnxBackend(tmp_path / "graph", threads=1, bfloat16=True).embed(INPUTS)

    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    expected = np.array([reference(tensors, each) for each in INPUTS])
    assert ((vectors * expected).sum(1) > 0.999).all()
    if computes_bfloat16():
        assert np.abs(vectors - expected).max() > 1e-5, "nothing was rounded"


def test_an_inputs_vector_does_not_depend_on_what_it_is_computed_with(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    onnx_model.write(tmp_path / "model", tmp_path / "graph")
    backend = OnnxBackend(tmp_path / "graph", threads=1, bfloat16=False)

    alone = np.concatenate([backend.embed([each]) for each in INPUTS])

    np.testing.assert_allclose(backend.embed(INPUTS), alone, atol=1e-6, rtol=0)


def test_the_same_model_gives_the_same_file(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    for name in ("one", "other"):
        onnx_model.write(tmp_path / "model", tmp_path / name)

    for name in (GRAPH, GRAPH_WEIGHTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_graph_that_is_written_again_replaces_the_old_one_and_every_user_may_read_it(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    onnx_model.write(tmp_path / "model", tmp_path / "graph")
    size = (tmp_path / "graph" / GRAPH_WEIGHTS).stat().st_size

    onnx_model.write(tmp_path / "model", tmp_path / "graph")

    assert (tmp_path / "graph" / GRAPH_WEIGHTS).stat().st_size == size
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (tmp_path / "graph").rglob("*"))


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "model")
    assert onnx_model.main([str(tmp_path / "model"), str(tmp_path / "graph")]) == 0

    write_json(tmp_path / "model/config.json", {"model_type": "t5"})
    assert onnx_model.main([str(tmp_path / "model"), str(tmp_path / "graph")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_graph_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")

    with pytest.raises(ModelError, match=r"model\.onnx cannot be loaded"):
        OnnxBackend(tmp_path)


EXACT = Passes(tokens=10, stretch=100, slack=0)
"""Passes that hold ten tokens, however much of that is padding."""


def test_passes_hold_inputs_of_like_length_and_answers_keep_their_places() -> None:
    inputs = [[length] * length for length in (3, 1, 9, 2, 8, 1)]
    shapes: list[tuple[int, ...]] = []

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Vectors:
        shapes.append(ids.shape)
        assert (mask.sum(1) == ids[:, 0]).all()
        return ids[:, :1].astype(np.float32)

    vectors = in_passes(inputs, EXACT, 1, run)

    assert vectors[:, 0].tolist() == [3, 1, 9, 2, 8, 1]
    # Never more than ten padded tokens, and the one input of nine is not computed with the shortest.
    assert shapes == [(3, 2), (1, 3), (1, 8), (1, 9)]


@pytest.mark.parametrize(
    ("passes", "lengths", "expected"),
    [
        (EXACT, [], []),
        (EXACT, [30, 1], [[1], [0]]),
        (Passes(tokens=100, stretch=1, slack=0), [4, 5, 4, 5], [[0, 2], [1, 3]]),
        (Passes(tokens=100, stretch=1.25, slack=0), [4, 5, 4, 5], [[0, 2, 1, 3]]),
        (Passes(tokens=100, stretch=1.25, slack=0), [4, 9, 4, 5], [[0, 2, 3], [1]]),
        (Passes(tokens=100, stretch=1.25, slack=20), [4, 9, 4, 5], [[0, 2, 3, 1]]),
    ],
)
def test_little_padding_is_computed(passes: Passes, lengths: list[int], expected: list[list[int]]) -> None:
    assert list(passes.divide(lengths)) == expected


def test_the_shorter_of_a_pass_are_filled_up_and_masked() -> None:
    ids, mask = padded([[1, 2, 3], [4]])

    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
