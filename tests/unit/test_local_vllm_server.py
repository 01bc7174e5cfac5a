"""The HTTP API has vLLM 0.33.0's shapes; generation is the echo engine's."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from local_runtime.engine import EchoEngine
from local_runtime.vllm.arguments import parse
from local_runtime.vllm.metrics import Metrics, token_buckets
from local_runtime.vllm.server import Server
from prometheus_client.parser import text_string_to_metric_families

from llm_serving.observability.metric import Kind
from llm_serving.observability.runtime_metrics import VLLM_0_33_0
from tests.unit.local_runtime_harness import Client, events, samples, until

ANSWER = "The quick brown fox"
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}


@asynccontextmanager
async def opened(*arguments: str, tokens: int = 4, seconds: float = 0.0) -> AsyncGenerator[tuple[Client, Server]]:
    known = parse(["/models/m", "--served-model-name", "tiny", "--max-model-len", "40", *arguments])
    kv_tokens = known.kv_tokens or 4096
    server = Server(known, EchoEngine(tokens, seconds), max_model_len=40, kv_tokens=kv_tokens)
    async with TestClient(TestServer(server.application(), handler_cancellation=True)) as client:
        yield client, server


async def refused(client: Client, body: dict[str, Any], path: str = "/v1/chat/completions") -> tuple[int, Any]:
    async with client.post(path, json=body) as answer:
        return answer.status, (await answer.json())["error"]


async def test_chat_completion() -> None:
    async with opened() as (client, _), client.post("/v1/chat/completions", json=CHAT) as answer:
        found = await answer.json()

    assert found.pop("id").startswith("chatcmpl-")
    assert found.pop("created") > 0
    (choice,) = found.pop("choices")
    assert choice["message"]["content"] == ANSWER
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)
    assert found["usage"] == {
        "prompt_tokens": 2,
        "total_tokens": 7,
        "completion_tokens": 5,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
    assert (found["object"], found["model"]) == ("chat.completion", "tiny")


async def test_chat_stream() -> None:
    async with opened() as (client, _):
        plain = await events(client, "/v1/chat/completions", CHAT)
        with_usage = await events(client, "/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}})

    assert plain[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [event["choices"][0]["delta"]["content"] for event in plain[1:-1]] == ["The", " quick", " brown", " fox", ""]
    assert [event["choices"][0]["finish_reason"] for event in plain[:-1]] == [None, None, None, None, None, "stop"]
    assert plain[-1] == "[DONE]"
    assert with_usage[-2]["choices"] == []
    assert with_usage[-2]["usage"] == {"prompt_tokens": 2, "total_tokens": 7, "completion_tokens": 5}
    assert not any("usage" in event for event in plain[:-1])


async def test_completions_of_several_prompts() -> None:
    body = {"prompt": ["a", "b c"], "max_tokens": 2}
    async with opened() as (client, _):
        async with client.post("/v1/completions", json=body) as answer:
            found = await answer.json()
        streamed = await events(client, "/v1/completions", body)

    assert [(choice["text"], choice["finish_reason"]) for choice in found["choices"]] == [("The quick", "length")] * 2
    assert found["usage"]["total_tokens"] == 7
    assert sorted(event["choices"][0]["index"] for event in streamed[:-1]) == [0, 0, 1, 1]


async def test_a_completion_that_asks_for_no_number_gets_sixteen() -> None:
    async with (
        opened(tokens=30) as (client, _),
        client.post("/v1/completions", json={"prompt": "a"}) as answer,
    ):
        assert (await answer.json())["usage"]["completion_tokens"] == 16


REFUSALS: list[tuple[dict[str, Any], int, str, str | None, str]] = [
    ({"model": "gpt"}, 404, "NotFoundError", "model", "The model `gpt` does not exist. Valid aliases: tiny."),
    (
        {"messages": [{"role": "user", "content": "a " * 50}]},
        400,
        "BadRequestError",
        "input_tokens",
        "This model's maximum context length is 40 tokens. However, your prompt contains 51 input tokens,",
    ),
    (
        {"max_tokens": 41},
        400,
        "BadRequestError",
        "max_tokens",
        "max_tokens=41 cannot be greater than max_model_len",
    ),
    ({"max_completion_tokens": 0}, 400, "BadRequestError", "max_tokens", "max_tokens must be at least 1, got 0."),
    ({"temperature": -1}, 400, "BadRequestError", "temperature", "temperature must be non-negative, got -1.0."),
    ({"top_p": 0}, 400, "BadRequestError", "top_p", "top_p must be in (0, 1], got 0.0."),
    ({"stop": [""]}, 400, "BadRequestError", None, "stop cannot contain an empty string."),
    ({"stream_options": {}}, 400, "BadRequestError", "stream_options", "Stream options can only be defined when"),
    ({"messages": None}, 400, "Bad Request", "body.messages", "1 validation error:\n  {'type': 'list_type'"),
    ({"tools": [{}]}, 400, "BadRequestError", "tools", "`tools` is not served by the local runtime"),
    ({"n": 2}, 400, "BadRequestError", "n", "`n` is not served by the local runtime"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        400,
        "BadRequestError",
        "messages",
        "only text is served by the local runtime",
    ),
]


@pytest.mark.parametrize(("change", "status", "kind", "param", "message"), REFUSALS)
async def test_what_is_refused(change: dict[str, Any], status: int, kind: str, param: str | None, message: str) -> None:
    async with opened() as (client, _):
        found, error = await refused(client, {**CHAT, **change})
        streamed, _ = await refused(client, {**CHAT, **change, "stream": "stream_options" not in change})

    assert (found, streamed) == (status, status)  # before a stream begins
    assert (error["code"], error["type"], error["param"]) == (status, kind, param)
    assert error["message"].startswith(message)


async def test_fields_that_vllm_does_not_know_are_ignored() -> None:
    async with opened() as (client, _), client.post("/v1/chat/completions", json={**CHAT, "foo": 1}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("prompt", [None, [], [1, 2], {}])
async def test_prompts_that_are_no_text(prompt: Any) -> None:
    async with opened() as (client, _):
        status, error = await refused(client, {"prompt": prompt}, "/v1/completions")

    assert (status, error["param"]) == (400, "body.prompt")


async def test_bodies_that_are_not_json() -> None:
    async with opened() as (client, _), client.post("/v1/completions", data=b"{") as answer:
        assert answer.status == 400
        assert "JSON decode error" in (await answer.json())["error"]["message"]


async def test_every_metric_that_is_asked_for_is_there_from_the_start_with_its_labels() -> None:
    async with opened() as (client, _), client.get("/metrics") as answer:
        families = list(text_string_to_metric_families(await answer.text()))
    labels = {sample.name: {*sample.labels} - {"le"} for family in families for sample in family.samples}

    for metric in VLLM_0_33_0.metrics:
        name = f"{metric.name}_bucket" if metric.kind is Kind.HISTOGRAM else metric.name
        assert labels[name] == set(metric.labels)


async def test_metrics_count_what_happened() -> None:
    async with opened() as (client, _):
        for _ in range(2):
            await events(client, "/v1/chat/completions", CHAT)
        found = await samples(client, "/metrics")

    assert found["vllm:prompt_tokens_total"] == found["vllm:prefix_cache_queries_total"] == 4
    assert found["vllm:generation_tokens_total"] == found["vllm:request_generation_tokens_sum"] == 10
    assert found["vllm:request_success_total{stop}"] == 2
    assert found["vllm:time_to_first_token_seconds_count"] == found["vllm:e2e_request_latency_seconds_count"] == 2
    assert found["vllm:inter_token_latency_seconds_count"] == 8
    assert found["vllm:engine_sleep_state{awake}"] == 1
    assert found["vllm:kv_cache_usage_perc"] == 0


async def test_the_queue_the_batch_and_the_kv_cache_are_measured() -> None:
    async with opened("--max-num-seqs", "1", "--num-gpu-blocks-override", "4", seconds=0.1) as (client, _):
        tasks = [asyncio.create_task(client.post("/v1/chat/completions", json=CHAT)) for _ in range(3)]
        await until(client, "/metrics", "vllm:num_requests_waiting", 2)
        found = await samples(client, "/metrics")
        assert found["vllm:num_requests_running"] == 1
        assert found["vllm:num_requests_waiting_by_reason{capacity}"] == 2
        assert 2 / 64 <= found["vllm:kv_cache_usage_perc"] <= 7 / 64  # the prompt, and the tokens so far
        await asyncio.gather(*tasks)
        after = await samples(client, "/metrics")

    assert after["vllm:num_requests_waiting"] == after["vllm:num_requests_running"] == 0
    assert after["vllm:request_queue_time_seconds_sum"] > 1.0  # one waited for one, one for two, of 0.4 s each


async def test_a_client_that_leaves_frees_its_place() -> None:
    async with opened("--max-num-seqs", "1", tokens=30, seconds=0.05) as (client, server):
        first = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        await until(client, "/metrics", "vllm:num_requests_running", 1)
        second = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        await until(client, "/metrics", "vllm:num_requests_waiting", 1)
        second.cancel()
        await until(client, "/metrics", "vllm:num_requests_waiting", 0)
        first.cancel()
        await until(client, "/metrics", "vllm:num_requests_running", 0)
        assert (server.generation.unfinished, server.generation.prefilling_tokens) == (0, 0)
        assert (await samples(client, "/metrics"))["vllm:kv_cache_usage_perc"] == 0


async def test_a_full_queue_refuses() -> None:
    async with opened("--max-num-queued-reqs", "1", seconds=0.2) as (client, _):
        first = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        await until(client, "/metrics", "vllm:num_requests_running", 1)
        status, error = await refused(client, CHAT)
        assert (status, error["type"]) == (503, "Service Unavailable")
        assert error["message"].startswith("The engine is currently busy and cannot accept new requests.")
        assert (await samples(client, "/metrics"))["vllm:admission_rejections_total{max_num_queued_reqs}"] == 1
        await first


async def test_requests_that_are_aborted_end_with_what_they_have() -> None:
    async with opened("--max-num-seqs", "1", tokens=30, seconds=0.05) as (client, server):
        running = asyncio.create_task(events(client, "/v1/chat/completions", CHAT))
        waiting = asyncio.create_task(events(client, "/v1/chat/completions", CHAT))
        await until(client, "/metrics", "vllm:generation_tokens_total", 2)
        server.generation.abort()
        await server.generation.drain(2)
        assert (await running)[-2]["choices"][0]["finish_reason"] == "abort"
        assert (await waiting)[-2]["choices"][0]["finish_reason"] == "abort"
        assert (await samples(client, "/metrics"))["vllm:request_success_total{abort}"] == 2


async def test_api_key() -> None:
    async with opened("--api-key", "one", "two") as (client, _):
        for header, status in (({}, 401), ({"Authorization": "Bearer x"}, 401), ({"Authorization": "Bearer two"}, 200)):
            async with client.get("/v1/models", headers=header) as answer:
                assert answer.status == status
        for path in ("/health", "/metrics"):
            async with client.get(path) as answer:
                assert answer.status == 200


async def test_information() -> None:
    async with opened() as (client, _):
        for path in ("/health", "/ping"):
            async with client.get(path) as answer:
                assert (answer.status, await answer.text()) == (200, "")
        async with client.get("/version") as answer:
            assert await answer.json() == {"version": "0.33.0"}
        async with client.get("/v1/models") as answer:
            (model,) = (await answer.json())["data"]
        async with client.post("/tokenize", json={"model": "tiny", "prompt": "one three"}) as answer:
            tokens = await answer.json()
        assert await refused(client, {}, "/v1/embeddings") == (
            404,
            {"message": "Not Found", "type": "Not Found", "param": None, "code": 404},
        )
    assert (model["id"], model["root"], model["max_model_len"]) == ("tiny", "/models/m", 40)
    assert tokens == {"count": 2, "max_model_len": 40, "tokens": [3, 5], "token_strs": None}


async def test_without_statistics_there_are_no_metrics() -> None:
    async with opened("--disable-log-stats") as (client, _):
        assert await samples(client, "/metrics") == {}


def test_token_buckets_follow_the_context() -> None:
    assert token_buckets(100) == (1, 2, 5, 10, 20, 50, 100)


def test_counters_end_in_total() -> None:
    text = Metrics("m", 100).render().decode()

    assert 'vllm:prompt_tokens_total{engine="0",model_name="m"} 0.0' in text
