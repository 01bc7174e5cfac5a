"""Copies of requests for shadow versions: nobody waits for them, and nobody gets their answers."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from aiohttp import ClientConnectionError, ClientError

from llm_gateway.config import ModelRoute
from llm_gateway.inference import Inference
from llm_gateway.metrics import Metrics
from llm_gateway.upstream import Upstream, kind_of
from llm_gateway.versions import sampled


class Shadows:
    """The copies of one gateway that are in flight."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def send(
        self, upstream: Upstream, route: ModelRoute, inference: Inference, headers: Mapping[str, str], limit: int
    ) -> None:
        """Sends copies to those shadows of the model whose turn it is, as long as fewer than `limit` are in flight."""
        for version in filter(sampled, route.shadows):
            if len(self._tasks) >= limit:
                self._count(inference.model, version.name, "skipped")
                continue
            copying = upstream.discard(version.url + inference.endpoint, inference.body, headers)
            copy = self._copy(copying, route.timeout_seconds, inference.model, version.name)
            task = asyncio.get_running_loop().create_task(copy)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Drops what is in flight."""
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _copy(self, copying: Coroutine[Any, Any, int], seconds: float, model: str, version: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                status = await copying
            result = "ok" if status < 400 else f"status_{status}"
        except ClientConnectionError as error:
            result = kind_of(error)
        except TimeoutError:
            result = "timeout"
        except ClientError:
            result = "incomplete"
        self._count(model, version, result)

    def _count(self, model: str, version: str, result: str) -> None:
        self._metrics.shadow_requests.labels(model, version, result).inc()
