"""The HTTP server: the routes and statuses of vLLM 0.33.0."""

import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from local_runtime.engine import Engine, GenerationError, TemplateError
from local_runtime.generation import Generation
from local_runtime.openai import Api, ApiError, Body, messages_as_text, read_json
from local_runtime.vllm import VERSION
from local_runtime.vllm.arguments import Arguments
from local_runtime.vllm.metrics import Metrics
from local_runtime.vllm.protocol import VllmShape

_GUARDED = ("/v1", "/v2", "/inference", "/cohere")
"""Where --api-key is asked for; everything else stays open."""
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The web application of an engine. To be made in the event loop."""

    def __init__(self, arguments: Arguments, engine: Engine, *, max_model_len: int, kv_tokens: int) -> None:
        self._arguments = arguments
        self._max_model_len = max_model_len
        self._metrics = Metrics(arguments.names[0], max_model_len)
        self._engine = engine
        self.generation = Generation(engine, slots=arguments.slots, kv_tokens=kv_tokens, observer=self._metrics)
        self._shape = VllmShape(arguments, max_model_len)
        self._api = Api(self.generation, self._shape, arguments.names[0], arguments.adapters)
        self._begun = int(time.time())

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._guard], client_max_size=2**30)
        for path in ("/health", "/ping"):
            app.router.add_get(path, self._health)
        app.router.add_post("/ping", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._prometheus)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/tokenize", self._tokenize)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        path = request.path.removeprefix(self._arguments.root_path)
        if self._arguments.api_keys and path.startswith(_GUARDED) and not self._has_key(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        try:
            return await handler(request)
        except ApiError as error:
            return web.json_response(self._shape.error(error), status=error.status)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed, web.HTTPRequestEntityTooLarge) as error:
            missing = ApiError(error.reason, error.reason, error.status)
            return web.json_response(self._shape.error(missing), status=error.status)

    def _has_key(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        matches = [hmac.compare_digest(given.encode(), key.encode()) for key in self._arguments.api_keys]
        return scheme.lower() == "bearer" and any(matches)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if await self._engine.healthy() else 503)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def _prometheus(self, _: web.Request) -> web.Response:
        # Without --disable-log-stats.
        body = self._metrics.render() if self._arguments.log_stats else b""
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _models(self, _: web.Request) -> web.Response:
        models = [self._model(name) for name in self._arguments.names]
        of_base = {"parent": self._arguments.names[0], "max_model_len": None}
        for name, folder in self._arguments.adapters.items():
            models.append({**self._model(name), "root": folder, **of_base})
        return web.json_response({"object": "list", "data": models})

    def _model(self, name: str) -> Body:
        permission = {
            "id": f"modelperm-{uuid.uuid4().hex}", "object": "model_permission", "created": self._begun,
            "allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True,
            "allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False, "organization": "*",
            "group": None, "is_blocking": False,
        }  # fmt: skip
        return {
            "id": name, "object": "model", "created": self._begun, "owned_by": "vllm", "root": self._arguments.model,
            "parent": None, "max_model_len": self._max_model_len, "permission": [permission],
        }  # fmt: skip

    async def _chat(self, incoming: web.Request) -> web.StreamResponse:
        self._admit()
        return await self._api.chat(incoming)

    async def _completions(self, incoming: web.Request) -> web.StreamResponse:
        self._admit()
        return await self._api.completions(incoming)

    def _admit(self) -> None:
        """Raises ApiError where a queue limit is reached."""
        requests, tokens = self._arguments.max_num_queued_reqs, self._arguments.max_num_queued_tokens
        if requests is not None and self.generation.unfinished + 1 > requests:
            self._metrics.rejections["max_num_queued_reqs"].inc()
            raise ApiError(
                "The engine is currently busy and cannot accept new requests. Please try again later or on a different"
                " instance.",
                "Service Unavailable",
                503,
            )
        if tokens is not None and self.generation.prefilling_tokens >= tokens:
            self._metrics.rejections["max_num_queued_tokens"].inc()
            raise ApiError(
                "The engine has reached its prefill token backlog limit. Please try again later or on a different"
                " instance.",
                "Service Unavailable",
                503,
            )

    async def _tokenize(self, incoming: web.Request) -> web.Response:
        body: Any = await read_json(incoming)
        if not isinstance(body, dict):
            raise ApiError("1 validation error:\n  the body must be an object", "Bad Request")
        fields = cast("Body", body)
        try:
            if "messages" in fields:
                text = await self._engine.prompt(messages_as_text(fields["messages"]))
                special = bool(fields.get("add_special_tokens", False))
            else:
                text, special = str(fields.get("prompt", "")), bool(fields.get("add_special_tokens", True))
            tokens = await self._engine.token_ids(text, add_special=special)
        except (GenerationError, TemplateError) as error:
            raise ApiError(str(error)) from error
        return web.json_response(
            {
                "count": len(tokens),
                "max_model_len": self._max_model_len,
                "tokens": [number for number, _ in tokens],
                "token_strs": [piece for _, piece in tokens] if fields.get("return_token_strs") else None,
            }
        )
