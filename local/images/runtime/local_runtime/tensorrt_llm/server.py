"""The HTTP server: the routes and statuses of trtllm-serve 1.2.1."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from local_runtime.engine import Engine, GenerationError
from local_runtime.generation import DEFAULT_SLOTS, MAX_SLOTS, Generation
from local_runtime.openai import Api, ApiError, Fields
from local_runtime.tensorrt_llm import VERSION
from local_runtime.tensorrt_llm.arguments import Arguments
from local_runtime.tensorrt_llm.metrics import Metrics
from local_runtime.tensorrt_llm.options import TorchLlmArgs
from local_runtime.tensorrt_llm.protocol import TensorRtShape

_log = logging.getLogger("TRT-LLM")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def slots(engine: TorchLlmArgs) -> int:
    """Requests generated at once: --max_batch_size where it is set to less than its default."""
    default = TorchLlmArgs.model_fields["max_batch_size"].default
    asked = engine.max_batch_size
    return DEFAULT_SLOTS if asked is None or asked == default else min(asked, MAX_SLOTS)


class Server:
    """The web application of an engine. To be made in the event loop."""

    def __init__(self, arguments: Arguments, engine: Engine, *, max_seq_len: int, kv_tokens: int) -> None:
        self._arguments = arguments
        settings = arguments.engine
        self._engine = engine
        self._metrics = Metrics(
            slots=slots(settings),
            kv_tokens=kv_tokens,
            tokens_per_block=settings.kv_cache_config.tokens_per_block,
            iteration_statistics=settings.enable_iter_perf_stats,
        )
        self._generation = Generation(engine, slots=slots(settings), kv_tokens=kv_tokens, observer=self._metrics)
        self._shape = TensorRtShape(
            max_seq_len=max_seq_len,
            max_num_tokens=None if settings.enable_chunked_prefill else settings.max_num_tokens,
        )
        self._api = Api(self._generation, self._shape, arguments.name)
        self._begun = int(time.time())

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._guard], client_max_size=2**30)
        app.router.add_get("/health", self._health)
        app.router.add_get("/health_generate", self._health_generate)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._statistics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._api.chat)
        app.router.add_post("/v1/completions", self._api.completions)
        if self._arguments.engine.return_perf_metrics:
            for path in ("/prometheus/metrics", "/prometheus/metrics/"):
                app.router.add_get(path, self._prometheus)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return web.json_response(self._shape.error(error), status=error.status)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            return web.json_response({"detail": error.reason}, status=error.status)

    async def _health(self, _: web.Request) -> web.Response:
        if await self._engine.healthy():
            return web.Response()
        return web.Response(status=503, text="LLM is unavailable. Please check the server logs for more details.")

    async def _health_generate(self, _: web.Request) -> web.Response:
        prompt = await self._engine.prompt([{"role": "user", "content": "hi"}])
        tokens = len(await self._engine.token_ids(prompt, add_special=False))
        sampling = Fields(temperature=0.0).sampling(1)
        try:
            async with aclosing(self._generation.run(prompt, tokens, sampling, time.monotonic())) as pieces:
                async for _piece in pieces:
                    pass
        except GenerationError as error:
            _log.error("Health generate check encountered exception: %s", error)
            return web.Response(status=500, text=f"Generation health check failed: {error}")
        return web.Response(text="Generation health check OK")

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def _statistics(self, _: web.Request) -> web.Response:
        return web.json_response(self._metrics.take_statistics())

    async def _prometheus(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _models(self, _: web.Request) -> web.Response:
        model = {
            "id": self._arguments.name, "object": "model", "created": self._begun, "owned_by": "tensorrt_llm",
        }  # fmt: skip
        return web.json_response({"object": "list", "data": [model]})
