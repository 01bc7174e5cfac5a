"""The gateway embeds in its own process: the same vectors as the service's, and nobody waits for it."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from embedder import onnx_model
from embedder.app import application
from embedder.config import Settings
from embedder.model import Tokenizer, read_shape
from embedder.onnx_backend import OnnxBackend
from embedder.service import Embedder as EmbeddingServer
from llm_gateway import in_process
from llm_gateway.config import SemanticConfig
from llm_gateway.embedding import EmbedderBusyError, EmbedderService, EmbeddingError, TextRefusedError, embedder
from llm_gateway.in_process import MOST_TEXTS, InProcessEmbedder
from llm_gateway.vector_index import Vector

from local import verify_embedder
from tests.embedder_harness import MODEL, write_model
from tests.gateway_harness import (
    CHAT,
    QUESTION,
    SOURCE,
    Client,
    FakeModel,
    RedisServer,
    eventually,
    gateway_for,
    have_redis,
    serving,
    settled,
)

LOOKUPS = "llm_gateway_semantic_cache_lookups_total"
TEXTS = ("a cat sat on the mat.", "the dog?", "cat", "cat cat dogs sat")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder / "model")
    onnx_model.write(folder / "model", folder / "graph")
    return folder / "graph"


@pytest.fixture(scope="module")
def real_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model."""
    folder = tmp_path_factory.mktemp("real") / "graph"
    onnx_model.write(verify_embedder.model_folder(), folder)
    return folder


@asynccontextmanager
async def embedding(folder: Path, **settings: Any) -> AsyncGenerator[InProcessEmbedder]:
    made = embedder(SemanticConfig(model_dir=folder, **settings))
    assert isinstance(made, InProcessEmbedder)
    try:
        await made.open()
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def service(folder: Path) -> AsyncGenerator[EmbedderService]:
    """The embedder's own service with the same model, and the gateway's client of it."""
    tokenizer = Tokenizer(folder, read_shape(folder).max_tokens)
    server = EmbeddingServer(Settings(model_dir=folder, model_name=MODEL), tokenizer, OnnxBackend(folder, 1))
    runner = web.AppRunner(application(server), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = embedder(SemanticConfig(embedder_url=url, embedder_model=MODEL))
    assert isinstance(client, EmbedderService)
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()
        await server.close()


async def test_the_vectors_are_the_services(graph: Path) -> None:
    async with embedding(graph) as own, service(graph) as other:
        for text in TEXTS:
            np.testing.assert_allclose(await own.embed(text), await other.embed(text), atol=2e-7)


async def test_the_real_models_vectors_are_the_services(real_graph: Path) -> None:
    async with embedding(real_graph) as own, service(real_graph) as other:
        for text in [each for each in verify_embedder.sentences() if len(each) < 100][::10]:
            mine, theirs = await own.embed(text), await other.embed(text)
            assert float(mine @ theirs) >= 0.999999
            assert np.linalg.norm(mine) == pytest.approx(1, abs=1e-5)


async def test_a_text_that_is_too_long_is_refused_by_both(graph: Path) -> None:
    long = "cat " * 15  # and two special tokens, of 16 that the model reads
    async with embedding(graph) as own, service(graph) as other:
        for each in (own, other):
            with pytest.raises(TextRefusedError):
                await each.embed(long)
        assert len(await own.embed("cat " * 14)) == 32


class Held:
    """A model that computes when it may."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.free = Event()

    def vector(self, text: str) -> Vector:
        self.texts.append(text)
        assert self.free.wait(10)
        if text == "broken":
            raise RuntimeError(text)
        return np.eye(1, 32, dtype=np.float32)[0]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    model = Held()

    def load(*_: object) -> Held:
        return model

    monkeypatch.setattr(in_process, "_load", load)
    return model


async def test_only_so_many_texts_wait_and_the_event_loop_does_not(held: Held) -> None:
    async with embedding(Path("/nowhere")) as own:
        waiting = [asyncio.ensure_future(own.embed(str(number))) for number in range(MOST_TEXTS)]
        await eventually(lambda: held.texts == ["0"])
        with pytest.raises(EmbedderBusyError):
            await own.embed("one too many")
        held.free.set()
        vectors = await asyncio.gather(*waiting)
        assert len(await own.embed("again")) == 32
    assert len(vectors) == MOST_TEXTS
    assert held.texts == ["0", "1", "2", "3", "again"]


async def test_a_lookup_that_gives_up_takes_its_text_back(held: Held) -> None:
    async with embedding(Path("/nowhere")) as own:
        computed = asyncio.ensure_future(own.embed("computed"))
        await eventually(lambda: held.texts == ["computed"])
        for _ in range(3 * MOST_TEXTS):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await own.embed("late")
        held.free.set()
        await computed
        await own.embed("next")
    assert held.texts == ["computed", "next"]


async def test_whatever_the_libraries_raise_is_a_fault_of_one_text(held: Held) -> None:
    held.free.set()
    async with embedding(Path("/nowhere")) as own:
        for _ in range(2 * MOST_TEXTS):
            with pytest.raises(EmbeddingError, match="RuntimeError"):
                await own.embed("broken")
        assert len(await own.embed("whole")) == 32


async def test_a_model_that_is_not_there_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = embedder(SemanticConfig(model_dir=tmp_path))
    with pytest.raises(EmbeddingError, match="ModelError"):
        await own.open()
    with pytest.raises(EmbedderBusyError):
        await own.embed("cat")
    await own.close()
    assert f"the embedding model can't be loaded: {tmp_path}/config.json cannot be read" in caplog.text


async def test_a_new_configuration_uses_the_model_that_is_loaded(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    load: Callable[..., object] = in_process._Model  # pyright: ignore[reportPrivateUsage]

    def counted(folder: Path, threads: int) -> object:
        loaded.append(folder)
        return load(folder, threads)

    monkeypatch.setattr(in_process, "_Model", counted)
    in_process._load.cache_clear()  # pyright: ignore[reportPrivateUsage]
    async with embedding(graph) as one, embedding(graph, max_entries=5) as other:
        np.testing.assert_array_equal(await one.embed("cat"), await other.embed("cat"))
    assert loaded == [graph]


def test_only_a_gateway_that_embeds_itself_has_the_libraries() -> None:
    script = """
import asyncio, json, sys
from llm_gateway import gateway
from llm_gateway.config import SemanticConfig
from llm_gateway.embedding import embedder

async def main():
    found = []
    for config in (SemanticConfig(embedder_url="http://e"), SemanticConfig()):
        await embedder(config).close()
        found.append(sorted({"embedder", "onnxruntime", "tokenizers"} & sys.modules.keys()))
    print(json.dumps(found))

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, check=True
    )
    # ONNX Runtime only when the model is loaded.
    assert json.loads(done.stdout) == [[], ["embedder", "tokenizers"]]


