"""The client of the embedder: one text in, one vector of length one out."""

import base64
import binascii
from typing import cast

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


class TextRefusedError(EmbeddingError):
    """The embedder takes no such text: it is too long, as a rule. Another one may do."""


class Embedder:
    """An embedder service that speaks OpenAI's `/v1/embeddings`."""

    def __init__(self, config: SemanticConfig) -> None:
        self._config = config
        self._session = ClientSession(
            connector=TCPConnector(limit=64, ttl_dns_cache=_DNS_SECONDS),
            timeout=ClientTimeout(total=None),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
        )

    async def embed(self, text: str) -> Vector:
        """The vector of `text`. Raises EmbeddingError, or what aiohttp raises; it waits until it is cancelled."""
        body = orjson.dumps({"model": self._config.embedder_model, "input": text, "encoding_format": "base64"})
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._config.embedder_url + _PATH, data=body, headers=headers) as response:
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
