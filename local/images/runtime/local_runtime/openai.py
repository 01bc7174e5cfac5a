"""The OpenAI-compatible API of the front ends that are like vLLM: reading requests, running them, streaming answers.

A front end says what its bodies look like and what it refuses; what happens in between is the same.
"""

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol, TypeVar, cast

from aiohttp import web
from pydantic import BaseModel, Field

from local_runtime import sse
from local_runtime.engine import GenerationError, Sampling, TemplateError
from local_runtime.generation import End, Generation, Piece

Body = dict[str, Any]


class ApiError(Exception):
    """A request that is refused: the message and what else the error's body has."""

    def __init__(self, message: str, kind: str = "BadRequestError", status: int = 400, param: str | None = None):
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.param = param


class StreamOptions(BaseModel):
    """What a stream tells besides the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = False


class ResponseFormat(BaseModel):
    """The form that an answer must have."""

    type: str
    json_schema: dict[str, Any] | None = None


class Fields(BaseModel):
    """What of a request has a meaning here, whichever route it takes."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    response_format: ResponseFormat | None = None
    add_special_tokens: bool | None = None

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens it asks for at most."""
        return None

    def sampling(self, limit: int) -> Sampling:
        """How to generate `limit` tokens at most. Raises ApiError for a form of answer that isn't served here."""
        return Sampling(
            limit=limit,
            temperature=_or(self.temperature, 1.0),
            top_k=max(0, _or(self.top_k, 0)),
            top_p=_or(self.top_p, 1.0),
            typical_p=1.0,
            min_p=_or(self.min_p, 0.0),
            repetition_penalty=_or(self.repetition_penalty, 1.0),
            frequency_penalty=_or(self.frequency_penalty, 0.0),
            presence_penalty=_or(self.presence_penalty, 0.0),
            seed=_or(self.seed, secrets.randbits(63)),
            ignore_eos=self.ignore_eos,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            schema=self._schema(),
        )

    def _schema(self) -> dict[str, Any] | None:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return {"type": "object"}
        if wanted.type == "json_schema" and wanted.json_schema is not None:
            schema: Any = wanted.json_schema.get("schema", wanted.json_schema)
            return cast("dict[str, Any]", schema)
        raise ApiError(f"response_format of type {wanted.type!r} is not served by the local runtime")


class ChatFields(Fields):
    """What of a chat request has a meaning here."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens it asks for at most."""
        return self.max_completion_tokens


class CompletionFields(Fields):
    """What of a completion request has a meaning here."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    max_tokens: int | None = None

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens it asks for at most."""
        return self.max_tokens


T = TypeVar("T")
AnyFields = TypeVar("AnyFields", bound=Fields)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


UNSERVED: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,), "echo": (), "length_penalty": (1.0,), "logit_bias": (), "logprobs": (0,), "min_tokens": (),
    "n": (1,), "prompt_embeds": (), "prompt_logprobs": (), "stop_token_ids": (), "structured_outputs": (),
    "suffix": (), "tools": (), "top_logprobs": (0,), "truncate_prompt_tokens": (), "use_beam_search": (),
}  # fmt: skip
"""Fields that change the answer and have no meaning here, with the values that ask for nothing."""


def refuse_unserved(body: Mapping[str, Any]) -> None:
    """Raises ApiError for a field that the runtime knows, and that would be of no effect here."""
    for name, harmless in UNSERVED.items():
        value = body.get(name)
        if name == "tools" and body.get("tool_choice") == "none":
            continue
        if value and value not in harmless:
            raise ApiError(f"`{name}` is not served by the local runtime", param=name)


def messages_as_text(messages: Sequence[Mapping[str, Any]]) -> list[Body]:
    """Messages with their content as one text each. Raises ApiError for content that isn't text."""
    return [{**message, "content": _text(message.get("content"))} for message in messages]


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts: list[str] = []
    for part in cast("list[Any]", content) if isinstance(content, list) else [content]:
        if not isinstance(part, dict) or not isinstance(text := cast("Body", part).get("text"), str):
            raise ApiError("only text is served by the local runtime", param="messages")
        parts.append(text)
    return "\n".join(parts)


@dataclass(frozen=True)
class Head:
    """What all bodies of one answer have in common."""

    id: str
    created: int
    model: str
    chat: bool


@dataclass(frozen=True)
class Answer:
    """A whole answer to one prompt."""

    text: str
    end: End


class Shape(Protocol):
    """How a runtime reads requests and writes answers."""

    def chat_fields(self, body: Any) -> ChatFields:
        """A chat request. Raises ApiError for what the runtime refuses."""
        ...

    def completion_fields(self, body: Any) -> CompletionFields:
        """A completion request. Raises ApiError for what the runtime refuses."""
        ...

    def limit(self, fields: Fields, prompt_tokens: int) -> int:
        """How many tokens a request may generate. Raises ApiError where it asks for too much."""
        ...

    def include_usage(self, fields: Fields) -> bool:
        """Whether a stream's last event has its usage."""
        ...

    def body(self, head: Head, answers: Sequence[Answer]) -> Body:
        """The body of a whole answer."""
        ...

    def chunk(self, head: Head, index: int, piece: Piece, *, with_usage: bool) -> Body:
        """The body of one event. `with_usage` is whether an event with the usage comes after the last one."""
        ...

    def role_chunk(self, head: Head) -> Body:
        """The body of a chat stream's first event."""
        ...

    def usage_chunk(self, head: Head, ends: Sequence[End]) -> Body:
        """The body of the event that has the usage."""
        ...

    def error(self, error: ApiError) -> Body:
        """The body of an error."""
        ...


