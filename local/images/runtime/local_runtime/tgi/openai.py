"""The OpenAI-compatible bodies, as the router of 3.3.7 reads and writes them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from local_runtime.engine import FinishReason, Token
from local_runtime.tgi import VERSION
from local_runtime.tgi.errors import RequestShapeError, ToolError, ValidationError
from local_runtime.tgi.router import Answer, End, Event
from local_runtime.tgi.validation import Request, check_kind, json_object

FINGERPRINT = f"{VERSION}-native"


def chat_messages(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of a chat request, their content as one text each. Raises InferError for what isn't served."""
    messages: Any = fields.get("messages")
    if not isinstance(messages, list):
        raise RequestShapeError("Failed to deserialize the JSON body into the target type: missing field `messages`")
    if fields.get("tools") and fields.get("tool_choice") != "none":
        raise ToolError("tools are not served by the local runtime")
    return [_message(message) for message in cast("list[Any]", messages)]


def _message(message: Any) -> dict[str, Any]:
    fields = json_object(message)
    content: Any = fields.get("content")
    if isinstance(content, list):
        content = "".join(_chunk(chunk) for chunk in cast("list[Any]", content))
    if not isinstance(fields.get("role"), str) or not isinstance(content, str):
        raise RequestShapeError(
            "Failed to deserialize the JSON body into the target type: messages: data did not match any variant of"
            " untagged enum MessageBody"
        )
    return {"role": fields["role"], "content": content}


def _chunk(chunk: Any) -> str:
    fields = json_object(chunk)
    if fields.get("type") == "image_url":
        raise ValidationError("image modality is not supported")
    return str(fields.get("text", ""))


def chat_request(fields: Mapping[str, Any], prompt: str) -> Request:
    """What a chat request asks to generate, given its prompt."""
    parameters = _sampling(fields)
    penalty = fields.get("presence_penalty")
    check_kind("presence_penalty", penalty, (int, float))
    if penalty is not None:
        parameters["repetition_penalty"] = penalty + 2.0
    if fields.get("logprobs"):
        parameters["top_n_tokens"] = fields.get("top_logprobs")
    parameters["grammar"] = fields.get("response_format")
    parameters["max_new_tokens"] = fields.get("max_tokens", fields.get("max_completion_tokens"))
    check_kind("max_tokens", parameters["max_new_tokens"], int)
    check_kind("response_format", parameters["grammar"], dict)
    return Request(prompt, parameters, add_special_tokens=False)


def completion_requests(fields: Mapping[str, Any], max_client_batch_size: int) -> list[Request]:
    """What a completion request asks to generate: one request for each of its prompts."""
    prompt: Any = fields.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not all(isinstance(item, str) for item in cast("list[Any]", prompts)):
        raise RequestShapeError("Failed to deserialize the JSON body into the target type: missing field `prompt`")
    texts = cast("list[str]", prompts)
    if not texts:
        raise RequestShapeError("Empty array detected. Do not use an empty array for the prompt.")
    if fields.get("suffix") is not None:
        raise ValidationError("Suffix is not supported and can be achieved by preprocessing the prompt.")
    if len(texts) > max_client_batch_size:
        raise ValidationError(f"Number of prompts exceeds the maximum allowed batch size of {max_client_batch_size}")
    parameters = _sampling(fields)
    parameters["repetition_penalty"] = fields.get("repetition_penalty")
    parameters["max_new_tokens"] = fields.get("max_tokens")
    check_kind("max_tokens", parameters["max_new_tokens"], int)
    check_kind("repetition_penalty", parameters["repetition_penalty"], (int, float))
    return [Request(text, parameters) for text in texts]


