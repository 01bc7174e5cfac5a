"""A model folder of sentence-transformers: its shape, its tokenizer, its weights.

Both backends read the same folder and are given token ids, so that a text is the same numbers to either. What a folder
asks for and this code does not do is refused here: another pooling would give other vectors without a word.
"""

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer

Vectors = NDArray[np.float32]
"""One vector a row."""

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
GRAPH = "model.onnx"
GRAPH_WEIGHTS = "model.onnx.data"
"""Beside the graph, so that they are mapped, where a graph with weights in it is copied while it is loaded."""
"""What `onnx_model` makes of the weights."""
_UNUSED = ("pooler.", "embeddings.position_ids")
"""Tensors of a checkpoint that mean pooling does not read."""


class ModelError(Exception):
    """A model folder that cannot be used; the message is one line that names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a BERT encoder."""

    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocabulary: int
    positions: int
    epsilon: float
    max_tokens: int
    """Longest input that the model was made for, its two special tokens included."""

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of each tensor that the encoder reads."""
        hidden = self.hidden
        yield "embeddings.word_embeddings.weight", (self.vocabulary, hidden)
        yield "embeddings.position_embeddings.weight", (self.positions, hidden)
        yield from _norm("embeddings.LayerNorm", hidden)
        for layer in range(self.layers):
            prefix = f"encoder.layer.{layer}"
            for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
                yield from _linear(f"{prefix}.{part}", hidden, hidden)
            yield from _linear(f"{prefix}.attention.output.dense", hidden, hidden)
            yield from _norm(f"{prefix}.attention.output.LayerNorm", hidden)
            yield from _linear(f"{prefix}.intermediate.dense", self.intermediate, hidden)
            yield from _linear(f"{prefix}.output.dense", hidden, self.intermediate)
            yield from _norm(f"{prefix}.output.LayerNorm", hidden)


def _linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def read_shape(folder: Path) -> Shape:
    """The shape of the model in `folder`; raises ModelError where this code would not compute its vectors."""
    config = _json(folder / "config.json")
    for name, wanted in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        found = config.get(name, wanted)
        if found != wanted:
            raise ModelError(f"{folder}/config.json: {name} is {found!r}, and only {wanted!r} is computed here")
    _check_modules(folder)
    names = (
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_size",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    )
    missing = [name for name in names if not isinstance(config.get(name), int)]
    if missing:
        raise ModelError(f"{folder}/config.json: {', '.join(missing)} must be whole numbers")
    layers, heads, hidden, intermediate, vocabulary, positions = (int(config[name]) for name in names)
    if hidden % heads:
        raise ModelError(f"{folder}/config.json: hidden_size {hidden} does not divide among {heads} heads")
    limit = _json(folder / "sentence_bert_config.json").get("max_seq_length") or positions
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    return Shape(layers, heads, hidden, intermediate, vocabulary, positions, epsilon, min(int(limit), positions))


def _check_modules(folder: Path) -> None:
    modules = _json_list(folder / "modules.json")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds != ["Transformer", "Pooling", "Normalize"]:
        raise ModelError(f"{folder}/modules.json: {kinds} is not Transformer, Pooling, Normalize")
    pooling = _json(folder / str(modules[1].get("path", "")) / "config.json")
    modes = [name for name, value in pooling.items() if name.startswith("pooling_mode_") and value]
    if modes != ["pooling_mode_mean_tokens"] and pooling.get("pooling_mode") != "mean":
        raise ModelError(
            f"{folder}: the pooling is {modes or pooling}, and only the mean of the tokens is computed here"
        )


def read_weights(folder: Path, shape: Shape) -> dict[str, NDArray[np.float32]]:
    """The encoder's tensors in 32-bit floats, whatever they are stored in; raises ModelError where one is not there."""
    # Only for the building of a graph: a process that serves has no need of this package.
    library: Any = importlib.import_module("safetensors.numpy")
    path = folder / WEIGHTS
    try:
        stored = cast("Mapping[str, NDArray[Any]]", library.load_file(path))
    except Exception as error:  # the library's own error is only an Exception
        raise ModelError(f"{path} cannot be read: {error}") from error
    wanted = {**dict(shape.tensors()), "embeddings.token_type_embeddings.weight": None}
    for name, size in wanted.items():
        if name not in stored:
            raise ModelError(f"{path} has no tensor {name}")
        if size is not None and stored[name].shape != size:
            raise ModelError(f"{path}: {name} is {stored[name].shape}, and config.json says {size}")
    unknown = [name for name in stored if name not in wanted and not name.startswith(_UNUSED)]
    if unknown:
        raise ModelError(f"{path} has tensors that are not BERT's: {', '.join(sorted(unknown)[:3])}")
    return {name: stored[name].astype(np.float32) for name in wanted}


class Tokenizer:
    """Texts to token ids, the special tokens at both ends included. Safe to use from several threads."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        path = folder / TOKENIZER
        try:
            self._tokenizer = FastTokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{path} cannot be read: {error}") from error
        # The file's own limits are those of its training; a text must be seen whole to be refused for its length.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        frame = self._tokenizer.encode("").ids
        if len(frame) != 2:
            raise ModelError(f"{path}: an empty text is {len(frame)} tokens, not a first and a last one")
        self._first, self._last = frame
        self.max_tokens = max_tokens
        self.vocabulary = self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, however many they are."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def framed(self, ids: Sequence[int]) -> list[int]:
        """Token ids from a caller with the special tokens at both ends, which are added where they are not there."""
        if len(ids) >= 2 and ids[0] == self._first and ids[-1] == self._last:
            return list(ids)
        return [self._first, *ids, self._last]

    def cut(self, ids: Sequence[int]) -> list[int]:
        """The ids that the model reads of `ids`: the last special token stays the last one."""
        if len(ids) <= self.max_tokens:
            return list(ids)
        return [*ids[: self.max_tokens - 1], self._last]


def _json(path: Path) -> dict[str, Any]:
    document = _document(path)
    if not isinstance(document, dict):
        raise ModelError(f"{path} is not a JSON object")
    return cast("dict[str, Any]", document)


def _json_list(path: Path) -> list[dict[str, Any]]:
    document = _document(path)
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in cast("list[object]", document)):
        raise ModelError(f"{path} is not a list of JSON objects")
    return cast("list[dict[str, Any]]", document)


def _document(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
