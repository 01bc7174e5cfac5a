"""A tiny model with random weights, and an embedder that serves it: what the embedder's tests share."""

import importlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import orjson
from aiohttp import ClientSession, web
from embedder.app import EMBEDDINGS_PATH, application
from embedder.config import Settings
from embedder.model import Tokenizer, Vectors, read_shape
from embedder.service import Embedder
from numpy.typing import NDArray

HIDDEN = 32
MAX_TOKENS = 16
MODEL = "tiny"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "cat", "dog", "sat", "##s", "on", "mat", ".", "?")
CLS, SEP, CAT = WORDS.index("[CLS]"), WORDS.index("[SEP]"), WORDS.index("cat")
_POSITIONS = 24
_CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": _POSITIONS,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "vocab_size": len(WORDS),
}
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
_POOLING = {
    "word_embedding_dimension": HIDDEN,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
}
_SPECIAL = {"[CLS]": CLS, "[SEP]": SEP}
_TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    # As the real file has them: limits of the training, which must not apply.
    "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    "padding": {
        "strategy": {"Fixed": 4},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    },
    "added_tokens": [],
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [each], "tokens": [name]} for name, each in _SPECIAL.items()},
    },
    "decoder": None,
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: number for number, word in enumerate(WORDS)},
    },
}


def save_weights(folder: Path, tensors: dict[str, NDArray[Any]]) -> None:
    """Writes the weights of a model folder."""
    library: Any = importlib.import_module("safetensors.numpy")
    library.save_file(tensors, folder / "model.safetensors")


def write_json(path: Path, content: object) -> None:
    """Writes a file of a model folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_model(folder: Path, dtype: type[np.floating[Any]] = np.float32, **config: Any) -> dict[str, NDArray[Any]]:
    """Writes a model of two layers, 32 wide, with random weights; returns its tensors. `config` changes its fields."""
    write_json(folder / "config.json", {**_CONFIG, **config})
    write_json(folder / "modules.json", _MODULES)
    write_json(folder / "1_Pooling" / "config.json", _POOLING)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    write_json(folder / "tokenizer.json", _TOKENIZER)
    random = np.random.default_rng(0)
    sizes = {**dict(read_shape(folder).tensors()), "embeddings.token_type_embeddings.weight": (2, HIDDEN)}
    tensors: dict[str, NDArray[Any]] = {name: random.normal(0, 0.3, size).astype(dtype) for name, size in sizes.items()}
    tensors["embeddings.position_ids"] = np.arange(_POSITIONS, dtype=np.int64)[None]
    tensors["pooler.dense.bias"] = np.zeros(HIDDEN, dtype)
    save_weights(folder, tensors)
    return tensors


class FakeBackend:
    """A backend whose vectors tell what it was given: the number of tokens, then the first ids."""

    name = "fake"
    device = "cpu"
    dimensions = HIDDEN

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.free = Event()
        """While it is not set, a batch does not end."""
        self.free.set()
        self.failure: Exception | None = None

    def embed(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        self.batches.append([list(each) for each in inputs])
        assert self.free.wait(10)
        if self.failure is not None:
            raise self.failure
        vectors = np.zeros((len(inputs), HIDDEN), np.float32)
        for vector, each in zip(vectors, inputs, strict=True):
            known = [len(each), *each][:HIDDEN]
            vector[: len(known)] = known
        return vectors


class Client:
    """A caller of one embedder."""

    def __init__(self, embedder: Embedder, backend: FakeBackend, url: str, session: ClientSession) -> None:
        self.embedder = embedder
        self.backend = backend
        self.url = url
        self.session = session

    async def post(self, body: object, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], Any]:
        """Status, headers (names in lower case) and parsed body of the answer."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.session.post(self.url + EMBEDDINGS_PATH, data=data, headers=headers) as response:
            content = orjson.loads(await response.read())
            return response.status, {name.lower(): value for name, value in response.headers.items()}, content

    async def embed(self, value: object, **fields: Any) -> tuple[int, dict[str, str], Any]:
        """The answer to a request with this `input`."""
        return await self.post({"model": MODEL, "input": value, **fields})

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of the answer."""
        async with self.session.get(self.url + path) as response:
            return response.status, await response.text()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 where it was never touched."""
        return self.embedder.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def embedder_for(folder: Path, **settings: Any) -> AsyncGenerator[Client]:
    """An embedder with the tokenizer of a tiny model and a fake backend on a free port, and a caller of it."""
    write_model(folder)
    backend = FakeBackend()
    embedder = Embedder(
        Settings(model_dir=folder, model_name=MODEL, **settings), Tokenizer(folder, MAX_TOKENS), backend
    )
    runner = web.AppRunner(application(embedder), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as session:
            yield Client(embedder, backend, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    finally:
        backend.free.set()
        await runner.cleanup()
        await embedder.close()