class Api:
    """The two routes that generate."""

    def __init__(self, generation: Generation, shape: Shape, model: str, adapters: Collection[str] = ()) -> None:
        self._generation = generation
        self._engine = generation.engine
        self._shape = shape
        self._model = model
        self._adapters = adapters

    async def chat(self, incoming: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions. Raises ApiError."""
        arrived = time.monotonic()
        fields = self._shape.chat_fields(await read_json(incoming))
        try:
            prompt = await self._engine.prompt(messages_as_text(fields.messages))
        except TemplateError as error:
            raise ApiError(str(error)) from error
        return await self._answer(incoming, fields, [prompt], arrived, chat=True)

    async def completions(self, incoming: web.Request) -> web.StreamResponse:
        """POST /v1/completions. Raises ApiError."""
        arrived = time.monotonic()
        fields = self._shape.completion_fields(await read_json(incoming))
        prompts = [fields.prompt] if isinstance(fields.prompt, str) else fields.prompt
        return await self._answer(incoming, fields, prompts, arrived, chat=False)

    async def _answer(
        self, incoming: web.Request, fields: Fields, prompts: Sequence[str], arrived: float, *, chat: bool
    ) -> web.StreamResponse:
        prefix = "chatcmpl" if chat else "cmpl"
        model = self._adapter(fields) or self._model
        head = Head(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model, chat)
        special = _or(fields.add_special_tokens, not chat)  # a chat template has them already
        # Refused before anything is sent: a stream's status can't be taken back.
        runs = [await self._run(prompt, fields, arrived, special=special) for prompt in prompts]
        if fields.stream:
            return await _stream(incoming, self._events(head, fields, runs))
        try:
            answers = await asyncio.gather(*(_whole(run) for run in runs))
        except GenerationError as error:
            raise ApiError(str(error), "InternalServerError", 500) from error
        return web.json_response(self._shape.body(head, answers))

    def _adapter(self, fields: Fields) -> str | None:
        return fields.model if fields.model in self._adapters else None

    async def _run(self, prompt: str, fields: Fields, arrived: float, *, special: bool) -> AsyncGenerator[Piece]:
        try:
            tokens = len(await self._engine.token_ids(prompt, add_special=special))
        except GenerationError as error:
            raise ApiError(str(error), "InternalServerError", 500) from error
        sampling = fields.sampling(self._shape.limit(fields, tokens))
        sampling = replace(sampling, adapter=self._adapter(fields))
        return self._generation.run(prompt, tokens, sampling, arrived)

    async def _events(self, head: Head, fields: Fields, runs: Sequence[AsyncGenerator[Piece]]) -> AsyncGenerator[bytes]:
        with_usage = self._shape.include_usage(fields)
        ends: list[End] = []
        begun = not head.chat
        try:
            async with aclosing(_merged(runs)) as pieces:
                async for index, piece in pieces:
                    if not begun:
                        begun = True
                        yield sse.event(self._shape.role_chunk(head))
                    yield sse.event(self._shape.chunk(head, index, piece, with_usage=with_usage))
                    if piece.end is not None:
                        ends.append(piece.end)
        except GenerationError as error:
            yield sse.event(self._shape.error(ApiError(str(error), "InternalServerError", 500)))
        else:
            if with_usage:
                yield sse.event(self._shape.usage_chunk(head, ends))
        yield sse.DONE


async def read_json(incoming: web.Request) -> Any:
    """The body of a request. Raises ApiError where it isn't JSON."""
    try:
        return json.loads(await incoming.read())
    except ValueError as error:
        raise ApiError(f"1 validation error:\n  JSON decode error: {error}", "Bad Request") from None


async def _whole(run: AsyncGenerator[Piece]) -> Answer:
    text = ""
    end: End | None = None
    async with aclosing(run) as pieces:
        async for piece in pieces:
            text += piece.text
            end = piece.end
    assert end is not None  # a run ends with it, or raises
    return Answer(text, end)


async def _merged(runs: Sequence[AsyncGenerator[Piece]]) -> AsyncGenerator[tuple[int, Piece]]:
    """The pieces of all runs with the number of their run, as they come. Raises GenerationError."""
    queue: asyncio.Queue[tuple[int, Piece] | GenerationError | None] = asyncio.Queue()

    async def pump(index: int, run: AsyncGenerator[Piece]) -> None:
        try:
            async with aclosing(run) as pieces:
                async for piece in pieces:
                    await queue.put((index, piece))
        except GenerationError as error:
            await queue.put(error)
        finally:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(index, run)) for index, run in enumerate(runs)]
    running = len(tasks)
    try:
        while running:
            item = await queue.get()
            if isinstance(item, GenerationError):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stream(incoming: web.Request, events: AsyncGenerator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(incoming)
    async with aclosing(events):
        async for event in events:
            await response.write(event)
    await response.write_eof()
    return response
