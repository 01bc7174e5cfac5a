"""Calls to the inference services: pooled connections, and another try where no service has begun to answer.

A request for inference changes nothing at the service, so it may be sent again as long as no byte of an answer has
come. That is what makes a rolling update of a model service lossless: a pod that goes away refuses or resets, and the
next connection reaches another one.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Self

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientPayloadError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)

from llm_gateway.config import UpstreamConfig
from llm_gateway.errors import ApiError

_KEEPALIVE_SECONDS = 15
_DNS_SECONDS = 10
NOT_CONNECTED = ("connect", "connect_timeout")
"""Kinds of failure after which no service can have got the request."""


class UnreachableError(ApiError):
    """No try has reached a service that answered. `sent` says whether one may have got the request."""

    def __init__(self, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(
            503,
            "The model is not available at the moment.",
            kind="upstream_error",
            code="model_unavailable",
            headers={"Retry-After": "1"},
        )


class Upstream:
    """The client side. `on_failure(kind, will_retry)` is told of each failed try."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        timeout = ClientTimeout(total=None, sock_connect=config.connect_timeout_seconds)
        pooled = TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ttl_dns_cache=_DNS_SECONDS)
        # A second try must not get another idle connection to the pod that just went away.
        fresh = TCPConnector(limit=0, force_close=True, use_dns_cache=False)
        self._pooled = self._session(pooled, timeout)
        self._fresh = self._session(fresh, timeout)

    @staticmethod
    def _session(connector: TCPConnector, timeout: ClientTimeout) -> ClientSession:
        return ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def send(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        on_failure: Callable[[str, bool], None],
        on_try: Callable[[str, Mapping[str, str]], Mapping[str, str]],
    ) -> ClientResponse:
        """The service's response, its headers read; the caller must close it. `on_try` makes the headers of each try.

        Raises ApiError (502 or 503) where no try got that far: UnreachableError where no connection brought an answer.
        """
        session = self._pooled
        sent = False
        for attempt in range(1, self._config.attempts + 1):
            last = attempt == self._config.attempts
            try:
                response = await session.post(url, data=body, headers=on_try(url, headers), allow_redirects=False)
            except ClientConnectionError as error:
                kind = kind_of(error)
                sent = sent or kind not in NOT_CONNECTED
                on_failure(kind, not last)
                if last:
                    raise UnreachableError(sent=sent) from error
            except ClientResponseError as error:
                on_failure("not_http", False)
                raise ApiError(
                    502, "The model failed to answer.", kind="upstream_error", code="bad_response"
                ) from error
            else:
                if response.status != 503 or last:
                    return response
                # "Not now" is also what a replica says on its way out: another one may take the request.
                response.close()
                sent = True
                on_failure("unavailable", True)
            await asyncio.sleep(self._config.backoff_seconds * 2 ** (attempt - 1))
            session = self._fresh
        raise UnreachableError(sent=sent)

    async def discard(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Sends a request once, reads the answer to its end for nobody, and returns its status."""
        async with self._pooled.post(url, data=body, headers=headers, allow_redirects=False) as response:
            async for _ in response.content.iter_any():
                pass
            return response.status

    async def read(self, response: ClientResponse) -> bytes:
        """The whole body of a response that is not streamed; raises ApiError 502 where it breaks off or is too long."""
        limit = self._config.max_response_bytes
        parts: list[bytes] = []
        size = 0
        try:
            async for part in response.content.iter_any():
                size += len(part)
                if size > limit:
                    raise ApiError(502, "The model's answer is too long.", kind="upstream_error", code="too_long")
                parts.append(part)
        except (ClientConnectionError, ClientPayloadError) as error:
            raise ApiError(
                502, "The model stopped before the answer was complete.", kind="upstream_error", code="incomplete"
            ) from error
        return b"".join(parts)

    async def close(self) -> None:
        """Closes every connection."""
        await self._pooled.close()
        await self._fresh.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def kind_of(error: ClientConnectionError) -> str:
    """What has gone wrong, as metrics name it."""
    match error:
        case ConnectionTimeoutError():
            return "connect_timeout"
        case ClientConnectorError():
            return "connect"
        case ServerDisconnectedError():
            return "disconnected"
        case _:
            return "reset"
