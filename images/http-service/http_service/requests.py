"""What every request to a service brings, read with care: its id, its body, and a path that may not be there."""

import asyncio
import re
import secrets

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from http_service.errors import ApiError

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.=;:-]{1,128}")


def request_id(request: web.Request) -> str:
    """The caller's request id if it is fit for headers and logs, a new one otherwise."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


async def read_body(request: web.Request, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """The request's body; raises ApiError where it is too long, too slow or broken."""
    too_long = ApiError(413, f"The request body is longer than {max_bytes} bytes.", code="body_too_large")
    if (request.content_length or 0) > max_bytes:
        raise too_long
    parts: list[bytes] = []
    size = 0
    try:
        # Nearly always it came with the headers: there is nothing to wait for.
        async with asyncio.timeout(None if request.content.is_eof() else timeout_seconds):
            async for part in request.content.iter_any():
                size += len(part)
                if size > max_bytes:
                    raise too_long
                parts.append(part)
    except TimeoutError:
        raise ApiError(408, "The request body did not arrive in time.", code="body_timeout") from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise ApiError(400, "The request body could not be read.", code="invalid_body") from None
    return b"".join(parts)


def no_such_route(request: web.Request, allowed: str) -> ApiError:
    """The error for a request that no route takes; `allowed` is the method that its path answers, if any."""
    path = request.path
    if allowed:
        message = f"{path} answers {allowed} requests only."
        return ApiError(405, message, code="method_not_allowed", headers={"Allow": allowed})
    return ApiError(404, f"There is no {request.method} {path[:128]} here.", code="not_found")
