"""What a gateway process holds: the configuration in force, what answers under it, and whether it is on its way out."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from http_service.drain import Drainable
from http_service.errors import ApiError

from llm_gateway.cache import CacheStore
from llm_gateway.config import GatewayConfig, JwtConfig, ServerConfig
from llm_gateway.identity import Identity
from llm_gateway.issuer_keys import IssuerKeys
from llm_gateway.metrics import Metrics
from llm_gateway.proxy import Backend
from llm_gateway.semantic_cache import SemanticCache
from llm_gateway.shadow import Shadows
from llm_gateway.upstream import Upstream

if TYPE_CHECKING:
    from llm_gateway.trace_export import Tracer


class _Closing(Protocol):
    async def close(self) -> None: ...


class Gateway(Drainable):
    """One gateway. It must be made and used inside a running event loop."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        super().__init__(self.metrics.in_flight, self.metrics.draining)
        self.loaded_at = 0
        """When the configuration in force was put so, in seconds since the epoch."""
        self.tracer: Tracer | None = None
        """What traces requests; None where none is."""
        self._backend: Backend | None = None
        self._shadows = Shadows(self.metrics)
        self._cache_tasks: list[asyncio.Task[None]] = []
        self._issuer_task: asyncio.Task[None] | None = None
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

    def configure(self, config: GatewayConfig) -> None:
        """Puts `config` in force for the requests that come from now on; those in flight end as they began."""
        old = self._backend
        if old is not None and old.config == config:
            return
        keep_cache = old is not None and old.config.cache == config.cache
        keep_upstream = old is not None and old.config.upstream == config.upstream
        cache, semantic = (old.cache, old.semantic) if old and keep_cache else self._new_cache(config)
        upstream = old.upstream if old and keep_upstream else Upstream(config.upstream)
        keep_identity = old is not None and old.config.jwt == config.jwt
        identity = old.identity if old and keep_identity else self._new_identity(config.jwt)
        self._backend = Backend(config, upstream, cache, semantic, self._shadows, self.metrics, identity)
        tracer = self.tracer
        keep_tracer = old is not None and old.config.traces == config.traces
        if not keep_tracer:
            self.tracer = self._new_tracer(config)
        self.metrics.expect(config.routes)
        self.loaded_at = int(time.time())
        if old is not None:
            longest = max(route.timeout_seconds for route in old.config.models.values())
            closing = [
                None if keep_cache else old.semantic,
                None if keep_cache else old.cache,
                None if keep_identity else old.identity,
                None if keep_upstream else old.upstream,
                None if keep_tracer else tracer,
            ]
            self._retire(closing, longest)

    async def close(self) -> None:
        """Ends background work and closes connections."""
        for task in set(self._retired):
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        self._stop_cache_tasks()
        self._stop_identity()
        await self._shadows.close()
        if self._backend is not None:
            backend = self._backend
            await _close([backend.semantic, backend.cache, backend.identity, backend.upstream, self.tracer])

    def _new_tracer(self, config: GatewayConfig) -> "Tracer | None":
        if config.traces is None:
            return None
        # OpenTelemetry takes time and memory to import: only a gateway that traces pays for it.
        from llm_gateway.trace_export import Tracer  # noqa: PLC0415

        return Tracer(config.traces, self.metrics)

    def _new_cache(self, config: GatewayConfig) -> tuple[CacheStore | None, SemanticCache | None]:
        self._stop_cache_tasks()
        if not config.cache.enabled:
            return None, None
        start = asyncio.get_running_loop().create_task
        cache = CacheStore(config.cache, self.metrics)
        self._cache_tasks.append(start(cache.run()))
        if config.cache.semantic is None:
            return cache, None
        semantic = SemanticCache(config.cache, config.cache.semantic, cache, self.metrics)
        self._cache_tasks.append(start(semantic.run()))
        return cache, semantic

    def _new_identity(self, config: JwtConfig | None) -> Identity | None:
        self._stop_identity()
        if config is None:
            return None
        keys = IssuerKeys(config.issuer, config.certificate_authority)
        self._issuer_task = asyncio.get_running_loop().create_task(keys.run())
        return Identity(config, keys)

    def _stop_identity(self) -> None:
        if self._issuer_task is not None:
            self._issuer_task.cancel()
            self._issuer_task = None

    def _stop_cache_tasks(self) -> None:
        while self._cache_tasks:
            self._cache_tasks.pop().cancel()

    def _retire(self, closing: Sequence[_Closing | None], after_seconds: float) -> None:
        """Closes what is no longer in force once the last request that may use it has ended."""

        async def close() -> None:
            try:
                await asyncio.sleep(after_seconds)
            finally:
                await _close(closing)

        if any(closing):
            task = asyncio.get_running_loop().create_task(close())
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)


async def _close(closing: Sequence[_Closing | None]) -> None:
    for each in closing:
        if each is not None:
            await each.close()
