"""Requests and answers of vLLM 0.33.0's OpenAI-compatible API: what it refuses, in its words, and its bodies. Pure.

Sources: `vllm/entrypoints/openai/*/protocol.py` and `serving.py`, `vllm/sampling_params.py`, `vllm/renderers/params.py`
and `vllm/entrypoints/serve/exception_handling` of its wheel.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, ValidationError

from local_runtime.generation import End, Piece
from local_runtime.openai import (
    Answer,
    AnyFields,
    ApiError,
    Body,
    ChatFields,
    CompletionFields,
    Fields,
    Head,
    refuse_unserved,
)
from local_runtime.vllm.arguments import Arguments

DEFAULT_COMPLETION_TOKENS = 16
"""`max_tokens` of a completion that has none."""
_REPORTED_ERRORS = 10


class ChatRequest(ChatFields):
    """A chat request; fields that vLLM doesn't know are ignored, as it does."""

    model_config = ConfigDict(extra="allow")

    max_tokens: int | None = None

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens it asks for at most."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CompletionRequest(CompletionFields):
    """A completion request."""

    model_config = ConfigDict(extra="allow")


class VllmShape:
    """How vLLM reads requests and writes answers."""

    def __init__(self, arguments: Arguments, max_model_len: int) -> None:
        self._arguments = arguments
        self._max_model_len = max_model_len

    def chat_fields(self, body: Any) -> ChatFields:
        """A chat request. Raises ApiError for what vLLM refuses."""
        return self._read(ChatRequest, body)

    def completion_fields(self, body: Any) -> CompletionFields:
        """A completion request. Raises ApiError for what vLLM refuses."""
        return self._read(CompletionRequest, body)

    def _read(self, kind: type[AnyFields], body: Any) -> AnyFields:
        try:
            fields = kind.model_validate(body)
        except ValidationError as error:
            raise _shape_error(error) from None
        if fields.stream_options is not None and not fields.stream:
            raise ApiError("Stream options can only be defined when `stream=True`.", param="stream_options")
        self._check_model(fields.model)
        _check_sampling(fields)
        refuse_unserved(cast("Body", body))
        return fields

    def _check_model(self, model: str | None) -> None:
        names = self._arguments.names
        if model and model not in names and model not in self._arguments.adapters:
            raise ApiError(
                f"The model `{model}` does not exist. Valid aliases: {', '.join(names)}.", "NotFoundError", 404, "model"
            )

    def limit(self, fields: Fields, prompt_tokens: int) -> int:
        """How many tokens a request may generate: what it asks for, as far as the context goes."""
        longest = self._max_model_len
        asked = fields.wanted_tokens
        if isinstance(fields, CompletionFields) and asked is None:
            asked = DEFAULT_COMPLETION_TOKENS
        if asked is not None and asked > longest:
            raise ApiError(
                f"max_tokens={asked} cannot be greater than max_model_len={longest}. Please request fewer output"
                " tokens.",
                param="max_tokens",
            )
        if prompt_tokens > longest:
            raise ApiError(
                f"This model's maximum context length is {longest} tokens. However, your prompt contains"
                f" {prompt_tokens} input tokens, which exceeds this limit even without any output tokens. Please reduce"
                " the length of the input prompt.",
                param="input_tokens",
            )
        limit = longest - prompt_tokens if asked is None else min(asked, longest - prompt_tokens)
        if limit < 1:
            raise ApiError(f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
        return limit

    def include_usage(self, fields: Fields) -> bool:
        """Whether a stream's last event has its usage."""
        return self._arguments.include_usage or bool(fields.stream_options and fields.stream_options.include_usage)

    def body(self, head: Head, answers: Sequence[Answer]) -> Body:
        """The body of a whole answer."""
        choices: list[Body] = []
        for index, answer in enumerate(answers):
            choice: Body = {"index": index}
            if head.chat:
                choice["message"] = {
                    "role": self._arguments.response_role, "content": answer.text, "refusal": None,
                    "annotations": None, "audio": None, "function_call": None, "reasoning": None,
                }  # fmt: skip
            else:
                choice["text"] = answer.text
            choices.append(
                {**choice, "logprobs": None, "finish_reason": answer.end.reason, "stop_reason": answer.end.stop,
                 "token_ids": None, "routed_experts": None, "weight_versions": None}
            )  # fmt: skip
        return {
            **_head(head, "chat.completion"),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": self._arguments.fingerprint,
            "usage": self._usage([answer.end for answer in answers]),
            "kv_transfer_params": None,
        }

    def role_chunk(self, head: Head) -> Body:
        """The body of a chat stream's first event."""
        delta = {"role": self._arguments.response_role, "content": ""}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**_head(head, "chat.completion.chunk"), "choices": [choice]}

    def chunk(self, head: Head, index: int, piece: Piece, *, with_usage: bool) -> Body:
        """The body of one event."""
        content = {"delta": {"content": piece.text}} if head.chat else {"text": piece.text}
        end = piece.end
        choice = {
            "index": index,
            **content,
            "logprobs": None,
            "finish_reason": end.reason if end else None,
            "stop_reason": end.stop if end else None,
            "token_ids": None,
        }
        body = {**_head(head, "chat.completion.chunk"), "choices": [choice]}
        if end is not None and not with_usage:
            body["system_fingerprint"] = self._arguments.fingerprint
        return body

    def usage_chunk(self, head: Head, ends: Sequence[End]) -> Body:
        """The body of the event that has the usage."""
        usage = {name: value for name, value in self._usage(ends).items() if value is not None}
        body: Body = {**_head(head, "chat.completion.chunk"), "choices": [], "usage": usage}
        if self._arguments.fingerprint is not None:
            body["system_fingerprint"] = self._arguments.fingerprint
        return body

    def _usage(self, ends: Sequence[End]) -> Body:
        prompt = sum(end.prompt_tokens for end in ends)
        completion = sum(end.generated_tokens for end in ends)
        details = {"cached_tokens": ends[-1].cached_tokens} if self._arguments.cached_tokens_in_usage else None
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
            "prompt_tokens_details": details,
            "completion_tokens_details": None,
        }

    def error(self, error: ApiError) -> Body:
        """The body of an error."""
        return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.status}}


