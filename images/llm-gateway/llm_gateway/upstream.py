"""Calls to the inference services: pooled connections, and another try where no service has begun to answer.

A request for inference changes nothing at the service, so it may be sent again as long as no part of an answer has
come; the headers of a stream are none, for runtimes send them before they have read the prompt. That is what makes a
rolling update of a model service lossless: a pod that goes away refuses or resets, and the next connection reaches
another one. Three things bound that: a pod that fails again and again is left out for a while, a service that answers
nobody is asked by one request in a while, and retries have a budget.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

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
from http_service.errors import ApiError

from llm_gateway.affinity import ranked
from llm_gateway.breaker import Breakers
from llm_gateway.config import UpstreamConfig, Version
from llm_gateway.pods import Pods
from llm_gateway.retry_budget import RetryBudget

_KEEPALIVE_SECONDS = 15
_DNS_SECONDS = 10
_CIRCUIT_FAILURES = 5
"""Requests to a service in a row, each with all its tries, that nobody answered: the next would not be, either."""
_CIRCUIT_SECONDS = 1.0
_CIRCUIT_MOST_SECONDS = 5.0
"""A service that is back is found within this time: while it is open, requests are refused at once."""
_PROBES = {
    socket.TCP_KEEPIDLE: 4,
    socket.TCP_KEEPINTVL: 2,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 10_000,
}
"""When a connection on which nothing comes is asked whether its other side is there (s), how often, and for how long
what was sent may stay without acknowledgement (ms). The other side's kernel answers, however long its program takes."""
EVENT_STREAM = "text/event-stream"
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


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is sent to."""

    version: Version
    path: str
    key: bytes | None = None
    """What its pod is chosen by, where requests that begin alike are kept together."""
    waits: bool = False
    """Whether it may wait for a model's first pod, which is tried for however often it wasn't there."""


class Watcher(Protocol):
    """Is told what becomes of a request on its way."""

    def routed(self, how: str) -> None:
        """By what its pod was chosen."""

    def began(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """A try begins; returns the headers to send with it."""
        ...

    def failed(self, kind: str, *, again: bool) -> None:
        """A try has failed, and whether there will be another one."""

    def ejected(self) -> None:
        """A pod has failed so often that it is left out for a while."""

    def over_budget(self) -> None:
        """It is not sent again, because too many were already."""


class _Service:
    """What this process knows of one inference service."""

    def __init__(self, config: UpstreamConfig) -> None:
        self.budget = RetryBudget(config.retry_percent, config.retries_per_second)
        self.breaker = Breakers(_CIRCUIT_FAILURES, _CIRCUIT_SECONDS, _CIRCUIT_MOST_SECONDS)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request on its way."""

    target: Target
    body: bytes
    headers: Mapping[str, str]
    watcher: Watcher
    budget: RetryBudget


@dataclass(slots=True)
class Answer:
    """A service that answers: its headers are read and, of a stream, its first part."""

    response: ClientResponse
    base: str
    """The base URL that it came from."""
    _first: bytes = b""

    async def begun(self) -> Self:
        """Itself, once the first part is there. Raises as `part` does."""
        self._first = await self.response.content.readany()
        return self

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def streams(self) -> bool:
        """Whether it is a stream of events, and no error."""
        return self.status < 400 and self.response.content_type == EVENT_STREAM

    async def part(self) -> bytes:
        """What has come of its body since the last call, which is waited for; nothing where the body has ended.

        Raises ClientConnectionError or ClientPayloadError where it breaks off.
        """
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self.response.content.readany()


