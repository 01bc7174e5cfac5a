"""API Gateway's data plane for HTTP integrations: requests are proxied as they come, and responses as they stream.

MiniStack finds the method, asks for the API key, throttles and validates; then, instead of its own buffering client,
it calls `invoke` below. A VPC link leads to its network load balancer, whose DNS name is looked up in the emulator.
"""

import asyncio
import contextlib
import logging
import urllib.parse
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from local.cloud import emulator, load_balancing, stores
from local.cloud.emulator import Response

log = logging.getLogger("cloud.dataplane")

IDLE_SECONDS = 300.0
"""How long a streamed response may pause: what AWS allows a Regional endpoint."""
CONNECT_SECONDS = 5.0
DEFAULT_TIMEOUT_MS = 29_000
"""AWS's default for an integration's time until it answers."""

HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "expect",
}  # fmt: skip
REMAPPED = {"date", "server", "www-authenticate"}
"""Response headers that API Gateway passes on under another name, `x-amzn-remapped-...`."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def install() -> None:
    """Has MiniStack use `invoke` for HTTP and HTTP_PROXY integrations of REST APIs."""
    vars(emulator.service("apigateway_v1"))["_invoke_http_proxy_v1"] = Proxy().invoke


def serves(path: str) -> bool:
    """Whether a path is one of an API's invoke URLs."""
    return path.startswith("/_aws/execute-api/") or (path.startswith("/restapis/") and "/_user_request_" in path)


