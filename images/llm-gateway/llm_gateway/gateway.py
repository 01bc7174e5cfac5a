"""What a gateway process holds: the configuration in force, what answers under it, and whether it is on its way out."""

import asyncio
import time

from llm_gateway.cache import CacheStore
from llm_gateway.config import GatewayConfig, ServerConfig
from llm_gateway.errors import ApiError
from llm_gateway.metrics import Metrics
from llm_gateway.proxy import Backend
from llm_gateway.shadow import Shadows
from llm_gateway.upstream import Upstream


class Gateway:
    """One gateway. It must be made and used inside a running event loop."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.draining = False
        self.loaded_at = 0
        """When the configuration in force was put so, in seconds since the epoch."""
        self._backend: Backend | None = None
        self._shadows = Shadows(self.metrics)
        self._in_flight = 0
        self._last_busy = time.monotonic()
        self._cache_task: asyncio.Task[None] | None = None
        self._retired: set[asyncio.Task[None]] = set()

    @property
    def configured(self) -> bool:
        """Whether there is a configuration."""
        return self._backend is not None

    @property
    def backend(self) -> Backend:
        """What answers requests now; raises ApiError 503 before there is a configuration."""
        if self._backend is None:
            raise ApiError(503, "The gateway is starting.", kind="server_error", code="starting")
        return self._backend

    @property
    def limits(self) -> ServerConfig:
        """The limits in force."""
        return self._backend.config.server if self._backend else ServerConfig()

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    @property
    def quiet_seconds(self) -> float:
        """How long there has been no request in flight."""
        return 0.0 if self._in_flight else time.monotonic() - self._last_busy

    def configure(self, config: GatewayConfig) -> None:
        """Puts `config` in force for the requests that come from now on; those in flight end as they began."""
        old = self._backend
        if old is not None and old.config == config:
            return
        keep_cache = old is not None and old.config.cache == config.cache
        keep_upstream = old is not None and old.config.upstream == config.upstream
        cache = old.cache if old and keep_cache else self._new_cache(config)
        upstream = old.upstream if old and keep_upstream else Upstream(config.upstream)
        self._backend = Backend(config, upstream, cache, self._shadows, self.metrics)
        self.metrics.expect(config.models)
        self.loaded_at = int(time.time())
        if old is not None:
            longest = max(route.timeout_seconds for route in old.config.models.values())
            self._retire(None if keep_cache else old.cache, None if keep_upstream else old.upstream, longest)

    def request_began(self) -> None:
        """Counts a request in."""
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)

    def request_ended(self) -> None:
        """Counts a request out."""
        self._in_flight -= 1
        self._last_busy = time.monotonic()
        self.metrics.in_flight.set(self._in_flight)

    def start_draining(self) -> None:
        """From now on the gateway is not ready, and each answer asks its caller to use another connection."""
        self.draining = True
        self.metrics.draining.set(1)

    async def close(self) -> None:
        """Ends background work and closes connections."""
        for task in set(self._retired):
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        self._stop_cache_task()
        await self._shadows.close()
        if self._backend is not None:
            await _close(self._backend.cache, self._backend.upstream)

    def _new_cache(self, config: GatewayConfig) -> CacheStore | None:
        self._stop_cache_task()
        if not config.cache.enabled:
            return None
        cache = CacheStore(config.cache, self.metrics)
        self._cache_task = asyncio.get_running_loop().create_task(cache.run())
        return cache

    def _stop_cache_task(self) -> None:
        if self._cache_task is not None:
            self._cache_task.cancel()
            self._cache_task = None

    def _retire(self, cache: CacheStore | None, upstream: Upstream | None, after_seconds: float) -> None:
        """Closes what is no longer in force once the last request that may use it has ended."""

        async def close() -> None:
            try:
                await asyncio.sleep(after_seconds)
            finally:
                await _close(cache, upstream)

        if cache is not None or upstream is not None:
            task = asyncio.get_running_loop().create_task(close())
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)


async def _close(cache: CacheStore | None, upstream: Upstream | None) -> None:
    if cache is not None:
        await cache.close()
    if upstream is not None:
        await upstream.close()
