"""Streams: each part at once, and the end of either side felt by the other."""

import asyncio

import orjson
from aiohttp import web

from tests.gateway_harness import (
    CHAT,
    DONE,
    QUESTION,
    FakeModel,
    chat_chunk,
    config_for,
    eventually,
    gateway_for,
    serving,
    stream_of,
)

STREAM = {**QUESTION, "stream": True}


class Stepper:
    """Streams one part each time that it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)
        self.cancelled = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            for number in range(3):
                await self.let.acquire()
                await response.write(chat_chunk(str(number), "stop" if number == 2 else None))
        except (asyncio.CancelledError, ConnectionResetError):
            self.cancelled.set()
            raise
        await response.write(DONE)
        return response


async def test_each_part_arrives_before_the_service_sends_the_next() -> None:
    stepper = Stepper()
    async with serving(FakeModel(stepper)) as model, gateway_for(config_for(model)) as client:
        stepper.let.release()  # the first part is what the answer begins with
        async with client.session.post(client.url + CHAT, json=STREAM) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            assert response.headers["Cache-Control"] == "no-cache"
            for number in range(3):
                part = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5)
                assert part == chat_chunk(str(number), "stop" if number == 2 else None)
                stepper.let.release()
            assert await response.read() == DONE
        await eventually(lambda: client.gateway.in_flight == 0)
        assert client.metric("llm_gateway_time_to_first_token_seconds_count", model="m") == 1
        assert client.metric("llm_gateway_requests_total", model="m", endpoint=CHAT, code="200") == 1


async def test_a_caller_that_leaves_cancels_the_request_at_the_service() -> None:
    stepper = Stepper()
    async with serving(FakeModel(stepper)) as model, gateway_for(config_for(model)) as client:
        stepper.let.release()
        async with client.session.post(client.url + CHAT, json=STREAM) as response:
            await response.content.readuntil(b"\n\n")
            response.close()
        await asyncio.wait_for(stepper.cancelled.wait(), 5)
        await eventually(lambda: client.gateway.in_flight == 0)
        assert client.metric("llm_gateway_requests_total", model="m", endpoint=CHAT, code="499") == 1


async def test_a_caller_that_leaves_before_a_whole_answer_cancels_it_too() -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with serving(FakeModel(hang)) as model, gateway_for(config_for(model)) as client:
        call = asyncio.create_task(client.post(CHAT, QUESTION))
        await asyncio.wait_for(asked.wait(), 5)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)
        await eventually(lambda: client.gateway.in_flight == 0)
        assert client.metric("llm_gateway_requests_total", model="m", endpoint=CHAT, code="499") == 1


async def test_a_service_that_breaks_off_ends_the_stream_with_an_error_and_no_end_mark() -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_chunk("half") + b'data: {"cho')
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(FakeModel(break_off)) as model, gateway_for(config_for(model)) as client:
        status, _, body = await client.post(CHAT, STREAM)
        failures = client.metric("llm_gateway_upstream_errors_total", model="m", kind="incomplete")
    assert status == 200
    first, last, rest = body.split(b"\n\n")  # no half event, which no caller could read
    assert (first + b"\n\n", rest) == (chat_chunk("half"), b"")
    assert orjson.loads(last.removeprefix(b"data: "))["error"]["code"] == "incomplete"
    assert (model.calls, failures) == (1, 1)  # what has begun is not tried again


async def test_a_stream_past_its_deadline_ends_with_an_error() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_chunk("slow"))
        await asyncio.Event().wait()
        return response

    async with serving(FakeModel(slow)) as model:
        config = {"models": {"m": {"url": model.url, "timeout_seconds": 0.2}}}
        async with gateway_for(config) as client:
            _, _, body = await client.post(CHAT, STREAM)
    last = body.split(b"\n\n")[-2]
    assert orjson.loads(last.removeprefix(b"data: "))["error"] == {
        "message": "The model did not answer within 0.2 seconds.",
        "type": "upstream_error",
        "param": None,
        "code": "timeout",
    }


async def test_token_counts_of_a_stream_are_read_from_its_end() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2000,"total_tokens":2007}}\n\n'
    parts = [chat_chunk("x") for _ in range(2000)]
    async with serving(FakeModel(stream_of(*parts, usage, DONE))) as model, gateway_for(config_for(model)) as client:
        _, _, body = await client.post(CHAT, STREAM)
        await eventually(lambda: client.gateway.in_flight == 0)
        assert client.metric("llm_gateway_tokens_total", model="m", kind="prompt") == 7
        assert client.metric("llm_gateway_tokens_total", model="m", kind="completion") == 2000
    assert body == b"".join([*parts, DONE])


async def test_counts_are_asked_for_and_shown_to_who_asks_for_them() -> None:
    counts = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1}}'
    whole = chat_chunk("x") + b"data: " + counts + b"\n\n" + DONE
    for size in (1, 7, 60, len(whole)):
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        async with serving(FakeModel(stream_of(*parts))) as model, gateway_for(config_for(model)) as client:
            for options, shown in (
                (None, False),
                ({"include_usage": False, "own": 1}, False),
                ({"include_usage": True}, True),
            ):
                given = {} if options is None else {"stream_options": options}
                _, _, body = await client.post(CHAT, {**STREAM, **given})
                assert body == (whole if shown else chat_chunk("x") + DONE)
                sent = orjson.loads(model.bodies[-1])
                assert sent == {**STREAM, "stream_options": {**(options or {}), "include_usage": True}}
            await eventually(lambda client=client: client.gateway.in_flight == 0)
            assert client.metric("llm_gateway_tokens_total", model="m", kind="prompt") == 21


async def test_a_body_that_asks_for_no_counts_goes_on_as_it_came() -> None:
    asked = {**STREAM, "stream_options": {"include_usage": True}}
    async with serving(FakeModel(stream_of(DONE))) as model, gateway_for(config_for(model)) as client:
        for question in (asked, {**STREAM, "stream_options": "no object"}, QUESTION):
            await client.post(CHAT, question)
    assert [orjson.loads(body) for body in model.bodies] == [asked, {**STREAM, "stream_options": "no object"}, QUESTION]


async def test_an_event_that_never_ends_is_passed_on() -> None:
    endless = b"data: " + b"x" * 200_000
    async with serving(FakeModel(stream_of(endless))) as model, gateway_for(config_for(model)) as client:
        assert (await client.post(CHAT, STREAM))[2] == endless


async def test_streams_of_tgi_pass_unchanged() -> None:
    event = b'data:{"index":1,"token":{"id":1,"text":"a"},"generated_text":"a","details":{"generated_tokens":1}}\n\n'
    async with serving(FakeModel(stream_of(event))) as model, gateway_for(config_for(model)) as client:
        status, headers, body = await client.post("/generate_stream", {"inputs": "hi"})
        await eventually(lambda: client.gateway.in_flight == 0)
        assert client.metric("llm_gateway_tokens_total", model="m", kind="completion") == 1
    assert (status, headers["x-cache"], body) == (200, "bypass", event)
