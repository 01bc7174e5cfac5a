"""Requests that come together are computed together, none waits for a whole long one, and too many are sent away."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError

from tests.embedder_harness import Client, embedder_for
from tests.gateway_harness import eventually

Answer = tuple[int, dict[str, str], Any]


async def while_busy(client: Client) -> asyncio.Task[Answer]:
    """A request that is being computed until the backend is let go."""
    client.backend.free.clear()
    running = asyncio.create_task(client.embed("dog"))
    await eventually(lambda: len(client.backend.batches) == 1)
    return running


async def waiting(client: Client, *inputs: object) -> list[asyncio.Task[Answer]]:
    """Requests that wait, in this order."""
    tasks: list[asyncio.Task[Answer]] = []
    for each in inputs:
        before = client.metric("llm_embedder_queued_tokens")
        tasks.append(asyncio.create_task(client.embed(each)))
        await eventually(lambda before=before: client.metric("llm_embedder_queued_tokens") > before)
    return tasks


def lengths(client: Client) -> list[list[int]]:
    return [[len(each) for each in batch] for batch in client.backend.batches]


async def test_a_lone_request_is_computed_at_once_and_what_comes_meanwhile_together(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        first = await while_busy(client)
        others = await waiting(client, "cat", ["a cat", "the cat"])
        client.backend.free.set()
        answers = await asyncio.gather(first, *others)

    assert lengths(client) == [[3], [3, 4, 4]]
    assert [status for status, _, _ in answers] == [200] * 3
    assert client.metric("llm_embedder_batch_inputs_count") == 2
    assert client.metric("llm_embedder_batch_inputs_sum") == 4
    assert client.metric("llm_embedder_queued_tokens") == 0


async def test_a_short_request_does_not_wait_for_all_of_a_long_one(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, max_batch_tokens=12) as client:
        first = await while_busy(client)
        tasks = await waiting(client, ["cat"] * 9, "a cat on the mat")
        client.backend.free.set()
        await asyncio.gather(first, *tasks)

    # The short one, of seven tokens, is in the first batch; the long one's inputs fill this and the next ones.
    assert lengths(client) == [[3], [3, 7], [3] * 4, [3] * 4]


async def test_an_input_that_is_larger_than_a_batch_is_a_batch(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, max_batch_tokens=2) as client:
        status, _, _ = await client.embed(["cat", "a cat"])

    assert status == 200
    assert lengths(client) == [[3], [4]]


async def test_more_than_may_wait_is_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, max_queued_tokens=9) as client:
        first = await while_busy(client)
        tasks = await waiting(client, ["cat", "cat"])
        status, headers, answer = await client.embed("cat")
        client.backend.free.set()
        await asyncio.gather(first, *tasks)
        after, _, _ = await client.embed("cat")

    assert (status, answer["error"]["code"], answer["error"]["type"]) == (503, "overloaded", "server_error")
    assert int(headers["retry-after"]) >= 1
    assert after == 200
    assert client.metric("llm_embedder_requests_rejected_total") == 1


async def test_one_request_alone_is_taken_however_long_it_is(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, max_queued_tokens=1) as client:
        status, _, _ = await client.embed(["cat"] * 20)

    assert status == 200


async def test_a_caller_that_goes_away_takes_its_inputs_out_of_the_queue(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        first = await while_busy(client)
        gone, stays = await waiting(client, ["cat"] * 9, "a cat")
        gone.cancel()
        await eventually(lambda: client.metric("llm_embedder_queued_tokens") == 7)
        client.backend.free.set()
        await asyncio.gather(first, stays)
        await eventually(
            lambda: client.metric("llm_embedder_requests_total", endpoint="/v1/embeddings", code="499") == 1
        )

    assert lengths(client) == [[3], [4]]


async def test_what_takes_too_long_is_told_to_come_back(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, request_timeout_seconds=0.05) as client:
        client.backend.free.clear()
        status, headers, answer = await client.embed("cat")
        client.backend.free.set()
        await eventually(lambda: client.metric("llm_embedder_queued_tokens") == 0)

    assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "timeout", "1")


async def test_a_batch_that_fails_ends_its_requests_and_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with embedder_for(tmp_path, max_batch_tokens=3) as client:
        client.backend.failure = RuntimeError("CUDA error: out of memory")
        status, _, answer = await client.embed(["cat", "dog"])
        live = await client.get("/health/live")
        client.backend.failure = None
        after, _, _ = await client.embed("cat")

    assert (status, answer["error"]["code"]) == (500, "backend_failed")
    assert "CUDA" not in answer["error"]["message"]
    (failed,) = [vars(record)["fields"] for record in caplog.records if record.message == "batch failed"]
    assert failed == {"inputs": 1, "tokens": 3, "error": "CUDA error: out of memory"}
    assert (live[0], after) == (200, 200)
    # The second input of the failed request was not computed any more.
    assert len(client.backend.batches) == 2
    assert client.metric("llm_embedder_queued_tokens") == 0


async def test_a_backend_that_only_fails_makes_the_process_count_as_broken(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        client.backend.failure = RuntimeError("CUDA error: an illegal memory access was encountered")
        for _ in range(3):
            await client.embed("cat")
        broken = await client.get("/health/live"), await client.get("/health/ready")
        client.backend.failure = None
        await client.embed("cat")
        mended = await client.get("/health/live")

    assert broken == ((503, "failing\n"), (503, "failing\n"))
    assert mended == (200, "ok\n")


async def test_a_caller_that_goes_away_while_it_is_computed_harms_nobody(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        first = await while_busy(client)
        first.cancel()
        with pytest.raises((asyncio.CancelledError, ClientConnectionError)):
            await first
        client.backend.free.set()
        status, _, _ = await client.embed("cat")

    assert status == 200
