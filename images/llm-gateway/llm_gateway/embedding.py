"""What embeds questions, one text in, one vector of length one out; and the client of an embedder service."""

import base64
import binascii
from typing import Protocol, cast

import numpy as np
import orjson
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from llm_gateway.config import SemanticConfig
from llm_gateway.json_fields import as_object, parse_object
from llm_gateway.vector_index import Vector

_PATH = "/v1/embeddings"
_MAX_ANSWER_BYTES = 1 << 20
_DNS_SECONDS = 10


class EmbeddingError(Exception):
    """The embedder gave no vector. `kind` says why, as a metric's label."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class NotEmbeddedError(EmbeddingError):
    """The text has no vector, and the embedder no fault. `result` is what its lookup counts as."""

    result = ""


class TextRefusedError(NotEmbeddedError):
    """The embedder takes no such text: it is too long, as a rule. Another one may do."""

    result = "refused"


class EmbedderBusyError(NotEmbeddedError):
    """There is no room for another text now."""

    result = "busy"


class Embedder(Protocol):
    """What embeds questions."""

    async def open(self) -> None:
        """Makes it ready, again too; raises EmbeddingError where that can't be done."""
        ...

    async def embed(self, text: str) -> Vector:
        """The vector of `text`. Raises EmbeddingError, or what aiohttp raises; it waits until it is cancelled."""
        ...

    async def close(self) -> None:
        """Ends what it holds."""
        ...


def embedder(config: SemanticConfig) -> Embedder:
    """The embedder that `config` asks for: the service at `embedder_url`, else this process."""
    if config.embedder_url is not None:
        return EmbedderService(config, config.embedder_url)
    # Tokenizer and ONNX Runtime take memory to import: only a gateway that embeds itself pays for it.
    from llm_gateway.in_process import InProcessEmbedder  # noqa: PLC0415

    return InProcessEmbedder(config)


class EmbedderService:
    """An embedder service that speaks OpenAI's `/v1/embeddings`."""

    def __init__(self, config: SemanticConfig, url: str) -> None:
        self._url = url + _PATH
        self._model = config.embedder_model
        self._session = ClientSession(
            connector=TCPConnector(limit=64, ttl_dns_cache=_DNS_SECONDS),
            timeout=ClientTimeout(total=None),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
        )

    async def open(self) -> None:
        """Nothing: connections are made as they are needed."""

    async def embed(self, text: str) -> Vector:
        """The vector of `text`. Raises EmbeddingError, or what aiohttp raises; it waits until it is cancelled."""
        body = orjson.dumps({"model": self._model, "input": text, "encoding_format": "base64"})
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._url, data=body, headers=headers) as response:
            if response.status in (400, 413, 422):
                raise TextRefusedError(f"status_{response.status}")
            if response.status != 200:
                raise EmbeddingError(f"status_{response.status}")
            answer = await response.content.read(_MAX_ANSWER_BYTES)
        vector = _vector(answer)
        length = float(np.linalg.norm(vector)) if vector is not None and vector.size else 0.0
        if vector is None or not np.isfinite(length) or length == 0:
            raise EmbeddingError("answer")
        return vector / np.float32(length)

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()


def _vector(answer: bytes) -> Vector | None:
    """The one vector of an answer; None where it is not one."""
    data: object = (parse_object(answer) or {}).get("data")
    first = as_object(cast("list[object]", data)[0]) if isinstance(data, list) and data else None
    encoded: object = None if first is None else first.get("embedding")
    try:
        if isinstance(encoded, str):
            return np.frombuffer(base64.b64decode(encoded, validate=True), "<f4").astype(np.float32)
        return np.array(encoded, np.float32) if isinstance(encoded, list) else None  # one that knows no base64
    except (binascii.Error, ValueError, TypeError):
        return None
