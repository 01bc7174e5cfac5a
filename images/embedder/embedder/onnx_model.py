"""Writes a model as an ONNX graph: `python -m embedder.onnx_model MODEL TARGET`, when the CPU image is built.

The graph is a BERT encoder, the mean of its tokens, and that vector at length one: what sentence-transformers computes
from the same folder. It is written straight from the weights, since the usual exporters need PyTorch, which is
gigabytes. The weights
are a file of their own; `TARGET` has the tokenizer and the configuration besides.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedder.model import GRAPH, GRAPH_WEIGHTS, TOKENIZER, ModelError, Shape, read_shape, read_weights

_OPSET = 20
"""The first with Gelu; LayerNormalization is in since 17."""
_IR_VERSION = 10
_FILES = ("config.json", "modules.json", "sentence_bert_config.json", TOKENIZER)
_MASKED = -1e9
"""Added to the score of padding: its exponential is zero beside any real score."""

Array = NDArray[Any]
Weights = dict[str, NDArray[np.float32]]


class _Graph:
    """The nodes and constants of a graph that is being written, and the model that it is of."""

    def __init__(self, shape: Shape, weights: Weights) -> None:
        self.shape = shape
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: set[str] = set()

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def constant(self, name: str, value: Array) -> str:
        """Adds a constant, once for each name; returns the name."""
        if name not in self._names:
            self._names.add(name)
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def build(folder: Path) -> Any:
    """The model in `folder` as an ONNX model: inputs `input_ids` and `attention_mask`, output `embedding`.

    Raises ModelError where the folder does not hold a model that is computed here.
    """
    shape = read_shape(folder)
    graph = _Graph(shape, read_weights(folder, shape))
    state = _embeddings(graph)
    bias = _mask_bias(graph)
    for layer in range(shape.layers):
        state = _layer(graph, f"encoder.layer.{layer}", state, bias)
    _pooling(graph, state)
    text = ["batch", "tokens"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, text) for name in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", shape.hidden])]
    made = helper.make_graph(graph.nodes, "sentence-embedding", inputs, outputs, graph.constants)
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(made, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="embedder")
    checker: Any = onnx.checker
    checker.check_model(model)
    return model


def _embeddings(graph: _Graph) -> str:
    words = graph.constant("words", graph.weights["embeddings.word_embeddings.weight"])
    # Every token is of the first segment, so that segment's vector goes into the positions'.
    segment = graph.weights["embeddings.token_type_embeddings.weight"][0]
    positions = graph.constant("positions", graph.weights["embeddings.position_embeddings.weight"] + segment)
    # The tokens' number as a list of one, as Slice wants it.
    length = graph.add("Shape", "input_ids", start=1, end=2)
    zero = graph.constant("zero", np.array([0], np.int64))
    placed = graph.add("Slice", positions, zero, length)
    return _norm(graph, "embeddings.LayerNorm", graph.add("Add", graph.add("Gather", words, "input_ids"), placed))


def _mask_bias(graph: _Graph) -> str:
    """What is added to attention scores: nothing for a token, `_MASKED` for padding."""
    there = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    absent = graph.add("Sub", graph.constant("one", np.array([1], np.float32)), there)
    bias = graph.add("Mul", absent, graph.constant("masked", np.array([_MASKED], np.float32)))
    return graph.add("Unsqueeze", bias, graph.constant("head_and_query", np.array([1, 2], np.int64)))


def _layer(graph: _Graph, name: str, state: str, bias: str) -> str:
    mixed = _linear(graph, f"{name}.attention.output.dense", _attention(graph, name, state, bias))
    state = _norm(graph, f"{name}.attention.output.LayerNorm", graph.add("Add", mixed, state))
    wide = graph.add("Gelu", _linear(graph, f"{name}.intermediate.dense", state))
    narrow = _linear(graph, f"{name}.output.dense", wide)
    return _norm(graph, f"{name}.output.LayerNorm", graph.add("Add", narrow, state))


def _attention(graph: _Graph, name: str, state: str, bias: str) -> str:
    shape = graph.shape
    width = shape.hidden // shape.heads
    heads = graph.constant("heads", np.array([0, 0, shape.heads, width], np.int64))
    # The scores' factor goes into the queries' weights: one multiplication less for each pair of tokens.
    query, key, value = (
        graph.add("Reshape", _linear(graph, f"{name}.attention.self.{part}", state, factor), heads)
        for part, factor in (("query", width**-0.5), ("key", 1.0), ("value", 1.0))
    )
    scores = graph.add("MatMul", _permuted(graph, query, 0, 2, 1, 3), _permuted(graph, key, 0, 2, 3, 1))
    shares = graph.add("Softmax", graph.add("Add", scores, bias), axis=-1)
    mixed = _permuted(graph, graph.add("MatMul", shares, _permuted(graph, value, 0, 2, 1, 3)), 0, 2, 1, 3)
    return graph.add("Reshape", mixed, graph.constant("joined", np.array([0, 0, shape.hidden], np.int64)))


def _permuted(graph: _Graph, name: str, *axes: int) -> str:
    return graph.add("Transpose", name, perm=list(axes))


def _linear(graph: _Graph, name: str, state: str, factor: float = 1.0) -> str:
    weight = graph.constant(f"{name}.weight", graph.weights[f"{name}.weight"].T * np.float32(factor))
    bias = graph.constant(f"{name}.bias", graph.weights[f"{name}.bias"] * np.float32(factor))
    return graph.add("Add", graph.add("MatMul", state, weight), bias)


def _norm(graph: _Graph, name: str, state: str) -> str:
    scale = graph.constant(f"{name}.weight", graph.weights[f"{name}.weight"])
    bias = graph.constant(f"{name}.bias", graph.weights[f"{name}.bias"])
    return graph.add("LayerNormalization", state, scale, bias, axis=-1, epsilon=graph.shape.epsilon)


def _pooling(graph: _Graph, state: str) -> None:
    last = graph.constant("last_axis", np.array([2], np.int64))
    there = graph.add("Unsqueeze", graph.add("Cast", "attention_mask", to=TensorProto.FLOAT), last)
    tokens = graph.constant("tokens_axis", np.array([1], np.int64))
    total = graph.add("ReduceSum", graph.add("Mul", state, there), tokens, keepdims=0)
    mean = graph.add("Div", total, graph.add("ReduceSum", there, tokens, keepdims=0))
    length = graph.add("ReduceL2", mean, tokens, keepdims=1)
    # As PyTorch's normalize: a vector of zeros stays one.
    positive = graph.add("Max", length, graph.constant("smallest", np.array([1e-12], np.float32)))
    graph.nodes.append(helper.make_node("Div", [mean, positive], ["embedding"], "normalized"))


def write(folder: Path, target: Path) -> None:
    """Writes the model in `folder` to `target`, a folder that the ONNX backend loads; raises ModelError."""
    model = build(folder)
    target.mkdir(parents=True, exist_ok=True)
    # What is there would be added to.
    (target / GRAPH_WEIGHTS).unlink(missing_ok=True)
    library: Any = onnx
    library.save_model(model, str(target / GRAPH), save_as_external_data=True, location=GRAPH_WEIGHTS)
    (target / GRAPH_WEIGHTS).chmod(0o644)  # it is made for its owner alone, and the image runs as another user
    for name in _FILES:
        shutil.copyfile(folder / name, target / name)
    shutil.copytree(folder / "1_Pooling", target / "1_Pooling", dirs_exist_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="onnx_model", description="Write a model as an ONNX graph.")
    parser.add_argument("model", type=Path, help="folder of a sentence-transformers model")
    parser.add_argument("target", type=Path, help="folder to write")
    options = parser.parse_args(arguments)
    try:
        write(options.model, options.target)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
