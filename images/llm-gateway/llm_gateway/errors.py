"""What a caller is told of an error that a model's service answered with."""

from http_service.errors import ApiError

from llm_gateway.json_fields import as_object, parse_object


def from_upstream(status: int, body: bytes, retry_after: str = "") -> ApiError:
    """The error to answer with when a model's service answered `status` (400 or above) and `body`.

    `retry_after` is its header of that name, which is passed on where it is a number of seconds.

    What a service says about the request (4xx) is for the caller; what it says about itself (5xx) is not.
    """
    headers = {"Retry-After": retry_after} if retry_after.isascii() and retry_after.isdigit() else {}
    if status >= 500:
        public = status if status in (503, 504) else 502
        code = f"upstream_{status}"
        return ApiError(public, "The model failed to answer.", kind="upstream_error", code=code, headers=headers)
    message, kind, code = _described(body)
    return ApiError(
        status,
        message or f"The model refused the request with status {status}.",
        kind=kind or ("rate_limit_error" if status == 429 else "invalid_request_error"),
        code=code,
        headers=headers,
    )


def _described(body: bytes) -> tuple[str, str, str | None]:
    """Message, type and code of an error body in OpenAI's shape, TGI's (`error`, `error_type`) or another."""
    fields = parse_object(body) or {}
    if isinstance(fields.get("error"), str):
        return fields["error"], _text(fields.get("error_type")), None
    error = as_object(fields.get("error")) or fields
    return _text(error.get("message")), _text(error.get("type")), _text(error.get("code")) or None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