async def until_disconnect(app: Application, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Runs an ASGI application for one request, and cancels it when the client hangs up."""
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answering = asyncio.ensure_future(app(scope, messages.get, send))

    async def listen() -> None:
        while True:
            message = await receive()
            messages.put_nowait(message)
            if message["type"] == "http.disconnect":
                answering.cancel()
                return

    listening = asyncio.ensure_future(listen())
    try:
        await answering
    except asyncio.CancelledError:
        if not answering.cancelled():  # it is this task that was cancelled, by the server
            answering.cancel()
            raise
    finally:
        listening.cancel()


@dataclass(frozen=True)
class Incoming:
    """A request to an API, in the order in which MiniStack passes its parts."""

    path: str
    method: str
    headers: Mapping[str, str]
    body: bytes
    query: Mapping[str, Any]
    path_params: Mapping[str, str] | None = None


class Proxy:
    """Sends requests to integrations."""

    def __init__(self) -> None:
        # A connection for each request: one that is kept may be closed by its target just as a request is sent on it,
        # and would go on leading to a target that has left the target group.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits)

    async def invoke(self, integration: Mapping[str, Any], *request: Any) -> Any:
        """Answers one request; takes what MiniStack's function takes whose place it has."""
        gateway = emulator.service("apigateway_v1")
        incoming = Incoming(*request)
        try:
            return await self._forward(self._request(integration, incoming), integration)
        except httpx.TimeoutException:
            return gateway._gw_error("INTEGRATION_TIMEOUT", "Endpoint request timed out")
        except (httpx.HTTPError, httpx.InvalidURL, ConnectionError, LookupError) as error:
            log.warning("%s %s: %s: %s", incoming.method, incoming.path, type(error).__name__, error)
            return gateway._gw_error("API_CONFIGURATION_ERROR", "Internal server error")

    def _request(self, integration: Mapping[str, Any], incoming: Incoming) -> httpx.Request:
        sources = _Sources(incoming)
        mapped = sources.mapped(integration.get("requestParameters") or {})
        uri: str = integration["uri"]
        for name, value in {**(incoming.path_params or {}), **mapped["path"]}.items():
            uri = uri.replace(f"{{{name}}}", urllib.parse.quote(value, safe="/:@!$&'()*+,;=~-._"))
        url = httpx.URL(uri)
        query = [(name, value) for name, values in incoming.query.items() for value in values]
        query += list(mapped["querystring"].items())
        if query:
            encoded = urllib.parse.urlencode(query, quote_via=urllib.parse.quote).encode()
            url = url.copy_with(query=b"&".join(filter(None, (url.query, encoded))))
        sent = {name: value for name, value in incoming.headers.items() if name.lower() not in HOP_BY_HOP}
        sent |= sources.added(integration) | mapped["header"] | {"host": url.netloc.decode()}
        verb = integration.get("httpMethod") or "ANY"
        return self._client.build_request(
            incoming.method if verb == "ANY" else verb,
            _located(url, integration),
            headers=sent,
            content=incoming.body or None,
            extensions={"sni_hostname": url.host},
        )

    async def _forward(self, request: httpx.Request, integration: Mapping[str, Any]) -> Response:
        """Sends a request, and answers as soon as the response's headers are there.

        The integration's timeout is for that; whether a response is to be buffered (AWS's default) can't be seen
        here, as the AWS provider's version that runs locally knows no response transfer mode. So all are streamed.
        """
        seconds = (integration.get("timeoutInMillis") or DEFAULT_TIMEOUT_MS) / 1000
        request.extensions["timeout"] = httpx.Timeout(IDLE_SECONDS, connect=CONNECT_SECONDS).as_dict()
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.send(request, stream=True)
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time") from error
        return response.status_code, _response_headers(response), _streaming(response)


def _located(url: httpx.URL, integration: Mapping[str, Any]) -> httpx.URL:
    """The address on this machine that an integration's URL stands for.

    Raises LookupError where it goes through a VPC link that doesn't lead there.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    place = load_balancing.resolve(url.host, port)
    if integration.get("connectionType") == "VPC_LINK":
        link = stores.store("vpc_links").get(integration.get("connectionId") or "")
        if link is None:
            raise LookupError(f"there is no VPC link {integration.get('connectionId')}")
        if place is None:
            raise LookupError(f"the VPC link doesn't lead to {url.host}")
    return url if place is None else url.copy_with(host=place[0], port=place[1])


class _Sources:
    """Where an integration's request parameters may take their values from."""

    def __init__(self, incoming: Incoming) -> None:
        self._headers = incoming.headers
        self._client: str = emulator.core("responses").get_request_client_ip()
        key = emulator.service("apigateway_v1")._resolve_api_key(incoming.headers.get("x-api-key"))
        self._values: dict[str, str] = {
            "context.requestId": str(uuid.uuid4()),
            "context.identity.sourceIp": self._client,
            "context.identity.apiKeyId": key["id"] if key else "",
            **{f"method.request.path.{name}": value for name, value in (incoming.path_params or {}).items()},
            **{f"method.request.querystring.{name}": values[0] for name, values in incoming.query.items()},
        }

    def mapped(self, parameters: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """The values to send as path, query string and header, by name."""
        found: dict[str, dict[str, str]] = {"path": {}, "querystring": {}, "header": {}}
        for target, source in parameters.items():
            _, _, place, name = target.split(".", 3)
            value = self._value(source)
            if value is not None:
                found[place][name] = value
        return found

    def _value(self, source: str) -> str | None:
        if source.startswith("'"):
            return source.strip("'")
        if source.startswith("method.request.header."):
            return self._headers.get(source.removeprefix("method.request.header.").lower())
        return self._values.get(source)

    def added(self, integration: Mapping[str, Any]) -> dict[str, str]:
        """The headers that API Gateway adds."""
        seen = self._headers.get("x-forwarded-for")
        added = {
            "x-forwarded-for": f"{seen}, {self._client}" if seen else self._client,
            "x-forwarded-proto": "https",
            "x-forwarded-port": "443",
        }
        if integration.get("connectionType") == "VPC_LINK":
            added["x-amzn-vpc-link"] = integration["connectionId"]
        return added


def _response_headers(response: httpx.Response) -> dict[str, Any]:
    headers: dict[str, list[str]] = {}
    for name, value in response.headers.multi_items():
        lower = name.lower()
        if lower in HOP_BY_HOP and lower != "content-length":
            continue
        headers.setdefault(f"x-amzn-remapped-{lower}" if lower in REMAPPED else lower, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in headers.items()}


def _streaming(response: httpx.Response) -> Any:
    """A body for MiniStack that passes on each piece as it comes."""

    async def run(send: Send, _receive: Receive) -> None:
        async with contextlib.aclosing(_pieces(response)) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return emulator.core("responses").StreamingResponse(run)


async def _pieces(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The response's body as it was sent; closing it, in the middle too, closes the connection to the backend."""
    try:
        async for piece in response.aiter_raw():
            yield piece
    finally:
        await response.aclose()