def _sampling(fields: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("temperature", "top_p", "frequency_penalty"):
        check_kind(name, fields.get(name), (int, float))
    check_kind("model", fields.get("model"), str)
    check_kind("seed", fields.get("seed"), int)
    check_kind("stop", fields.get("stop"), list)
    check_kind("stream", fields.get("stream", False), bool, nullable=False)
    temperature = fields.get("temperature")
    greedy = temperature is not None and temperature == 0
    return {
        "do_sample": not greedy,
        "temperature": None if greedy else temperature,
        "top_p": fields.get("top_p"),
        "frequency_penalty": fields.get("frequency_penalty"),
        "seed": fields.get("seed"),
        "stop": fields.get("stop"),
        # The router takes a model's name for an adapter's; the server answers without one where it hasn't got it.
        "adapter_id": None if fields.get("model") == "tgi" else fields.get("model"),
    }


def finish(reason: FinishReason) -> str:
    """The finish reason in OpenAI's words, where it has one for it."""
    return "stop" if reason == "eos_token" else reason


def model_name(fields: Mapping[str, Any], model_id: str) -> str:
    """The model's name in answers: the one that was asked for, except `tgi`, which stands for any."""
    model = fields.get("model")
    return model_id if model in (None, "tgi") else str(model)


def chat_completion(answer: Answer, model: str, *, logprobs: bool) -> dict[str, Any]:
    """The body of a whole chat completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.end.text},
        "logprobs": _logprobs(answer.tokens, answer.top_tokens) if logprobs else None,
        "finish_reason": finish(answer.end.finish_reason),
    }
    return {**_head("chat.completion", model), "choices": [choice], "usage": usage(answer.end)}


def chat_chunk(event: Event, model: str, *, logprobs: bool) -> dict[str, Any]:
    """The body of one token's event."""
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": "" if event.token.special else event.token.text},
        "logprobs": _logprobs([event.token], [event.top_tokens]) if logprobs else None,
        "finish_reason": finish(event.end.finish_reason) if event.end else None,
    }
    return {**_head("chat.completion.chunk", model), "choices": [choice], "usage": None}


def chat_usage_chunk(end: End, model: str) -> dict[str, Any]:
    """The body of the event that `stream_options.include_usage` asks for."""
    return {**_head("chat.completion.chunk", model), "choices": [], "usage": usage(end)}


def completion(answers: Sequence[Answer], model: str) -> dict[str, Any]:
    """The body of a whole completion."""
    choices = [
        {"index": index, "text": answer.end.text, "logprobs": None, "finish_reason": finish(answer.end.finish_reason)}
        for index, answer in enumerate(answers)
    ]
    parts = [usage(answer.end) for answer in answers]
    total = {name: sum(part[name] for part in parts) for name in parts[0]}
    return {**_head("text_completion", model), "choices": choices, "usage": total}


def completion_chunk(event: Event, index: int, model: str) -> dict[str, Any]:
    """The body of one token's event of a completion's prompt."""
    reason = event.end.finish_reason if event.end else ""
    choice = {"index": index, "text": event.token.text, "logprobs": None, "finish_reason": reason}
    body = {**_head("text_completion", model), "choices": [choice]}
    return {**body, "usage": usage(event.end)} if event.end else body


def usage(end: End) -> dict[str, int]:
    """Tokens of prompt and answer."""
    return {
        "prompt_tokens": end.input_length,
        "completion_tokens": end.generated_tokens,
        "total_tokens": end.input_length + end.generated_tokens,
    }


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"object": kind, "id": "", "created": int(time.time()), "model": model, "system_fingerprint": FINGERPRINT}


def _logprobs(tokens: Sequence[Token], top_tokens: Sequence[Sequence[Token]]) -> dict[str, Any]:
    without: list[Token] = []
    tops = [*top_tokens, *[without] * (len(tokens) - len(top_tokens))]
    return {
        "content": [
            {
                "token": token.text,
                "logprob": token.logprob,
                "top_logprobs": [{"token": other.text, "logprob": other.logprob} for other in top],
            }
            for token, top in zip(tokens, tops, strict=True)
        ]
    }
