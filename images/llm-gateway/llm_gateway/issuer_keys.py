"""The keys that an OpenID Connect issuer signs tokens with: read beside the requests, and read anew as they change.

OpenID Connect Discovery 1.0: the issuer's own document names the address of its keys. What was read last is used for as
long as the issuer can't be reached: a token says by itself when it ends.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from typing import Any, Self, cast

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from llm_gateway.config import is_private
from llm_gateway.json_fields import as_object, parse_object

_log = logging.getLogger("llm_gateway")

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key pair. With a shared secret, whoever checks tokens could make them."""
REFRESH_SECONDS = 300.0
_RETRY_SECONDS = 5.0
_LEAST_SECONDS = 10.0
"""Between two looks for a key that isn't known: callers choose what keys tokens name."""
_WAIT_SECONDS = 2.0
_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 256 * 1024


class IssuerError(Exception):
    """The issuer gave no keys that can be used; the message says why."""


class IssuerKeys:
    """The keys of one issuer. To be used inside a running event loop, with `run` as a task.

    `certificate_authority` has the certificates in PEM that its own must come from; without, the system's do.
    """

    def __init__(self, issuer: str, certificate_authority: str | None = None) -> None:
        self._issuer = issuer
        self._keys: dict[str, PyJWK] = {}
        self._wanted = asyncio.Event()
        self._read = asyncio.Event()
        self._read_at: float | None = None
        trusted = True if certificate_authority is None else ssl.create_default_context(cadata=certificate_authority)
        self._session = ClientSession(
            connector=TCPConnector(ssl=trusted),
            timeout=ClientTimeout(total=_TIMEOUT_SECONDS),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
        )

    @property
    def known(self) -> bool:
        """Whether any key was ever read."""
        return bool(self._keys)

    async def run(self) -> None:
        """Reads the keys, again and again."""
        while True:
            seconds = REFRESH_SECONDS
            try:
                self._keys = await self._fetch()
            except (IssuerError, ClientError, OSError, ValueError) as error:  # ValueError: of an address that is none
                seconds = _RETRY_SECONDS
                reason = str(error) or type(error).__name__
                _log.warning("issuer's keys not read", extra={"fields": {"issuer": self._issuer, "error": reason}})
            self._read_at = time.monotonic()
            self._read.set()
            self._read.clear()
            self._wanted.clear()  # what was wanted meanwhile has been read
            try:
                async with asyncio.timeout(seconds):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def key(self, name: str) -> PyJWK | None:
        """The key of that `kid`. One that isn't known is looked for once in a while, as issuers change their keys."""
        age = None if self._read_at is None else time.monotonic() - self._read_at
        if name not in self._keys and (age is None or age >= _LEAST_SECONDS):
            if age is not None:
                self._wanted.set()
            try:
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._read.wait()
            except TimeoutError:
                pass
        return self._keys.get(name)

    async def close(self) -> None:
        """Closes its connections."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _fetch(self) -> dict[str, PyJWK]:
        document = await self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise IssuerError(f"its own document says that it is {document.get('issuer')!r}")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not is_private(address):
            raise IssuerError("its document has no jwks_uri with https")
        keys = usable(await self._get(address))
        if not keys:
            raise IssuerError(f"{address} has no key that signs with one of {', '.join(ALGORITHMS)}")
        return keys

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise IssuerError(f"{url} answered {response.status}")
            body = await response.content.read(_MOST_BYTES + 1)
            while len(body) <= _MOST_BYTES and (part := await response.content.read(_MOST_BYTES + 1)):
                body += part
        fields = None if len(body) > _MOST_BYTES else parse_object(body)
        if fields is None:
            raise IssuerError(f"{url} did not answer with a JSON object of up to {_MOST_BYTES} bytes")
        return fields


def usable(document: Mapping[str, Any]) -> dict[str, PyJWK]:
    """The keys of a key set that signatures may be checked with, by `kid`; others are passed over."""
    found: dict[str, PyJWK] = {}
    listed = document.get("keys")
    for each in cast("list[object]", listed) if isinstance(listed, list) else []:
        fields = as_object(each) or {}
        name = fields.get("kid")
        if not isinstance(name, str) or fields.get("use", "sig") != "sig":
            continue
        try:
            key = PyJWK(fields)
        except (PyJWTError, ValueError, orjson.JSONDecodeError):
            continue
        if key.algorithm_name in ALGORITHMS:
            found[name] = key
    return found
