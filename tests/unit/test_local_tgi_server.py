"""The HTTP API has the real router's shapes; generation is the echo engine's."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from local_runtime.engine import EchoEngine
from local_runtime.tgi.arguments import parse
from local_runtime.tgi.router import Router
from local_runtime.tgi.server import application

Client = TestClient[Any, Any]
ANSWER = "The quick brown fox"


@asynccontextmanager
async def opened(*arguments: str, tokens: int = 4, seconds: float = 0.0) -> AsyncGenerator[Client]:
    limits = ["--model-id", "/models/m", "--max-input-tokens", "8", "--max-total-tokens", "40"]
    router = Router(parse([*limits, *arguments], {}), EchoEngine(tokens, seconds))
    async with TestClient(TestServer(application(router))) as client:
        yield client


async def events(client: Client, path: str, body: dict[str, Any]) -> list[Any]:
    async with client.post(path, json=body) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        lines = (await answer.text()).split("\n\n")
    assert lines[-1] == ""
    data = [line.removeprefix("data: ") for line in lines[:-1]]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


async def value(client: Client, name: str) -> float:
    async with client.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)


async def until(client: Client, name: str, wanted: float) -> None:
    async with asyncio.timeout(5):
        while await value(client, name) != wanted:  # noqa: ASYNC110  what is waited for is behind HTTP
            await asyncio.sleep(0.01)


async def test_generate() -> None:
    asked = {"inputs": "a b", "parameters": {"details": True}}
    async with opened() as client, client.post("/generate", json=asked) as answer:
        body = await answer.json()

        assert answer.status == 200
        assert answer.headers["x-prompt-tokens"] == "2"
        assert answer.headers["x-generated-tokens"] == "5"
    assert body["generated_text"] == ANSWER
    assert body["details"]["finish_reason"] == "eos_token"
    assert [token["text"] for token in body["details"]["tokens"]] == ["The", " quick", " brown", " fox", "</s>"]
    assert body["details"]["tokens"][-1]["special"]


async def test_generate_stream() -> None:
    async with opened() as client:
        found = await events(
            client,
            "/generate_stream",
            {"inputs": "a b", "parameters": {"max_new_tokens": 2, "details": True, "seed": 1}},
        )

    assert found == [
        {
            "index": 1,
            "token": {"id": 0, "text": "The", "logprob": -0.5, "special": False},
            "generated_text": None,
            "details": None,
        },
        {
            "index": 2,
            "token": {"id": 1, "text": " quick", "logprob": -0.5, "special": False},
            "generated_text": "The quick",
            "details": {"finish_reason": "length", "generated_tokens": 2, "seed": 1, "input_length": 2},
        },
    ]


async def test_the_root_answers_as_the_hubs_api() -> None:
    async with opened() as client:
        async with client.post("/", json={"inputs": "a", "parameters": {"return_full_text": True}}) as answer:
            assert await answer.json() == [{"generated_text": "aThe quick brown fox"}]
        streamed = await events(client, "/", {"inputs": "a", "stream": True})
    assert streamed[-1]["generated_text"] == ANSWER


async def test_chat_completion() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    async with opened() as client, client.post("/v1/chat/completions", json=body) as answer:
        found = await answer.json()

    assert found.pop("created") > 0
    assert found == {
        "object": "chat.completion",
        "id": "",
        "model": "m",
        "system_fingerprint": "3.3.7-native",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7},
    }


async def test_chat_stream_with_usage() -> None:
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with opened() as client:
        found = await events(client, "/v1/chat/completions", body)

    contents = [event["choices"][0]["delta"]["content"] for event in found[:-2]]
    assert contents == ["The", " quick", " brown", " fox", ""]
    assert [event["choices"][0]["finish_reason"] for event in found[:-2]] == [None, None, None, None, "stop"]
    assert found[0]["object"] == "chat.completion.chunk"
    assert found[0]["model"] == "/models/m"
    assert found[-2]["choices"] == []
    assert found[-2]["usage"] == {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}
    assert found[-1] == "[DONE]"


async def test_completions_of_several_prompts() -> None:
    body = {"prompt": ["a", "b c"], "max_tokens": 2}
    async with opened() as client:
        async with client.post("/v1/completions", json=body) as answer:
            found = await answer.json()
        streamed = await events(client, "/v1/completions", {**body, "stream": True})

    assert [choice["text"] for choice in found["choices"]] == ["The quick", "The quick"]
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert sorted(event["choices"][0]["index"] for event in streamed[:-1]) == [0, 0, 1, 1]
    assert streamed[-1] == "[DONE]"


async def test_input_that_is_too_long() -> None:
    async with opened() as client:
        body = {"inputs": "a " * 9, "parameters": {"max_new_tokens": 5}}
        async with client.post("/generate", json=body) as answer:
            assert answer.status == 422
            assert await answer.json() == {
                "error": "Input validation error: `inputs` must have less than 8 tokens. Given: 9",
                "error_type": "validation",
            }
        streamed = await events(client, "/generate_stream", body)
        assert streamed[0]["error_type"] == "validation"
        assert await value(client, 'tgi_request_failure{err="validation"}') == 2


async def test_more_requests_than_allowed_at_once() -> None:
    async with opened("--max-concurrent-requests", "1", seconds=0.2) as client:
        first = asyncio.create_task(client.post("/generate", json={"inputs": "a"}))
        await until(client, "tgi_batch_current_size", 1)
        async with client.post("/generate", json={"inputs": "a"}) as answer:
            assert answer.status == 429
            assert await answer.json() == {"error": "Model is overloaded", "error_type": "overloaded"}
        chat = {"messages": [{"role": "user", "content": "a"}], "stream": True}
        assert await events(client, "/v1/chat/completions", chat) == [
            {"error": {"message": "Model is overloaded", "http_status_code": 422}},
            "[DONE]",
        ]
        async with await first as answer:
            assert answer.status == 200


async def test_the_queue_and_the_batch_are_measured() -> None:
    async with opened("--max-batch-size", "1", seconds=0.05) as client:
        tasks = [asyncio.create_task(client.post("/generate", json={"inputs": "a"})) for _ in range(3)]
        await until(client, "tgi_queue_size", 2)
        assert await value(client, "tgi_batch_current_size") == 1
        for answer in await asyncio.gather(*tasks):
            answer.release()
        assert await value(client, "tgi_queue_size") == 0
        assert await value(client, "tgi_request_success") == 3
        assert await value(client, "tgi_request_generated_tokens_sum") == 15
        assert await value(client, "tgi_request_queue_duration_sum") > 0.2


async def test_the_token_budget_limits_the_batch() -> None:
    budget = ("--max-batch-total-tokens", "40")
    async with opened(*budget, seconds=0.05) as client:
        body = {"inputs": "a", "parameters": {"max_new_tokens": 15}}  # 16 tokens: two of these fit
        tasks = [asyncio.create_task(client.post("/generate", json=body)) for _ in range(3)]
        await until(client, "tgi_queue_size", 1)
        assert await value(client, "tgi_batch_current_max_tokens") == 32
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_client_that_leaves_frees_its_place(waiting: bool) -> None:
    router = Router(parse(["--max-batch-size", "1"], {}), EchoEngine(100, 0.01))
    server = TestServer(application(router), handler_cancellation=True)
    async with TestClient(server) as client:
        first = asyncio.create_task(client.post("/generate", json={"inputs": "a"}))
        await until(client, "tgi_batch_current_size", 1)
        second = asyncio.create_task(client.post("/generate", json={"inputs": "a"}))
        await until(client, "tgi_queue_size", 1)
        (second if waiting else first).cancel()
        await until(client, "tgi_queue_size", 0)
        (first if waiting else second).cancel()
        await until(client, "tgi_batch_current_size", 0)


async def test_bodies_that_are_not_json() -> None:
    async with opened() as client:
        headers = {"Content-Type": "application/json"}
        async with client.post("/generate", data=b"{", headers=headers) as answer:
            assert answer.status == 400
        async with client.post("/generate", data=b"{}", headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status == 415
        async with client.post("/generate", json={}) as answer:
            assert (answer.status, answer.content_type) == (422, "text/plain")
        async with client.post("/v1/chat/completions", json={"messages": [{"role": "user"}]}) as answer:
            assert answer.status == 422


async def test_a_body_over_the_payload_limit() -> None:
    asked = {"inputs": "a" * 1000}
    async with opened("--payload-limit", "1000") as client, client.post("/generate", json=asked) as answer:
        assert answer.status == 413


async def test_api_key() -> None:
    async with opened("--api-key", "secret") as client:
        async with client.post("/generate", json={"inputs": "a"}) as answer:
            assert answer.status == 401
        async with client.post("/generate", json={"inputs": "a"}, headers={"Authorization": "Bearer secret"}) as answer:
            assert answer.status == 200
        async with client.get("/health") as answer:
            assert answer.status == 200


async def test_information() -> None:
    async with opened() as client:
        for path in ("/", "/health", "/ping"):
            async with client.get(path) as answer:
                assert (answer.status, await answer.text()) == (200, "")
        async with client.get("/info") as answer:
            info = await answer.json()
        async with client.get("/v1/models") as answer:
            models = await answer.json()
        async with client.post("/tokenize", json={"inputs": "one three"}) as answer:
            tokens = await answer.json()
    assert (info["model_id"], info["max_input_tokens"], info["max_total_tokens"]) == ("/models/m", 8, 40)
    assert (info["version"], info["router"]) == ("3.3.7", "text-generation-router")
    assert models["data"] == [{"id": "/models/m", "object": "model", "created": 0, "owned_by": "/models/m"}]
    assert tokens[1] == {"id": 5, "text": "three", "start": 4, "stop": 9}


async def test_tools_are_refused() -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]}
    async with opened() as client, client.post("/v1/chat/completions", json=body) as answer:
        assert (answer.status, (await answer.json())["error_type"]) == (422, "tool_error")