def _head(head: Head, chat_object: str) -> Body:
    kind = chat_object if head.chat else "text_completion"
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}


def _shape_error(error: ValidationError) -> ApiError:
    """A body that isn't a request, as vLLM's handler of FastAPI's errors puts it."""
    errors = error.errors(include_url=False, include_context=False)
    count = len(errors)
    label = "error" if count == 1 else "errors"
    lines = [f"{count} validation {label}:"]
    for item in errors[:_REPORTED_ERRORS]:
        shown: dict[str, Any] = {**item, "loc": _place(item["loc"]), "input": _summary(item["input"])}
        lines.append(f"  {shown}")
    if count > _REPORTED_ERRORS:
        lines.append(f"  ...and {count - _REPORTED_ERRORS} more {label}")
    return ApiError("\n".join(lines), "Bad Request", param=_place(errors[0]["loc"]))


def _place(location: Sequence[int | str]) -> str:
    internal = ("str", "int", "float", "bool", "dict", "none")
    return ".".join(str(part) for part in ("body", *location) if str(part) not in internal and "[" not in str(part))


def _summary(value: Any) -> Any:
    if isinstance(value, list | dict):
        return f"<{type(cast('object', value)).__name__} of {len(cast('Mapping[str, Any]', value))} items>"
    return value


Number = TypeVar("Number", int, float)


def _check_sampling(fields: Fields) -> None:
    """Refuses what `SamplingParams` does, in its order and words."""
    presence, frequency = _or_default(fields.presence_penalty, 0.0), _or_default(fields.frequency_penalty, 0.0)
    repetition = _or_default(fields.repetition_penalty, 1.0)
    temperature, top_p = _or_default(fields.temperature, 1.0), _or_default(fields.top_p, 1.0)
    top_k, min_p = _or_default(fields.top_k, 0), _or_default(fields.min_p, 0.0)
    rules: tuple[tuple[bool, str, str | None], ...] = (
        (-2 <= presence <= 2, f"presence_penalty must be in [-2, 2], got {presence}.", None),
        (-2 <= frequency <= 2, f"frequency_penalty must be in [-2, 2], got {frequency}.", None),
        (math.isfinite(repetition), f"repetition_penalty must be a finite number, got {repetition}.", None),
        (repetition > 0, f"repetition_penalty must be greater than zero, got {repetition}.", None),
        (math.isfinite(temperature), f"temperature must be a finite number, got {temperature}.", "temperature"),
        (temperature >= 0, f"temperature must be non-negative, got {temperature}.", "temperature"),
        (temperature <= 2, f"temperature must be in [0, 2], got {temperature}.", "temperature"),
        (0 < top_p <= 1, f"top_p must be in (0, 1], got {top_p}.", "top_p"),
        (top_k >= -1, f"top_k must be 0 (disable), or at least 1, got {top_k}.", None),
        (0 <= min_p <= 1, f"min_p must be in [0, 1], got {min_p}.", None),
        (fields.stop != "" and "" not in (fields.stop or []), "stop cannot contain an empty string.", None),
    )
    for right, message, param in rules:
        if not right:
            raise ApiError(message, param=param)


def _or_default(value: Number | None, default: Number) -> Number:
    return default if value is None else value
