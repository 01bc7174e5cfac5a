"""The embedder's HTTP side: routes, the frame around every request, health and metrics."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from http_service.errors import ApiError
from http_service.requests import no_such_route, read_body, request_id

from embedder.access_log import Record
from embedder.metrics import CONTENT_TYPE
from embedder.model import Vectors
from embedder.request import parse
from embedder.service import Embedder

_log = logging.getLogger("embedder")

EMBEDDINGS_PATH = "/v1/embeddings"
MODELS_PATH = "/v1/models"
_CALLER_GONE = 499
_UNKNOWN_ENDPOINT = "unknown"

Handler = Callable[[Embedder, web.Request, Record], Awaitable[web.Response]]


def application(embedder: Embedder) -> web.Application:
    """The aiohttp application that serves `embedder`."""

    async def live(_: web.Request) -> web.Response:
        return web.Response(status=200 if embedder.healthy else 503, text="ok\n" if embedder.healthy else "failing\n")

    async def ready(_: web.Request) -> web.Response:
        reason = "draining" if embedder.draining else "" if embedder.healthy else "failing"
        response = web.Response(status=503 if reason else 200, text=(reason or "ok") + "\n")
        if embedder.draining:
            response.force_close()
        return response

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=embedder.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_post(EMBEDDINGS_PATH, _framed(embedder, EMBEDDINGS_PATH, _embed))
    app.router.add_get(MODELS_PATH, _framed(embedder, MODELS_PATH, _models), allow_head=False)
    app.router.add_get("/health/live", live, allow_head=False)
    app.router.add_get("/health/ready", ready, allow_head=False)
    app.router.add_get("/metrics", metrics, allow_head=False)
    app.router.add_route("*", "/{path:.*}", _framed(embedder, _UNKNOWN_ENDPOINT, _no_such_route))
    return app


def _framed(embedder: Embedder, endpoint: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    """`handler` with what every request gets: an id, a count, a log line, errors in OpenAI's shape."""

    async def handle(request: web.Request) -> web.Response:
        record = Record(request_id(request), request.method, endpoint)
        embedder.request_began()
        try:
            response = await _answer(embedder, request, record, handler)
        except asyncio.CancelledError:
            record.status = _CALLER_GONE
            raise
        else:
            record.status = response.status
            return response
        finally:
            embedder.request_ended()
            record.finish(embedder.metrics)

    return handle


async def _answer(embedder: Embedder, request: web.Request, record: Record, handler: Handler) -> web.Response:
    try:
        response = await handler(embedder, request, record)
    except ApiError as error:
        response = _error_response(error, record)
    except Exception:  # noqa: BLE001 - a fault of the embedder ends one request, in the shape of every other error
        _log.exception("request failed", extra={"fields": {"request_id": record.request_id}})
        error = ApiError(500, "The embedder failed to handle the request.", kind="server_error", code="internal")
        response = _error_response(error, record)
    if embedder.draining:
        response.force_close()
    return response


async def _embed(embedder: Embedder, request: web.Request, record: Record) -> web.Response:
    settings = embedder.settings
    body = await read_body(request, max_bytes=settings.max_body_bytes, timeout_seconds=settings.body_timeout_seconds)
    parsed = parse(body, settings.model_name, embedder.dimensions, settings.max_inputs)
    record.inputs = len(parsed.inputs)
    vectors, record.tokens = await embedder.embed(parsed.inputs)
    encoded = _base64(vectors) if parsed.encoding == "base64" else vectors
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)],
        "model": settings.model_name,
        "usage": {"prompt_tokens": record.tokens, "total_tokens": record.tokens},
    }
    return _json(answer, record)


def _base64(vectors: Vectors) -> list[str]:
    """Each vector's numbers as 32-bit floats, little-endian, as OpenAI's clients read them."""
    return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]


async def _models(embedder: Embedder, _: web.Request, record: Record) -> web.Response:
    name = embedder.settings.model_name
    model = {"id": name, "object": "model", "created": embedder.loaded_at, "owned_by": "llm-embedder"}
    return _json({"object": "list", "data": [model]}, record)


async def _no_such_route(_: Embedder, request: web.Request, __: Record) -> web.Response:
    allowed = {MODELS_PATH: "GET", EMBEDDINGS_PATH: "POST"}.get(request.path, "")
    raise no_such_route(request, allowed)


def _json(answer: dict[str, Any], record: Record) -> web.Response:
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return web.Response(body=body, headers={**_headers(record), "Content-Type": "application/json"})


def _error_response(error: ApiError, record: Record) -> web.Response:
    record.error = error.code or error.kind
    headers = {**_headers(record), "Content-Type": "application/json", **error.headers}
    return web.Response(status=error.status, body=error.body(), headers=headers)


def _headers(record: Record) -> dict[str, str]:
    return {"Server": "llm-embedder", "X-Request-Id": record.request_id}
