"""The HTTP server: the routes, headers, statuses and event streams of Text Generation Inference 3.3.7."""

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from local_runtime import sse
from local_runtime.engine import Token
from local_runtime.tgi import VERSION, openai
from local_runtime.tgi.arguments import Arguments
from local_runtime.tgi.errors import InferError, RequestShapeError
from local_runtime.tgi.router import Answer, End, Event, Router
from local_runtime.tgi.validation import Request, json_object, read_request

KEEP_ALIVE_SECONDS = 15
"""An event stream that has nothing to say for so long gets a comment, as axum does it."""
COMPUTE_TYPE = "cpu"
"""Header x-compute-type: the GPU's name on the real one."""
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(router: Router) -> web.Application:
    """The web application of a router."""
    return _Server(router).application()


class _Server:
    def __init__(self, router: Router) -> None:
        self._router = router
        self._arguments: Arguments = router.arguments

    def application(self) -> web.Application:
        # axum counts the limit on bodies exclusively, aiohttp too.
        app = web.Application(middlewares=[self._guard], client_max_size=self._arguments.payload_limit)
        for path in ("/", "/health", "/ping"):
            app.router.add_get(path, self._health)
        app.router.add_get("/info", self._info)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/", self._compatible)
        app.router.add_post("/generate", self._generate)
        app.router.add_post("/generate_stream", self._generate_stream)
        app.router.add_post("/invocations", self._invocations)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/chat_tokenize", self._chat_tokenize)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        key = self._arguments.api_key
        if key is not None and request.method == "POST":
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
                return web.Response(status=401)
        try:
            return await handler(request)
        except RequestShapeError as error:
            return web.Response(status=error.status, text=str(error))
        except InferError as error:
            return web.json_response(error.body(), status=error.status)

    async def _health(self, _: web.Request) -> web.Response:
        if await self._router.engine.healthy():
            return web.Response()
        return web.json_response({"error": "unhealthy", "error_type": "healthcheck"}, status=503)

    async def _info(self, _: web.Request) -> web.Response:
        arguments = self._arguments
        return web.json_response(
            {
                "model_id": arguments.model_id,
                "model_sha": None,
                "model_pipeline_tag": None,
                "max_concurrent_requests": arguments.max_concurrent_requests,
                "max_best_of": arguments.max_best_of,
                "max_stop_sequences": arguments.max_stop_sequences,
                "max_input_tokens": arguments.max_input_tokens,
                "max_total_tokens": arguments.max_total_tokens,
                "validation_workers": arguments.validation_workers,
                "max_client_batch_size": arguments.max_client_batch_size,
                "router": "text-generation-router",
                "version": VERSION,
                "sha": None,
                "docker_label": None,
            }
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self._router.metrics.render())

    async def _models(self, _: web.Request) -> web.Response:
        model = self._arguments.model_id
        entry = {"id": model, "object": "model", "created": 0, "owned_by": model}
        return web.json_response({"object": "list", "data": [entry]})

    async def _compatible(self, incoming: web.Request) -> web.StreamResponse:
        fields = json_object(await _json(incoming))
        asked = read_request(fields)
        if fields.get("stream", False):
            return await self._stream(incoming, self._generate_events(asked), len(asked.inputs))
        answer = await self._router.answer(asked)
        return _answered(asked, answer, [_generated(asked, answer)])

    async def _generate(self, incoming: web.Request) -> web.StreamResponse:
        asked = read_request(await _json(incoming))
        answer = await self._router.answer(asked)
        return _answered(asked, answer, _generated(asked, answer))

    async def _generate_stream(self, incoming: web.Request) -> web.StreamResponse:
        asked = read_request(await _json(incoming))
        return await self._stream(incoming, self._generate_events(asked), len(asked.inputs))

    async def _generate_events(self, asked: Request) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._router.stream(asked)) as events:
                async for event in events:
                    yield sse.event(_stream_body(asked, event))
        except InferError as error:
            # The status is sent before the request is even looked at, so that errors come as events.
            yield sse.event(error.body())

    async def _invocations(self, incoming: web.Request) -> web.StreamResponse:
        """SageMaker's one route: the body tells which of the others is meant."""
        fields = json_object(await _json(incoming))
        if "inputs" in fields:
            return await self._compatible(incoming)
        return await (self._chat(incoming) if "messages" in fields else self._completions(incoming))

    async def _tokenize(self, incoming: web.Request) -> web.Response:
        asked = read_request(await _json(incoming))
        return web.json_response(await self._tokens(asked.inputs, add_special=True))

    async def _chat_tokenize(self, incoming: web.Request) -> web.Response:
        self._router.metrics.request_count.add()
        prompt = await self._router.prompt(openai.chat_messages(json_object(await _json(incoming))))
        tokens = await self._tokens(prompt, add_special=False)
        return web.json_response({"tokenize_response": tokens, "templated_text": prompt})

    async def _tokens(self, text: str, *, add_special: bool) -> list[dict[str, Any]]:
        tokens = await self._router.tokens(text, add_special=add_special)
        described: list[dict[str, Any]] = []
        position = 0
        for identifier, piece in tokens:
            start = max(position, text.find(piece, position))
            position = start + len(piece)
            described.append({"id": identifier, "text": piece, "start": start, "stop": position})
        return described

    async def _chat(self, incoming: web.Request) -> web.StreamResponse:
        fields = json_object(await _json(incoming))
        # Counted here and again by the router: so does the real one, and rates made from it must agree.
        self._router.metrics.request_count.add()
        prompt = await self._router.prompt(openai.chat_messages(fields))
        asked = openai.chat_request(fields, prompt)
        model = openai.model_name(fields, self._arguments.model_id)
        logprobs = bool(fields.get("logprobs"))
        if fields.get("stream", False):
            events = self._chat_events(asked, model, logprobs=logprobs, include_usage=_include_usage(fields))
            return await self._stream(incoming, events, len(prompt))
        answer = await self._router.answer(asked)
        return _answered(asked, answer, openai.chat_completion(answer, model, logprobs=logprobs))

    async def _chat_events(
        self, asked: Request, model: str, *, logprobs: bool, include_usage: bool
    ) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._router.stream(asked)) as events:
                async for event in events:
                    yield sse.event(openai.chat_chunk(event, model, logprobs=logprobs))
                    if event.end is not None and include_usage:
                        yield sse.event(openai.chat_usage_chunk(event.end, model))
        except InferError as error:
            yield _openai_error(error)
        yield sse.DONE

    async def _completions(self, incoming: web.Request) -> web.StreamResponse:
        fields = json_object(await _json(incoming))
        self._router.metrics.request_count.add()
        asked = openai.completion_requests(fields, self._arguments.max_client_batch_size)
        model = self._arguments.model_id
        characters = sum(len(one.inputs) for one in asked)
        if fields.get("stream", False):
            return await self._stream(incoming, self._completion_events(asked, model), characters)
        answers = await asyncio.gather(*(self._router.answer(one) for one in asked))
        return _answered(asked[0], answers[0], openai.completion(answers, model))

    async def _completion_events(self, asked: list[Request], model: str) -> AsyncGenerator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def pump(index: int, one: Request) -> None:
            try:
                async with aclosing(self._router.stream(one)) as events:
                    async for event in events:
                        await queue.put(sse.event(openai.completion_chunk(event, index, model)))
            except InferError as error:
                await queue.put(_openai_error(error))
            finally:
                await queue.put(None)

        tasks = [asyncio.create_task(pump(index, one)) for index, one in enumerate(asked)]
        running = len(tasks)
        try:
            while running:
                event = await queue.get()
                if event is None:
                    running -= 1
                else:
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        yield sse.DONE

    async def _stream(
        self, incoming: web.Request, events: AsyncGenerator[bytes], characters: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "x-compute-type": COMPUTE_TYPE,
                "x-compute-characters": str(characters),
            }
        )
        await response.prepare(incoming)
        async with aclosing(events), aclosing(_kept_alive(events)) as kept_alive:
            async for event in kept_alive:
                await response.write(event)
        await response.write_eof()
        return response