class Upstream:
    """The client side. It must be made and used inside a running event loop."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        timeout = ClientTimeout(total=None, sock_connect=config.connect_timeout_seconds)
        pooled = TCPConnector(
            limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ttl_dns_cache=_DNS_SECONDS, socket_factory=_socket
        )
        # A second try must not get another idle connection to the pod that just went away.
        fresh = TCPConnector(limit=0, force_close=True, use_dns_cache=False, socket_factory=_socket)
        self._pooled = self._session(pooled, timeout)
        self._fresh = self._session(fresh, timeout)
        self._ejections = Breakers(config.eject_after_failures, config.eject_seconds, config.eject_most_seconds)
        self._services: dict[str, _Service] = {}
        self.pods = Pods(self._ejections.forget_others)
        """The pods of the models that have requests spread by what they begin with."""
        self.loads: Counter[str] = Counter()
        """Requests of this process in flight, by base URL."""

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

    async def send(self, target: Target, body: bytes, headers: Mapping[str, str], watcher: Watcher) -> Answer:
        """The service's answer, as soon as it begins; the caller must `release` it.

        Raises ApiError (502 or 503) where no try got that far: UnreachableError where no connection brought an answer.
        """
        url = target.version.url
        service = self._services.get(url) or self._services.setdefault(url, _Service(self._config))
        if not target.waits:
            if service.breaker.is_open(url):
                watcher.failed("circuit_open", again=False)
                raise UnreachableError(sent=False)
            service.breaker.begin(url)
        service.budget.requested()
        try:
            answer = await self._try(_Call(target, body, headers, watcher, service.budget))
        except UnreachableError:
            service.breaker.failed(url)
            raise
        service.breaker.succeeded(url)
        return answer

    async def _try(self, call: _Call) -> Answer:
        places = self._places(call)
        session = self._pooled
        sent = False
        for attempt in range(1, self._config.attempts + 1):
            base = places[min(attempt, len(places)) - 1]
            try:
                answer = await self._post(session, base, call)
            except (ClientConnectionError, ClientPayloadError) as error:
                kind = kind_of(error)
                sent = sent or kind not in NOT_CONNECTED
                if not self._again(call, attempt, base, kind):
                    raise UnreachableError(sent=sent) from error
            except ClientResponseError as error:
                call.watcher.failed("not_http", again=False)
                raise ApiError(
                    502, "The model failed to answer.", kind="upstream_error", code="bad_response"
                ) from error
            else:
                if answer.status == 502:
                    self._failed(base, call)
                    return answer
                if answer.status != 503:
                    self._ejections.succeeded(base)
                    return answer
                # "Not now" is also what a replica says on its way out: another one may take the request.
                if not self._again(call, attempt, base, "unavailable", answered=True):
                    return answer
                self.release(answer)
                sent = True
            if places[min(attempt + 1, len(places)) - 1] == base:
                await asyncio.sleep(self._config.backoff_seconds * 2 ** (attempt - 1))
            session = self._fresh
        raise UnreachableError(sent=sent)

    def _again(self, call: _Call, attempt: int, base: str, kind: str, *, answered: bool = False) -> bool:
        """Whether there is another try after this one failed; what was answered is a failure only where there is."""
        self._failed(base, call)
        again = attempt < self._config.attempts
        # What waits for a first pod is tried until it is there, which loads nobody: it must leave the budget to others.
        free = call.target.waits and kind in NOT_CONNECTED
        if again and not free and not call.budget.take():
            call.watcher.over_budget()
            again = False
        if again or not answered:
            call.watcher.failed(kind, again=again)
        return again

    def _failed(self, base: str, call: _Call) -> None:
        if base != call.target.version.url and self._ejections.failed(base):
            call.watcher.ejected()

    def _places(self, call: _Call) -> Sequence[str]:
        """Where to send a request, one place a try: pods, and at the last the Service, which any pod may answer."""
        url, pods_url, key = call.target.version.url, call.target.version.pods_url, call.target.key
        if pods_url is None:
            return (url,)
        pods = [pod for pod in self.pods.of(pods_url) if not self._ejections.is_open(pod)]
        if not pods:
            call.watcher.routed("service")
            return (url,)
        order, own = ranked(pods, key, self.loads)
        call.watcher.routed("any" if key is None else "own" if own else "spilled")
        return (*order[: max(1, self._config.attempts - 1)], url)

    async def _post(self, session: ClientSession, base: str, call: _Call) -> Answer:
        url = base + call.target.path
        headers = call.watcher.began(url, call.headers)
        self._ejections.begin(base)
        self.loads[base] += 1
        try:
            response = await session.post(url, data=call.body, headers=headers, allow_redirects=False)
        except BaseException:
            self._unload(base)
            raise
        answer = Answer(response, base)
        if not answer.streams:
            return answer
        try:
            return await answer.begun()
        except BaseException:
            self.release(answer)
            raise

    def release(self, answer: Answer) -> None:
        """Closes an answer, once; one that was read to its end has given its connection back already."""
        answer.response.close()
        self._unload(answer.base)

    def _unload(self, base: str) -> None:
        self.loads[base] -= 1
        if not self.loads[base]:
            del self.loads[base]

    async def discard(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Sends a request once, reads the answer to its end for nobody, and returns its status."""
        async with self._pooled.post(url, data=body, headers=headers, allow_redirects=False) as response:
            async for _ in response.content.iter_any():
                pass
            return response.status

    async def read(self, answer: Answer) -> bytes:
        """The whole body of an answer that is not streamed; raises ApiError 502 where it breaks off or is too long."""
        limit = self._config.max_response_bytes
        parts: list[bytes] = []
        size = 0
        try:
            async for part in answer.response.content.iter_any():
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
        await self.pods.close()
        await self._pooled.close()
        await self._fresh.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _socket(address: Any) -> socket.socket:
    """A socket that fails once its other side is gone without a word, as with a node that loses its power.

    Until then nothing would tell a pod that is gone from one that takes its time for an answer.
    """
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _PROBES.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def kind_of(error: ClientConnectionError | ClientPayloadError) -> str:
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
