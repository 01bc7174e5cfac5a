"""A model's service that costs next to nothing, to measure what stands before it: `python -m local.stub_model PORT`.

It answers every POST with one fixed chat completion, at once, or streamed where the body asks for a stream: the first
event at once, each further one after a pause. Written on asyncio's own streams of bytes, since an HTTP framework takes
more of the processor than some of what is measured. It knows what the measured programs send, and no more of HTTP.
"""

import asyncio
import json
import sys
from typing import Any

TOKENS = 10
PAUSE_SECONDS = 0.05
LONG_TOKENS = 200
"""Events of a stream whose body asks for that many `max_tokens`."""
_HEAD = {"id": "chatcmpl-1", "created": 1700000000, "model": "m"}
_USAGE = {"prompt_tokens": 12, "completion_tokens": TOKENS, "total_tokens": 12 + TOKENS}
_MESSAGE = {"role": "assistant", "content": "word " * TOKENS}
_WHOLE = json.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": _MESSAGE, "logprobs": None, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_WHOLE), _WHOLE)
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(choices: Any, **fields: Any) -> bytes:
    event = {**_HEAD, "object": "chat.completion.chunk", "choices": choices, **fields}
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


_PIECE = _event([{"index": 0, "delta": {"role": "assistant", "content": "word "}, "finish_reason": None}])
_LAST = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
_COUNTS = _event([], usage=_USAGE)
_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the requests of one connection until its other end closes it."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            fields: dict[str, Any] = json.loads(await reader.readexactly(int(length or 0)))
            if not fields.get("stream"):
                writer.write(_ANSWER)
                continue
            writer.write(_STREAM)
            for number in range(LONG_TOKENS if fields.get("max_tokens") == LONG_TOKENS else TOKENS):
                if number:
                    await asyncio.sleep(PAUSE_SECONDS)
                writer.write(_PIECE)
            counts = _COUNTS if "stream_options" in fields else b""
            writer.write(_LAST + counts + _DONE)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    """Listens on this machine, until the process is ended."""
    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
