"""Which web pages' scripts may call the API (CORS): none, unless origins are given.

API Gateway hands a browser's preflight on without a key, which it never has, and the gateway answers it here.
"""

from collections.abc import Mapping

from llm_gateway.config import ServerConfig

ANY = "*"
_METHODS = "GET, POST"
_SENT = (
    "Authorization, Cache-Control, Content-Type, Traceparent, Tracestate, X-Api-Key, X-Model, X-Model-Version,"
    " X-Request-Id, X-Session-Id"
)
_SHOWN = (
    "Retry-After, X-Cache, X-Cache-Similarity, X-Model-Version, X-Ratelimit-Limit-Requests, X-Ratelimit-Limit-Tokens,"
    " X-Ratelimit-Remaining-Requests, X-Ratelimit-Remaining-Tokens, X-Ratelimit-Reset-Requests,"
    " X-Ratelimit-Reset-Tokens, X-Request-Id, X-Amzn-Remapped-Www-Authenticate"
)
_PREFLIGHT_SECONDS = 600


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks what it may ask."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def allowed(headers: Mapping[str, str], config: ServerConfig) -> dict[str, str]:
    """What lets a page of the request's origin read the answer; nothing where it may not, or CORS is off."""
    if not config.cors_origins:
        return {}
    if ANY in config.cors_origins:
        return {"Access-Control-Allow-Origin": ANY, "Access-Control-Expose-Headers": _SHOWN}
    origin = headers.get("origin", "")
    # The answer is another one for another origin: no cache on the way may mix them up.
    vary = {"Vary": "Origin"}
    if origin not in config.cors_origins:
        return vary
    return {**vary, "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _SHOWN}


def preflight(headers: Mapping[str, str], config: ServerConfig) -> dict[str, str]:
    """What the answer to a preflight has besides; nothing where the origin may not call."""
    if "Access-Control-Allow-Origin" not in allowed(headers, config):
        return {}
    return {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _SENT,
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
    }
