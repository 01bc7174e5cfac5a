"""Copies of requests for shadow versions: nobody waits for them, and nobody gets their answers."""

import asyncio
from collections.abc import Mapping

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
            url = version.url + inference.endpoint
            copy = self._copy(upstream, url, inference, headers, version.name, route.timeout_seconds)
            task = asyncio.get_running_loop().create_task(copy)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Drops what is in flight."""
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _copy(
        self,
        upstream: Upstream,
        url: str,
        inference: Inference,
        headers: Mapping[str, str],
        version: str,
        seconds: float,
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                status = await upstream.discard(url, inference.body, headers)
            result = "ok" if status < 400 else f"status_{status}"
        except ClientConnectionError as error:
            result = kind_of(error)
        except TimeoutError:
            result = "timeout"
        except ClientError:
            result = "incomplete"
        self._count(inference.model, version, result)

    def _count(self, model: str, version: str, result: str) -> None:
        self._metrics.shadow_requests.labels(model, version, result).inc()