async def _kept_alive(events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The events, and a comment wherever none came for a while."""
    upcoming: asyncio.Future[bytes] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([upcoming], timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield b":\n\n"
                continue
            try:
                event = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield event
    finally:
        if upcoming is not None and not upcoming.done():
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)


async def _json(incoming: web.Request) -> Any:
    if not incoming.content_type.endswith("json"):
        raise RequestShapeError("Expected request with `Content-Type: application/json`", 415)
    try:
        return json.loads(await incoming.read())
    except ValueError as error:
        raise RequestShapeError(f"Failed to parse the request body as JSON: {error}", 400) from None


def _include_usage(fields: dict[str, Any]) -> bool:
    options: Any = fields.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _openai_error(error: InferError) -> bytes:
    # The router says 422 here whatever the error was.
    return sse.event({"error": {"message": str(error), "http_status_code": 422}})


def _generated(asked: Request, answer: Answer) -> dict[str, Any]:
    body: dict[str, Any] = {"generated_text": answer.end.text}
    if asked.get("details", False) or asked.get("decoder_input_details", False):
        details: dict[str, Any] = {
            "finish_reason": answer.end.finish_reason,
            "generated_tokens": answer.end.generated_tokens,
            "seed": answer.end.seed,
            "prefill": [],
            "tokens": [_token(token) for token in answer.tokens],
        }
        if answer.top_tokens:
            details["top_tokens"] = [[_token(token) for token in top] for top in answer.top_tokens]
        body["details"] = details
    return body


def _token(token: Token) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": token.logprob, "special": token.special}


def _stream_body(asked: Request, event: Event) -> dict[str, Any]:
    body: dict[str, Any] = {"index": event.index, "token": _token(event.token)}
    if event.top_tokens:
        body["top_tokens"] = [_token(token) for token in event.top_tokens]
    body["generated_text"] = event.end.text if event.end else None
    body["details"] = _stream_details(event.end) if event.end and asked.get("details", False) else None
    return body


def _stream_details(end: End) -> dict[str, Any]:
    return {
        "finish_reason": end.finish_reason,
        "generated_tokens": end.generated_tokens,
        "seed": end.seed,
        "input_length": end.input_length,
    }


def _answered(asked: Request, answer: Answer, body: Any) -> web.Response:
    seconds = answer.end.seconds
    milliseconds = {name: str(int(value * 1000)) for name, value in seconds.items()}
    return web.json_response(
        body,
        headers={
            "x-compute-type": COMPUTE_TYPE,
            "x-compute-time": repr(seconds["total"]),
            "x-compute-characters": str(len(asked.inputs)),
            "x-total-time": milliseconds["total"],
            "x-validation-time": milliseconds["validation"],
            "x-queue-time": milliseconds["queue"],
            "x-inference-time": milliseconds["inference"],
            "x-time-per-token": milliseconds["time_per_token"],
            "x-prompt-tokens": str(answer.end.input_length),
            "x-generated-tokens": str(answer.end.generated_tokens),
        },
    )
