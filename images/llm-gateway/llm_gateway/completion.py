"""Answers in OpenAI's and TGI's formats: whole to streamed and back, whether one is complete, and its token counts.

The cache keeps one form of an answer, the whole one. A streamed answer is put together before it is stored, and a
stored one is taken apart when a caller wants a stream. What this module does not know how to put together exactly
(tool calls, log probabilities, fields it has never seen) it declines: such an answer is not stored.
"""

from collections.abc import Iterator
from typing import Any, cast

import orjson

from llm_gateway.inference import Endpoint
from llm_gateway.json_fields import as_object, parse_object

_COMPLETE = frozenset({"stop", "length", "eos_token", "stop_sequence"})
_DONE = b"[DONE]"
_STREAM_OBJECT = {Endpoint.CHAT: "chat.completion.chunk", Endpoint.COMPLETION: "text_completion"}
_WHOLE_OBJECT = {Endpoint.CHAT: "chat.completion", Endpoint.COMPLETION: "text_completion"}


def is_complete(endpoint: Endpoint, answer: dict[str, Any]) -> bool:
    """Whether a whole answer ended by itself, so that it may be given to others."""
    if "error" in answer:
        return False
    if endpoint in (Endpoint.GENERATE, Endpoint.GENERATE_STREAM):
        return isinstance(answer.get("generated_text"), str)
    choice = _only_choice(answer)
    return choice is not None and choice.get("finish_reason") in _COMPLETE


def token_counts(answer: dict[str, Any]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens that an answer, or an event of a stream, reports; None where it does not."""
    usage = as_object(answer.get("usage"))
    if usage is not None:
        return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    details = as_object(answer.get("details"))
    return None, None if details is None else _count(details.get("generated_tokens"))


def events(stream: bytes) -> Iterator[bytes]:
    """The data of each server-sent event in `stream`."""
    for block in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if lines:
            yield b"\n".join(lines)


def stream_token_counts(stream: bytes) -> tuple[int | None, int | None]:
    """Token counts of a stream, or of its last part, found in the last events that report any."""
    for data in reversed(list(events(stream))):
        event = parse_object(data)
        if event is not None:
            counts = token_counts(event)
            if counts != (None, None):
                return counts
    return None, None


def assemble(endpoint: Endpoint, stream: bytes) -> dict[str, Any] | None:
    """The whole answer that a complete stream of events amounts to; None where that cannot be told exactly."""
    text: list[str] = []
    head: dict[str, Any] | None = None
    finish: str | None = None
    usage: Any = None
    done = False
    for data in events(stream):
        if data == _DONE:
            done = True
            continue
        event = parse_object(data)
        if event is None or "error" in event or done:
            return None
        head = head or event
        usage = event.get("usage") or usage
        if event.get("choices") == []:  # the event that carries only the usage
            continue
        choice = _only_choice(event)
        piece = None if choice is None else _text(endpoint, choice, "delta")
        if choice is None or piece is None:
            return None
        text.append(piece)
        finish = choice.get("finish_reason") or finish
    if head is None or not done or finish not in _COMPLETE:
        return None
    return _whole(endpoint, head, "".join(text), finish, usage)


def replay(endpoint: Endpoint, answer: dict[str, Any], *, include_usage: bool) -> bytes | None:
    """The stream of events for a whole answer; None where it holds what a stream made here could not carry."""
    choice = _only_choice(answer)
    text = None if choice is None else _text(endpoint, choice, "message")
    if choice is None or text is None or (include_usage and not answer.get("usage")):
        return None
    head = {name: value for name, value in answer.items() if name not in ("choices", "usage", "object")}
    head["object"] = _STREAM_OBJECT[endpoint]
    finish = choice.get("finish_reason")
    if endpoint is Endpoint.CHAT:
        choices: list[dict[str, Any]] = [
            {"index": 0, "delta": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": None},
            {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish},
        ]
    else:
        choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]
    chunks: list[dict[str, Any]] = [{**head, "choices": [part]} for part in choices]
    if include_usage:
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _only_choice(answer: dict[str, Any]) -> dict[str, Any] | None:
    choices: object = answer.get("choices")
    if not isinstance(choices, list):
        return None
    members = cast("list[object]", choices)
    choice = as_object(members[0]) if len(members) == 1 else None
    return None if choice is None or choice.get("index", 0) != 0 else choice


def _text(endpoint: Endpoint, choice: dict[str, Any], part: str) -> str | None:
    """The text of a choice, whole (`part` is "message") or of one event ("delta"); None where there is more to it."""
    if choice.get("logprobs"):
        return None
    if endpoint is Endpoint.CHAT:
        return _content(choice.get(part))
    text: object = choice.get("text")
    return text if isinstance(text, str) else None


def _content(message: object) -> str | None:
    """The content of a message or delta that holds no more than a role and content."""
    fields = as_object(message)
    if fields is None or any(value for name, value in fields.items() if name not in ("role", "content")):
        return None
    content = fields.get("content")
    if content is None:
        return ""
    return content if isinstance(content, str) else None


def _whole(endpoint: Endpoint, head: dict[str, Any], text: str, finish: str, usage: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0}
    if endpoint is Endpoint.CHAT:
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    choice |= {"logprobs": None, "finish_reason": finish}
    answer = {name: value for name, value in head.items() if name not in ("choices", "usage", "object")}
    answer |= {"object": _WHOLE_OBJECT[endpoint], "choices": [choice]}
    if usage:
        answer["usage"] = usage
    return answer


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
