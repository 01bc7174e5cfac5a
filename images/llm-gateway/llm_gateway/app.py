"""The gateway's HTTP side: routes, the frame around every request, health and metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from http_service.errors import ApiError
from http_service.requests import no_such_route, read_body, request_id

from llm_gateway import cache_policy, cors, inference
from llm_gateway.access_log import Record
from llm_gateway.cache import CacheUnavailableError
from llm_gateway.config import LimitsConfig
from llm_gateway.gateway import Gateway
from llm_gateway.identity import asks_for_token, not_yet
from llm_gateway.inference import Endpoint
from llm_gateway.metrics import CONTENT_TYPE
from llm_gateway.proxy import Backend, CallerGoneError, Exchange

_log = logging.getLogger("llm_gateway")

_MODELS_PATH = "/v1/models"
_CALLER_GONE = 499
_UNKNOWN_ENDPOINT = "unknown"

Handler = Callable[[Gateway, web.Request, Record], Awaitable[web.StreamResponse]]
_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(gateway: Gateway) -> web.Application:
    """The aiohttp application that serves `gateway`."""

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        reason = "draining" if gateway.draining else "" if gateway.configured else "no configuration"
        response = web.Response(status=503 if reason else 200, text=(reason or "ok") + "\n")
        if gateway.draining:
            response.force_close()
        return response

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=gateway.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    def inside(handler: Callable[[web.Request], Awaitable[web.Response]]) -> _Handle:
        async def handle(request: web.Request) -> web.StreamResponse:
            # These are no part of the API, and what must have a token came in with no key.
            return await (unknown if asks_for_token(request.headers) else handler)(request)

        return handle

    unknown = _framed(gateway, _UNKNOWN_ENDPOINT, _no_such_route)
    app = web.Application()
    for endpoint in Endpoint:
        app.router.add_post(endpoint.value, _framed(gateway, endpoint.value, _infer))
    app.router.add_get(_MODELS_PATH, _framed(gateway, _MODELS_PATH, _models), allow_head=False)
    app.router.add_get("/health/live", inside(live), allow_head=False)
    app.router.add_get("/health/ready", inside(ready), allow_head=False)
    app.router.add_get("/metrics", inside(metrics), allow_head=False)
    app.router.add_route("OPTIONS", "/{path:.*}", _framed(gateway, _UNKNOWN_ENDPOINT, _options))
    app.router.add_route("*", "/{path:.*}", unknown)
    app.on_response_prepare.append(_lets_pages_read(gateway))
    return app


def _lets_pages_read(gateway: Gateway) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """What gives each answer the headers by which a browser lets a page read it."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        if gateway.limits.cors_origins:
            response.headers.update(cors.allowed(request.headers, gateway.limits))

    return add


def _framed(gateway: Gateway, endpoint: str, handler: Handler) -> _Handle:
    """`handler` with what every request gets: an id, a count, a log line, errors in OpenAI's shape."""

    async def handle(request: web.Request) -> web.StreamResponse:
        record = Record(request_id(request), request.method, endpoint)
        if gateway.tracer is not None:
            record.trace = gateway.tracer.begin(request.headers, record)
        gateway.request_began()
        try:
            response = await _answer(gateway, request, record, handler)
        except asyncio.CancelledError:
            record.status = _CALLER_GONE
            raise
        else:
            record.status = record.status or response.status
            return response
        finally:
            gateway.request_ended()
            record.finish(gateway.metrics)

    return handle


async def _answer(gateway: Gateway, request: web.Request, record: Record, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(gateway, request, record)
    except ApiError as error:
        response = _error_response(error, record)
    except CallerGoneError:
        record.status = _CALLER_GONE
        response = web.Response(status=_CALLER_GONE)
    except Exception:  # noqa: BLE001 - a fault of the gateway ends one request, in the shape of every other error
        _log.exception("request failed", extra={"fields": {"request_id": record.request_id}})
        error = ApiError(500, "The gateway failed to handle the request.", kind="server_error", code="internal")
        response = _error_response(error, record)
    if gateway.draining and not response.prepared:
        response.force_close()
    return response


async def _infer(gateway: Gateway, request: web.Request, record: Record) -> web.StreamResponse:
    backend = gateway.backend
    record.tenant = await _tenant(backend, request)
    config = backend.config
    server = config.server
    body = await read_body(request, max_bytes=server.max_body_bytes, timeout_seconds=server.body_timeout_seconds)
    parsed = inference.parse(
        Endpoint(record.endpoint), body, request.headers.get("x-model"), config.routes, config.adapters
    )
    record.model = parsed.model
    record.stream = parsed.stream
    limits = await _admit(backend, record)
    return await Exchange(backend, request, parsed, record, _headers(record) | limits, close=gateway.draining).answer()


async def _tenant(backend: Backend, request: web.Request) -> str:
    """Who asks; raises ApiError where a token is asked for and this is none that counts."""
    jwt = backend.config.jwt
    if not asks_for_token(request.headers) and (jwt is None or not jwt.required_inside):
        return cache_policy.tenant(request.headers)
    if backend.identity is None:
        raise not_yet()
    return await backend.identity.tenant(request.headers)


async def _admit(backend: Backend, record: Record) -> dict[str, str]:
    """The headers that tell a caller where it stands; raises ApiError 429 where it may not go on."""
    limits, store = backend.config.limits, backend.cache
    if store is None or limits == LimitsConfig():
        return {}
    try:
        standing = await store.admit(record.tenant, limits)
    except CacheUnavailableError:
        backend.metrics.limit_results.labels("unchecked").inc()
        return {}
    backend.metrics.limit_results.labels("admitted" if standing.admitted else "refused").inc()
    if not standing.admitted:
        raise standing.refusal(limits)
    return standing.headers(limits)


async def _models(gateway: Gateway, request: web.Request, record: Record) -> web.StreamResponse:
    record.tenant = await _tenant(gateway.backend, request)
    models = [
        {"id": name, "object": "model", "created": gateway.loaded_at, "owned_by": "llm-gateway"}
        for name in sorted(gateway.backend.config.routes)
    ]
    headers = {**_headers(record), "Content-Type": "application/json"}
    return web.Response(body=orjson.dumps({"object": "list", "data": models}), headers=headers)


async def _options(gateway: Gateway, request: web.Request, record: Record) -> web.StreamResponse:
    limits = gateway.limits
    if not limits.cors_origins or not cors.is_preflight(request.method, request.headers):
        return await _no_such_route(gateway, request, record)
    return web.Response(status=204, headers=_headers(record) | cors.preflight(request.headers, limits))


async def _no_such_route(_: Gateway, request: web.Request, __: Record) -> web.StreamResponse:
    path = request.path
    allowed = "GET" if path == _MODELS_PATH else "POST" if path in set(Endpoint) else ""
    raise no_such_route(request, allowed)


def _error_response(error: ApiError, record: Record) -> web.Response:
    record.error = error.code or error.kind
    headers = {**_headers(record), "Content-Type": "application/json", **error.headers}
    if record.cache:
        headers["X-Cache"] = record.cache
    if record.version:
        headers["X-Model-Version"] = record.version
    return web.Response(status=error.status, body=error.body(), headers=headers)


def _headers(record: Record) -> dict[str, str]:
    return {"Server": "llm-gateway", "X-Request-Id": record.request_id}