@asynccontextmanager
async def running(redis: RedisServer, folder: Path, **semantic: Any) -> AsyncGenerator[tuple[Client, FakeModel]]:
    """A gateway that embeds itself, and its model."""
    async with serving(FakeModel()) as model:
        tier = {"model_dir": str(folder), "timeout_seconds": 2, "retry_seconds": 0.2, **semantic}
        config = {
            "models": {"m": {"url": model.url, "semantic_cache": {"mode": "answer", "threshold": 0.9}}},
            "cache": {"enabled": True, "url_file": str(redis.url_file), "timeout_seconds": 1, "semantic": tier},
        }
        async with gateway_for(config) as client:
            await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
            yield client, model


async def in_use(client: Client) -> None:
    await eventually(lambda: client.gateway.backend.semantic._index is not None)  # pyright: ignore


async def ask(client: Client, text: str) -> dict[str, str]:
    """The headers of the answer to `text`; what it stored can be found afterwards."""
    body = {**QUESTION, "messages": [{"role": "user", "content": text}]}
    status, headers, _ = await client.post(CHAT, body)
    assert status == 200
    connection = await settled(client)
    backend = client.gateway.backend
    assert backend.semantic is not None
    if backend.semantic._index is not None:  # pyright: ignore[reportPrivateUsage]
        await backend.semantic._follow(connection)  # pyright: ignore[reportPrivateUsage]
    return headers


needs_redis = pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")


@needs_redis
async def test_the_real_model_knows_a_question_in_other_words(redis: RedisServer, real_graph: Path) -> None:
    async with running(redis, real_graph) as (client, model):
        await in_use(client)
        first = await ask(client, "How do I sort a list of 12 names in Python?")
        again = await ask(client, "How can I sort a list of 12 names in Python?")
        number = await ask(client, "How can I sort a list of 13 names in Python?")
        other = await ask(client, "Where do whales sleep at night?")
    assert [each["x-cache"] for each in (first, again, number, other)] == ["miss", "hit", "miss", "miss"]
    assert 0.9 <= float(again["x-cache-similarity"]) < 1
    assert model.calls == 3


@needs_redis
async def test_a_slow_model_costs_the_deadline_and_no_more(redis: RedisServer, held: Held) -> None:
    async with running(redis, Path("/nowhere"), timeout_seconds=0.05, retry_seconds=30) as (client, model):
        await in_use(client)
        began = time.monotonic()
        for number in range(10):
            assert (await ask(client, f"Why {number}?"))["x-cache"] == "miss"
        seconds = time.monotonic() - began
        unavailable = client.metric(LOOKUPS, model="m", result="unavailable")
        errors = client.metric("llm_gateway_semantic_cache_errors_total", operation="embed", kind="TimeoutError")
        held.free.set()
    # Three lookups take the deadline each; then none is tried for a while.
    assert seconds < 2
    assert (model.calls, unavailable, errors, held.texts) == (10, 10, 3, ["Why 0?"])


@needs_redis
async def test_requests_do_not_wait_for_one_another(redis: RedisServer, held: Held) -> None:
    async with running(redis, Path("/nowhere"), timeout_seconds=5) as (client, model):
        await in_use(client)
        bodies = [{**QUESTION, "messages": [{"role": "user", "content": f"Why {number}?"}]} for number in range(20)]
        asked = [asyncio.ensure_future(client.post(CHAT, body)) for body in bodies]
        await eventually(lambda: model.calls == 20 - MOST_TEXTS)
        busy = client.metric(LOOKUPS, model="m", result="busy")
        held.free.set()
        answers = await asyncio.gather(*asked)
    assert {status for status, _, _ in answers} == {200}
    assert busy == 20 - MOST_TEXTS


@needs_redis
async def test_a_model_that_can_not_be_loaded_costs_nobody_an_answer(redis: RedisServer, tmp_path: Path) -> None:
    async with running(redis, tmp_path) as (client, model):
        errors = "llm_gateway_semantic_cache_errors_total"
        await eventually(lambda: client.metric(errors, operation="follow", kind="ModelError") > 0)
        assert (await ask(client, "Why is the sky blue?"))["x-cache"] == "miss"
        assert (await ask(client, "Why is the sky blue?"))["x-cache"] == "hit"  # of the exact tier
        assert client.metric(LOOKUPS, model="m", result="unavailable") == 1
    assert model.calls == 1
