"""The front ends on llama.cpp with the local environment's own model: what they report is what the engine did."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from local import ports, weights
from tests.model_files import write_random_adapter
from tests.unit.local_runtime_harness import launch, serving

CACHED = weights.CACHE / "weights" / f"{weights.PACKAGE}-{weights.VERSION}"
PROMPT = "One two three four five six seven eight nine ten. One two three four"


@pytest.fixture(scope="module", autouse=True)
def downloaded() -> None:
    assert weights.smollm2() == CACHED


@asynccontextmanager
async def opened(module: str, ready: bytes, *arguments: str) -> AsyncGenerator[aiohttp.ClientSession]:
    port = ports.free()
    server = (*arguments, "--host", "127.0.0.1", "--port", str(port))
    async with (
        serving(module, *server, ready=ready, engine="llama.cpp"),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        yield http


async def complete(http: aiohttp.ClientSession, **change: Any) -> dict[str, Any]:
    body = {"model": "m", "prompt": PROMPT, "max_tokens": 4, "temperature": 0, **change}
    async with http.post("/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def values(http: aiohttp.ClientSession) -> dict[str, float]:
    async with http.get("/metrics") as answer:
        families = list(text_string_to_metric_families(await answer.text()))
    return {sample.name: sample.value for family in families for sample in family.samples}


async def test_vllm_counts_what_llama_cpp_did() -> None:
    arguments = ("serve", str(CACHED), "--served-model-name", "m", "--max-model-len", "512", "--max-num-seqs", "2")
    async with opened("local_runtime.vllm", b"Starting vLLM server", *arguments) as http:
        first = await complete(http)
        again = await complete(http)
        stopped = await complete(http, stop=[" six"], max_tokens=8)
        found = await values(http)
        answers = await asyncio.gather(*(complete(http, ignore_eos=True, max_tokens=12) for _ in range(3)))

    assert first["choices"][0]["text"].startswith(" five")
    assert again["choices"][0]["text"] == first["choices"][0]["text"]
    assert stopped["choices"][0]["finish_reason"] == "stop"
    assert stopped["choices"][0]["stop_reason"] == " six"
    assert stopped["choices"][0]["text"].rstrip() == " five"
    prompt = first["usage"]["prompt_tokens"]
    assert found["vllm:prefix_cache_queries_total"] == 3 * prompt
    assert found["vllm:prefix_cache_hits_total"] == 2 * (prompt - 1)  # but for the last one, all but one token
    assert found["vllm:prompt_tokens_total"] == 3 * prompt
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {12}


async def test_vllm_refuses_a_context_longer_than_the_models() -> None:
    process = await launch("local_runtime.vllm", "serve", str(CACHED), "--max-model-len", "16K")
    output, _ = await process.communicate()

    assert process.returncode == 1
    assert b"max_model_len (16384) is greater than the derived max_model_len (max_position_embeddings=8192" in output


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = json.loads((CACHED / "config.json").read_text())
    return write_random_adapter(tmp_path_factory.mktemp("adapter"), model)


async def test_vllm_answers_with_an_adapter_and_without_it(adapter: Path) -> None:
    model = ("serve", str(CACHED), "--served-model-name", "m", "--max-model-len", "512", "--max-num-seqs", "2")
    adapters = ("--enable-lora", "--lora-modules", f"a={adapter}", "--max-lora-rank", "8")
    async with opened("local_runtime.vllm", b"Starting vLLM server", *model) as http:
        alone = await complete(http, max_tokens=12)
    async with opened("local_runtime.vllm", b"Starting vLLM server", *model, *adapters) as http:
        base, adapted = await asyncio.gather(complete(http, max_tokens=12), complete(http, max_tokens=12, model="a"))
        again = await complete(http, max_tokens=12)
        adapted_again = await complete(http, max_tokens=12, model="a")
        async with http.get("/v1/models") as answer:
            listed = {entry["id"]: (entry["root"], entry["parent"]) for entry in (await answer.json())["data"]}

    text = alone["choices"][0]["text"]
    assert base["choices"][0]["text"] == again["choices"][0]["text"] == text
    assert adapted["choices"][0]["text"] == adapted_again["choices"][0]["text"] != text
    assert (base["model"], adapted["model"]) == ("m", "a")
    assert listed == {"m": (str(CACHED), None), "a": (str(adapter), "m")}


async def test_tgi_answers_with_an_adapter_and_without_it(adapter: Path) -> None:
    port = ports.free()
    limits = ("--max-input-tokens", "256", "--max-total-tokens", "512", "--max-batch-size", "2")
    server = ("--model-id", str(CACHED), *limits, "--hostname", "127.0.0.1", "--port", str(port))
    async with (
        serving("local_runtime.tgi", *server, ready=b"Connected", engine="llama.cpp", LORA_ADAPTERS=f"a={adapter}"),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def generate(**parameters: Any) -> str:
            body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 12, **parameters}}
            async with http.post("/generate", json=body) as answer:
                return (await answer.json())["generated_text"]

        base, adapted, unknown = await generate(), await generate(adapter_id="a"), await generate(adapter_id="b")
        by_model = [(await complete(http, max_tokens=12, model=name))["choices"][0]["text"] for name in ("m", "a")]

    assert base == unknown == by_model[0]
    assert adapted == by_model[1] != base


async def test_vllm_refuses_an_adapter_of_a_higher_rank(adapter: Path) -> None:
    words = ("--enable-lora", "--lora-modules", f"a={adapter}", "--max-lora-rank", "1")
    process = await launch("local_runtime.vllm", "serve", str(CACHED), *words)
    output, _ = await process.communicate()
    assert process.returncode == 1
    assert b"LoRA rank 4 is greater than max_lora_rank 1" in output


async def test_trtllm_serve_reports_reused_tokens() -> None:
    async with opened("local_runtime.tensorrt_llm", b"Uvicorn running", str(CACHED), "--max_seq_len", "512") as http:
        first = await complete(http)
        again = await complete(http)

    assert first["choices"][0]["text"] == again["choices"][0]["text"]
    assert first["model"] == CACHED.name
    assert first["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert again["usage"]["prompt_tokens_details"] == {"cached_tokens": first["usage"]["prompt_tokens"] - 1}
