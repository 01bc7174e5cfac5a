"""The HTTP API has the shapes of trtllm-serve 1.2.1; generation is the echo engine's."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from local_runtime.engine import EchoEngine
from local_runtime.tensorrt_llm.arguments import parse
from local_runtime.tensorrt_llm.server import Server
from prometheus_client.parser import text_string_to_metric_families

from llm_serving.observability.metric import Kind
from llm_serving.observability.runtime_metrics import TENSORRT_LLM_1_2_1
from tests.unit.local_runtime_harness import Client, events, samples

CHAT: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "Hello"}]}
MEASURED = {"return_perf_metrics": True, "enable_iter_perf_stats": True}


@asynccontextmanager
async def opened(
    folder: Path, *arguments: str, tokens: int = 4, seconds: float = 0.0, **extra: Any
) -> AsyncGenerator[Client]:
    model = folder / "tiny"
    model.mkdir(exist_ok=True)
    path = folder / "extra.yaml"
    path.write_text(yaml.safe_dump({"max_seq_len": 40, **extra}))
    known = parse([str(model), "--config", str(path), *arguments])
    server = Server(known, EchoEngine(tokens, seconds), max_seq_len=40, kv_tokens=4096)
    async with TestClient(TestServer(server.application(), handler_cancellation=True)) as client:
        yield client


async def test_chat_completion(tmp_path: Path) -> None:
    async with opened(tmp_path) as client, client.post("/v1/chat/completions", json=CHAT) as answer:
        found = await answer.json()

    (choice,) = found["choices"]
    assert choice["message"]["content"] == "The quick brown fox"
    assert choice["finish_reason"] == "stop"
    assert found["model"] == "tiny"  # its own, whatever it was asked for
    assert found["usage"] == {
        "prompt_tokens": 2,
        "total_tokens": 7,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_streams(tmp_path: Path) -> None:
    body = {"model": "m", "prompt": "a b", "max_tokens": 2}
    async with opened(tmp_path) as client:
        chat = await events(client, "/v1/chat/completions", {**CHAT, "max_tokens": 2, "stream_options": {}})
        completion = await events(client, "/v1/completions", body)

    assert chat[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert [event["choices"][0]["delta"]["content"] for event in chat[1:-2]] == ["The", " quick"]
    assert chat[-2]["usage"]["completion_tokens"] == 2  # asked for unless it is told not to
    assert [event["choices"][0]["text"] for event in completion[:-1]] == ["The", " quick"]
    assert completion[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prompt": "a " * 11},
            "The sum of prompt length (11.0), query length (0) should not exceed max_num_tokens (10)",
        ),
        ({"logprobs": 3}, "`logprobs` is not served by the local runtime"),
    ],
)
async def test_what_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    body = {"model": "m", "prompt": "a", **change}
    async with (
        opened(tmp_path, max_num_tokens=10) as client,
        client.post("/v1/completions", json=body) as answer,
    ):
        assert answer.status == 400
        error = await answer.json()

    assert error["message"] == message
    assert (error["object"], error["type"], error["code"]) == ("error", "BadRequestError", 400)


async def test_a_prompt_that_leaves_no_room(tmp_path: Path) -> None:
    body = {"model": "m", "prompt": "a " * 40}
    async with opened(tmp_path, enable_chunked_prefill=True, max_num_tokens=10) as client:
        async with client.post("/v1/completions", json=body) as answer:
            assert (await answer.json())["message"] == "`max_tokens` must be set when `default_max_tokens` is illegal"
        async with client.post("/v1/completions", json={**body, "prompt": "a " * 38}) as answer:
            assert (await answer.json())["usage"]["completion_tokens"] == 2  # what is left of 40


@pytest.mark.parametrize(
    ("change", "kind"), [({"foo": 1}, "extra_forbidden"), ({"messages": 1}, "list_type"), ({"model": 1}, "string_type")]
)
async def test_bodies_of_another_shape(tmp_path: Path, change: dict[str, Any], kind: str) -> None:
    async with (
        opened(tmp_path) as client,
        client.post("/v1/chat/completions", json={**CHAT, **change}) as answer,
    ):
        assert answer.status == 400
        assert f"'type': '{kind}'" in (await answer.json())["error"]


async def test_prometheus_metrics_only_where_the_configuration_has_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as client, client.get("/prometheus/metrics") as answer:
        assert (answer.status, await answer.json()) == (404, {"detail": "Not Found"})


async def test_prometheus_metrics(tmp_path: Path) -> None:
    async with opened(tmp_path, **MEASURED, seconds=0.01) as client:
        await events(client, "/v1/chat/completions", CHAT)
        found = await samples(client, "/prometheus/metrics")
        async with client.get("/prometheus/metrics") as answer:
            families = list(text_string_to_metric_families(await answer.text()))
    labels = {sample.name: {*sample.labels} - {"le"} for family in families for sample in family.samples}

    for metric in TENSORRT_LLM_1_2_1.metrics:
        name = f"{metric.name}_bucket" if metric.kind is Kind.HISTOGRAM else metric.name
        assert labels[name] == set(metric.labels)
    assert {name for name in labels if not name.endswith(("_bucket", "_sum", "_count", "_created"))} == {
        "trtllm_request_success_total"
    }
    assert found["trtllm_request_success_total{stop}"] == 1
    assert found["trtllm_time_to_first_token_seconds_count"] == found["trtllm_e2e_request_latency_seconds_count"] == 1
    assert 0.01 <= found["trtllm_time_to_first_token_seconds_sum"] < found["trtllm_e2e_request_latency_seconds_sum"]


async def test_iteration_statistics_are_taken_once(tmp_path: Path) -> None:
    async with opened(tmp_path, **MEASURED, max_batch_size=1, seconds=0.05) as client:
        tasks = [asyncio.create_task(client.post("/v1/chat/completions", json=CHAT)) for _ in range(2)]
        await asyncio.gather(*tasks)
        async with client.get("/metrics") as answer:
            found = await answer.json()
        async with client.get("/metrics") as answer:
            assert await answer.json() == []

    assert max(entry["numQueuedRequests"] for entry in found) == 1
    assert {entry["numActiveRequests"] for entry in found} == {0, 1}
    assert found[-1]["kvCacheStats"] == {
        "maxNumBlocks": 128,
        "usedNumBlocks": 0,
        "freeNumBlocks": 128,
        "tokensPerBlock": 32,
    }


async def test_no_statistics_unless_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as client:
        await events(client, "/v1/chat/completions", CHAT)
        async with client.get("/metrics") as answer:
            assert await answer.json() == []


async def test_information(tmp_path: Path) -> None:
    async with opened(tmp_path) as client:
        async with client.get("/health") as answer:
            assert (answer.status, await answer.text()) == (200, "")
        async with client.get("/health_generate") as answer:
            assert (answer.status, await answer.text()) == (200, "Generation health check OK")
        async with client.get("/version") as answer:
            assert await answer.json() == {"version": "1.2.1"}
        async with client.get("/v1/models") as answer:
            (model,) = (await answer.json())["data"]
    assert (model["id"], model["owned_by"]) == ("tiny", "tensorrt_llm")
