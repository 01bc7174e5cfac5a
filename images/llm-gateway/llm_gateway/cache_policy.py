"""Which requests the response cache may answer, and under which key.

The key covers everything that can change the answer: tenant, model, revision, endpoint and every field of the body but
those that only say how the answer travels. Two requests that differ in anything else never share an answer.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.config import CacheConfig
from llm_gateway.inference import Endpoint, Inference
from llm_gateway.json_fields import as_object

_PREFIX = "llm-gateway:exact:1:"
TRANSPORT_FIELDS = frozenset({"stream", "stream_options"})
"""Fields that only say how an answer travels."""
_IDENTITY_HEADERS = ("x-api-key", "authorization")
"""API Gateway has checked the first, and hands it on as it came; the second names callers inside the cluster. Only the
first of them that is given counts: a caller that could add to its identity would be a new one whenever it likes."""
_TENANT_HEX_DIGITS = 32


def tenant(headers: Mapping[str, str]) -> str:
    """The hash of the caller's API key or token, which names it and reveals neither; "" for a caller without any."""
    for name in _IDENTITY_HEADERS:
        if value := headers.get(name):
            # With the header's name, so that a token which equals another caller's key is still another caller's.
            return tenant_of(f"{name}:{value}".encode(errors="surrogateescape"))
    return ""


def tenant_of(identity: bytes) -> str:
    """The hash of what names a caller: it tells callers apart and reveals nothing of them."""
    return hashlib.sha256(identity).hexdigest()[:_TENANT_HEX_DIGITS]


def bypass_reason(inference: Inference, headers: Mapping[str, str], config: CacheConfig) -> str:
    """Why the cache must leave this request alone; "" where it may answer it."""
    if "no-store" in _directives(headers):
        return "caller"
    match inference.endpoint:
        case Endpoint.CHAT | Endpoint.COMPLETION:
            return _openai_reason(inference.fields, config)
        case Endpoint.GENERATE:
            return _tgi_reason(inference.fields, config)
        case Endpoint.GENERATE_STREAM:
            return "endpoint"  # TGI's token events cannot be made again from an answer's text
        case Endpoint.EMBEDDINGS:
            return "endpoint"  # the cache keeps texts


def wants_fresh(headers: Mapping[str, str]) -> bool:
    """Whether the caller wants the model's own answer, which the cache may keep for others (RFC 9111, `no-cache`)."""
    return "no-cache" in _directives(headers)


def _directives(headers: Mapping[str, str]) -> set[str]:
    return {directive.strip() for directive in headers.get("cache-control", "").lower().split(",")}


def key(inference: Inference, tenant_name: str, revision: str) -> str:
    """The Redis key of this request's answer."""
    question = {name: value for name, value in inference.fields.items() if name not in TRANSPORT_FIELDS}
    identity = [tenant_name, inference.model, revision, inference.endpoint.value, question]
    canonical = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
    return _PREFIX + hashlib.sha256(canonical).hexdigest()


def _openai_reason(fields: dict[str, Any], config: CacheConfig) -> str:
    if _above(fields.get("n"), 1) or _above(fields.get("best_of"), 1):
        return "choices"
    if isinstance(fields.get("prompt"), list):
        return "choices"  # one answer for each prompt of the list
    if fields.get("tools") or fields.get("functions"):
        return "tools"
    if fields.get("logprobs") or fields.get("top_logprobs"):
        return "logprobs"
    temperature = fields.get("temperature")
    return "temperature" if _above(1 if temperature is None else temperature, config.max_temperature) else ""


def _tgi_reason(fields: dict[str, Any], config: CacheConfig) -> str:
    parameters = as_object(fields.get("parameters")) or {}
    if _above(parameters.get("best_of"), 1):
        return "choices"
    temperature = parameters.get("temperature")
    if temperature is None:
        temperature = 1 if _samples(parameters) else 0
    return "temperature" if _above(temperature, config.max_temperature) else ""


def _samples(parameters: dict[str, Any]) -> bool:
    """Whether TGI draws at random: it does when asked to, and as soon as a sampling limit is given."""
    return any(parameters.get(name) for name in ("do_sample", "top_k", "top_p", "typical_p"))


def _above(value: Any, limit: float) -> bool:
    """Whether a field is given and is not a number up to `limit`: what is no number is the model service's to judge."""
    return value is not None and not (isinstance(value, int | float) and value <= limit)
