"""Requests and answers of trtllm-serve's OpenAI-compatible API: what it refuses, in its words, and its bodies. Pure.

Sources: `tensorrt_llm/serve/{openai_protocol,openai_server,postprocess_handlers}.py` and `llmapi/llm.py` of
NVIDIA/TensorRT-LLM.
"""

from collections.abc import Sequence
from typing import Any, cast

from pydantic import AliasChoices, ConfigDict, Field, ValidationError

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


class RequestShapeError(ApiError):
    """A body that isn't a request; its error's body is of another form than others'."""


class ChatRequest(ChatFields):
    """A chat request; fields that TensorRT-LLM doesn't know are refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    model: str | None = Field()
    n: int = 1
    max_completion_tokens: int | None = Field(
        default=None, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )
    prompt_token_ids: Any = None
    logit_bias: Any = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    tools: Any = None
    tool_choice: Any = "none"
    user: str | None = None
    reasoning_effort: Any = None
    prompt_ignore_length: int | None = 0
    best_of: int | None = None
    use_beam_search: bool = False
    top_p_min: float = 0.0
    length_penalty: float | None = 1.0
    early_stopping: Any = False
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    min_tokens: int = 0
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    lora_request: Any = None
    echo: bool = False
    add_generation_prompt: bool = True
    documents: Any = None
    chat_template: str | None = None
    chat_template_kwargs: Any = None
    disaggregated_params: Any = None
    cache_salt: str | None = None
    agent_hierarchy: Any = None


class CompletionRequest(CompletionFields):
    """A completion request."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field()
    n: int = 1
    best_of: int | None = None
    echo: bool | None = False
    logit_bias: Any = None
    logprobs: int | None = None
    suffix: str | None = None
    user: str | None = None
    lora_request: Any = None
    prompt_ignore_length: int | None = 0
    use_beam_search: bool = False
    top_p_min: float = 0.0
    length_penalty: float | None = 1.0
    early_stopping: Any = False
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    min_tokens: int = 0
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    return_context_logits: bool = False
    detokenize: bool = True
    disaggregated_params: Any = None


class TensorRtShape:
    """How trtllm-serve reads requests and writes answers."""

    def __init__(self, *, max_seq_len: int, max_num_tokens: int | None) -> None:
        """`max_num_tokens` is None where a longer prompt is read in parts."""
        self._max_seq_len = max_seq_len
        self._max_num_tokens = max_num_tokens

    def chat_fields(self, body: Any) -> ChatFields:
        """A chat request. Raises ApiError for what trtllm-serve refuses."""
        return _read(ChatRequest, body)

    def completion_fields(self, body: Any) -> CompletionFields:
        """A completion request. Raises ApiError for what trtllm-serve refuses."""
        return _read(CompletionRequest, body)

    def limit(self, fields: Fields, prompt_tokens: int) -> int:
        """How many tokens a request may generate: what it asks for, as far as the longest sequence goes."""
        if self._max_num_tokens is not None and prompt_tokens > self._max_num_tokens:
            raise ApiError(
                f"The sum of prompt length ({float(prompt_tokens)}), query length (0) should not exceed max_num_tokens"
                f" ({self._max_num_tokens})"
            )
        asked = fields.wanted_tokens
        most = self._max_seq_len - prompt_tokens
        if most > 0:
            return most if asked is None else max(1, min(asked, most))
        if asked is None:
            raise ApiError("`max_tokens` must be set when `default_max_tokens` is illegal")
        raise ApiError(
            f"`prompt_token_ids` length ({prompt_tokens}) is greater than `max_seq_len` ({self._max_seq_len})"
        )

    def include_usage(self, fields: Fields) -> bool:
        """Whether a stream's last event has its usage."""
        options = fields.stream_options
        if options is None:
            return False
        return bool(options.include_usage) if "include_usage" in options.model_fields_set else True

    def body(self, head: Head, answers: Sequence[Answer]) -> Body:
        """The body of a whole answer."""
        choices: list[Body] = []
        for index, answer in enumerate(answers):
            choice: Body = {"index": index}
            if head.chat:
                choice["message"] = {
                    "role": "assistant", "content": answer.text, "reasoning_content": None, "reasoning": None,
                    "tool_calls": [],
                }  # fmt: skip
            else:
                choice["text"] = answer.text
            choices.append({**choice, "logprobs": None, **_finish(answer.end), "disaggregated_params": None})
        usage = _usage([answer.end for answer in answers])
        return {**_head(head, "chat.completion"), "choices": choices, "usage": usage, "prompt_token_ids": None}

    def role_chunk(self, head: Head) -> Body:
        """The body of a chat stream's first event."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}
        return {**_head(head, "chat.completion.chunk"), "choices": [choice]}

    def chunk(self, head: Head, index: int, piece: Piece, *, with_usage: bool) -> Body:
        """The body of one event."""
        del with_usage
        content = {"delta": {"content": piece.text}} if head.chat else {"text": piece.text}
        choice = {"index": index, **content, **_finish(piece.end)}
        return {**_head(head, "chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, head: Head, ends: Sequence[End]) -> Body:
        """The body of the event that has the usage."""
        return {**_head(head, "chat.completion.chunk"), "choices": [], "usage": _usage(ends)}

    def error(self, error: ApiError) -> Body:
        """The body of an error."""
        if isinstance(error, RequestShapeError):
            return {"error": str(error)}
        return {
            "object": "error",
            "message": str(error),
            "type": error.kind,
            "param": error.param,
            "code": error.status,
        }


def _read(kind: type[AnyFields], body: Any) -> AnyFields:
    try:
        fields = kind.model_validate(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        raise RequestShapeError(str([{**item, "loc": ("body", *item["loc"])} for item in errors])) from None
    if fields.stream_options is not None and not fields.stream:
        raise RequestShapeError("Value error, Stream options can only be defined when stream is true.")
    refuse_unserved(cast("Body", body))
    return fields


def _head(head: Head, chat_object: str) -> Body:
    kind = chat_object if head.chat else "text_completion"
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}


def _finish(end: End | None) -> Body:
    return {"finish_reason": end.reason if end else None, "stop_reason": end.stop if end else None}


def _usage(ends: Sequence[End]) -> Body:
    prompt = sum(end.prompt_tokens for end in ends)
    completion = sum(end.generated_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends)},
    }
