"""Keeps what a stream of events was, as far as it is needed once it has ended."""

from llm_gateway.completion import stream_token_counts

_TAIL_BYTES = 8 * 1024
"""Enough for the last events, which carry the token counts."""


class StreamCapture:
    """Collects a stream up to `limit` bytes; of a longer one, and with a limit of 0, only the end is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._whole = True

    def feed(self, part: bytes) -> None:
        """Takes the next bytes of the stream."""
        if not part:
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._limit:
            self._whole = False
        if not self._whole:
            while self._size - len(self._parts[0]) >= _TAIL_BYTES:
                self._size -= len(self._parts.pop(0))

    @property
    def whole(self) -> bytes | None:
        """The stream from its beginning; None where it was longer than the limit."""
        return b"".join(self._parts) if self._whole else None

    def token_counts(self) -> tuple[int | None, int | None]:
        """Prompt and completion tokens as the stream's last events report them."""
        return stream_token_counts(b"".join(self._parts)[-_TAIL_BYTES:])
