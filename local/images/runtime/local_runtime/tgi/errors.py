"""The router's errors: their words, kinds and HTTP statuses are those of Text Generation Inference 3.3.7."""

from collections.abc import Generator
from contextlib import contextmanager

from local_runtime import engine


class InferError(Exception):
    """A request that the router refuses or can't finish."""

    status = 500
    kind = "generation"
    """`error_type` in the answer."""
    failure = "generation"
    """Label `err` of the metric tgi_request_failure."""

    def body(self) -> dict[str, str]:
        """The JSON body of the answer."""
        return {"error": str(self), "error_type": self.kind}


class ValidationError(InferError):
    """A request that asks for what this deployment doesn't allow."""

    status = 422
    kind = failure = "validation"

    def __str__(self) -> str:
        return f"Input validation error: {self.args[0]}"


class OverloadedError(InferError):
    """More requests at once than --max-concurrent-requests."""

    status = 429
    kind = failure = "overloaded"

    def __str__(self) -> str:
        return "Model is overloaded"


class TemplateError(InferError):
    """Messages that the model's chat template refuses."""

    status = 422
    kind = "template_error"
    failure = "template"

    def __str__(self) -> str:
        return f"Template error: {self.args[0]}"


class ToolError(InferError):
    """Tools that can't be used."""

    status = 422
    kind = "tool_error"
    failure = "validation"

    def __str__(self) -> str:
        return f"Tool error: {self.args[0]}"


class GenerationError(InferError):
    """The engine failed while it generated."""

    status = 424

    def __str__(self) -> str:
        return f"Request failed during generation: {self.args[0]}"


class RequestShapeError(InferError):
    """A body that isn't JSON, or not of the route's shape; axum answers these in plain text."""

    kind = failure = "validation"

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def in_router_words() -> Generator[None]:
    """Turns what the engine raises into what the router says of it."""
    try:
        yield
    except engine.GenerationError as error:
        raise GenerationError(str(error)) from error
    except engine.TemplateError as error:
        raise TemplateError(str(error)) from error
