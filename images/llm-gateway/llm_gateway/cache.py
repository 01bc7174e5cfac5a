"""The store behind the response cache: Redis or Valkey, of which no request depends.

Every fault fails open. A request never waits for a connection to a cache that is down: a background task makes and
tests connections, and requests use the cache only while that task says that it works. The connection URL is read from
its file again before each attempt, so a rotated password or a moved endpoint is picked up without a restart.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from llm_gateway.config import CacheConfig, LimitsConfig
from llm_gateway.limits import ADMIT, CHARGE, Standing, redis_key
from llm_gateway.metrics import Metrics

_log = logging.getLogger("llm_gateway")

_OPERATIONS = ("connect", "get", "set", "admit", "charge")
_FATAL = (RedisConnectionError, AuthenticationError, NoPermissionError, ReadOnlyError, OSError)
"""Failures that the next request would meet too, until there are new connections."""
_TIMEOUTS_BEFORE_OPEN = 3
_MAX_PENDING_WRITES = 256
_FAULTS = (RedisError, OSError, TimeoutError, ValueError)


class CacheUnavailableError(Exception):
    """The cache cannot be asked now; the request goes on without it."""


class _SharedTlsConnection(SSLConnection):
    """A TLS connection that shares its pool's context: a context of its own costs 20 ms of reading certificates.

    `saw_certificate` is told when the server's certificate ends, in seconds since the epoch.
    """

    def __init__(self, *, shared: RedisSSLContext, saw_certificate: Callable[[float], None], **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]
        self.ssl_context = shared
        self._saw_certificate = saw_certificate

    async def _connect(self) -> None:
        await super()._connect()
        writer = cast("asyncio.StreamWriter", self._writer)
        tls = cast("ssl.SSLObject", writer.get_extra_info("ssl_object"))
        certificate = tls.getpeercert() or {}
        self._saw_certificate(ssl.cert_time_to_seconds(str(certificate["notAfter"])))


class CacheStore:
    """Values under keys for a time, in Redis. `run` must be running for the store to be available."""

    def __init__(self, config: CacheConfig, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._client: Redis | None = None
        self._url: str = ""
        self._available = False
        self._timeouts = 0
        self._first_timeout = 0.0
        self._reported = ""
        self._writes: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        metrics.cache_available.set(0)
        for operation in _OPERATIONS:  # as in Metrics.expect
            metrics.cache_errors.labels(operation, TimeoutError.__name__)

    @property
    def available(self) -> bool:
        """Whether requests use the cache now."""
        return self._available

    @property
    def client(self) -> Redis | None:
        """The connections, for what else is kept in the same server; None while it is not in use."""
        return self._client if self._available else None

    async def get(self, key: str) -> bytes | None:
        """The value of `key`, None where there is none; raises CacheUnavailableError after at most the timeout."""
        client = self._client
        if client is None or not self._available:
            raise CacheUnavailableError
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                value = cast("bytes | None", await client.get(key))
        except _FAULTS as error:
            self._failed("get", error)
            raise CacheUnavailableError from error
        self._timeouts = 0
        return value

    async def admit(self, tenant: str, limits: LimitsConfig) -> Standing:
        """Counts a request of `tenant` in; raises CacheUnavailableError after at most the timeout."""
        client = self._client
        if client is None or not self._available:
            raise CacheUnavailableError
        script = client.register_script(ADMIT)
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                reply = await script([redis_key(tenant)], [limits.requests_per_minute, limits.tokens_per_minute])
        except _FAULTS as error:
            self._failed("admit", error)
            raise CacheUnavailableError from error
        self._timeouts = 0
        return Standing.of(cast("list[int | bytes]", reply))

    def charge(self, tenant: str, tokens: int) -> None:
        """Counts what a request has cost, in the background; dropped where the store is down or behind."""
        if self._available and len(self._writes) < _MAX_PENDING_WRITES:
            self._in_background(self._charge(tenant, tokens))

    def put(self, key: str, value: bytes) -> bool:
        """Stores `value` in the background; drops it, and says so, if it is too long, or the cache down or behind."""
        if not self._available or len(value) > self._config.max_entry_bytes or len(self._writes) >= _MAX_PENDING_WRITES:
            return False
        self._in_background(self._put(key, value))
        return True

    def _in_background(self, write: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def run(self) -> None:
        """Keeps the connection for ever: connects, notices a changed URL, reconnects after a failure."""
        while True:
            await self._maintain()
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.retry_seconds):
                    await self._changed.wait()
                # What just failed gets a moment before it is tried again.
                await asyncio.sleep(self._config.retry_seconds)

    async def settle(self) -> None:
        """Waits for the writes that are under way."""
        if self._writes:
            await asyncio.wait(set(self._writes))

    async def close(self) -> None:
        """Finishes writes and closes the connections."""
        await self.settle()
        self._available = False
        await self._disconnect()

    async def _put(self, key: str, value: bytes) -> None:
        client = self._client
        if client is None:
            return
        try:
            # Nobody waits for a write, so it may take the time of a slow moment.
            async with asyncio.timeout(self._config.connect_timeout_seconds):
                await client.set(key, value, ex=self._config.ttl_seconds)
        except _FAULTS as error:
            self._failed("set", error)

    async def _charge(self, tenant: str, tokens: int) -> None:
        client = self._client
        if client is None:
            return
        try:
            async with asyncio.timeout(self._config.connect_timeout_seconds):
                await client.register_script(CHARGE)([redis_key(tenant)], [tokens])
        except _FAULTS as error:
            self._failed("charge", error)

    def _failed(self, operation: str, error: Exception) -> None:
        self._metrics.cache_errors.labels(operation, _kind(error)).inc()
        fatal = self._hangs() if isinstance(error, TimeoutError | RedisTimeoutError) else isinstance(error, _FATAL)
        if fatal and self._available:
            self._set_available(False, _kind(error))
            self._changed.set()

    def _hangs(self) -> bool:
        """Whether timeouts are the cache's: one after another, not all at once as when this process got no CPU."""
        now = time.monotonic()
        if not self._timeouts:
            self._first_timeout = now
        self._timeouts += 1
        return self._timeouts >= _TIMEOUTS_BEFORE_OPEN and now - self._first_timeout >= 2 * self._config.timeout_seconds

    async def _maintain(self) -> None:
        try:
            url = _read_url(self._config.url_file)
        except OSError as error:
            # The connections that there are may still be good: a Secret can be away for a moment.
            if not self._available:
                self._set_available(False, f"url_file: {error.strerror}")
            return
        if self._available and url == self._url:
            return
        await self._disconnect()
        try:
            client = _client(url, self._config, self._metrics.cache_certificate_expiry.set)
            self._client = client
            async with asyncio.timeout(self._config.connect_timeout_seconds):
                # Every connection of the pool is made here: a TLS handshake can take longer than a request waits.
                await asyncio.gather(*(cast("Any", client).ping() for _ in range(self._config.max_connections)))
        except _FAULTS as error:
            self._metrics.cache_errors.labels("connect", _kind(error)).inc()
            no_url = isinstance(error, ValueError)
            self._set_available(False, "url_file holds no Redis URL" if no_url else _kind(error))
        else:
            self._url = url
            self._timeouts = 0
            self._set_available(True, "")

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(*_FAULTS):
                await client.connection_pool.disconnect()

    def _set_available(self, available: bool, reason: str) -> None:
        self._available = available
        self._metrics.cache_available.set(int(available))
        state = "in use" if available else f"not in use: {reason}"
        if state != self._reported:
            self._reported = state
            _log.log(logging.INFO if available else logging.ERROR, "cache %s", state)


def _kind(error: Exception) -> str:
    """The name of what went wrong; the client wraps a failed AUTH in a connection error."""
    cause = error.__cause__
    return type(cause if isinstance(cause, RedisError) else error).__name__


def _read_url(path: Path | None) -> str:
    return path.read_text(encoding="utf-8").strip() if path else ""


def _client(url: str, config: CacheConfig, saw_certificate: Callable[[float], None]) -> Redis:
    """A client for `url`; raises ValueError for one that is no Redis URL."""
    options: dict[str, Any] = {
        "socket_connect_timeout": config.connect_timeout_seconds,
        "socket_timeout": config.connect_timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
        **cast("dict[str, Any]", parse_url(url)),
    }
    if url.startswith("rediss://"):
        options["connection_class"] = _SharedTlsConnection
        options["shared"] = RedisSSLContext(cert_reqs="required", check_hostname=True)
        options["saw_certificate"] = saw_certificate
    pool = BlockingConnectionPool(
        max_connections=config.max_connections, timeout=config.connect_timeout_seconds, **options
    )
    return Redis(connection_pool=pool)
