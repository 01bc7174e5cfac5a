"""Token counts of streams: asked for in every caller's name, and taken out of the streams of those who did not ask.

A model counts the tokens of a stream only for who sends `stream_options.include_usage`. Without them a caller that
streams would use up no limit, and no usage would be known of it.
"""

from typing import Any

import orjson

from llm_gateway.completion import events
from llm_gateway.inference import Endpoint, Inference
from llm_gateway.json_fields import as_object, parse_object

_MAX_HELD_BYTES = 64 * 1024
"""Of an event whose end has not come: a longer one is passed on in parts."""


def is_asked(fields: dict[str, Any]) -> bool:
    """Whether the caller wants the counts of its stream."""
    return bool((as_object(fields.get("stream_options")) or {}).get("include_usage"))


def asking(inference: Inference) -> bytes:
    """The body that asks for the counts too, if it is for a stream that has any to give."""
    fields = inference.fields
    options = fields.get("stream_options")
    known = as_object({} if options is None else options)
    streams = inference.stream and inference.endpoint in (Endpoint.CHAT, Endpoint.COMPLETION)
    # Options that are no object are the model's to refuse.
    if not streams or known is None or is_asked(fields):
        return inference.body
    return orjson.dumps({**fields, "stream_options": {**known, "include_usage": True}})


class WholeEvents:
    """Passes a stream on event by event, without the one that has only the counts unless they are `asked` for."""

    def __init__(self, *, asked: bool) -> None:
        self._asked = asked
        self._held = b""

    def feed(self, part: bytes) -> bytes:
        """Takes the next bytes of the stream; returns those that the caller gets now."""
        data = self._held + part
        # What a model writes is nearly always read as it was written.
        end = len(data) if data.endswith(b"\n\n") else _end_of_events(data)
        if len(data) - end > _MAX_HELD_BYTES:
            end = len(data)
        whole, self._held = data[:end], data[end:]
        return whole if self._asked or b'"usage"' not in whole else _without_usage(whole)

    def rest(self) -> bytes:
        """What is left when the stream has ended."""
        return self._held


def _end_of_events(data: bytes) -> int:
    """Where the last event of `data` that is whole ends."""
    return max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in (b"\n\n", b"\r\n\r\n"))


def _without_usage(stream: bytes) -> bytes:
    mark = b"\r\n\r\n" if b"\r\n\r\n" in stream else b"\n\n"
    return mark.join(event for event in stream.split(mark) if not _is_usage(event))


def _is_usage(event: bytes) -> bool:
    fields = next((parse_object(data) for data in events(event)), None)
    return fields is not None and fields.get("choices") == [] and bool(fields.get("usage"))
