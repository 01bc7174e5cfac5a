"""Errors that a caller sees, in the shape that OpenAI's clients read."""

import orjson


class ApiError(Exception):
    """A request that ends with an error answer: HTTP `status`, and a body in OpenAI's error shape.

    `message` goes to the caller: it must say nothing about what lies behind the service.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}

    def body(self) -> bytes:
        """The answer's JSON body."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})
