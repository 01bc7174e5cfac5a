"""What generates: the interface, and an engine of constant answers for load tests."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["length", "eos_token", "stop_sequence"]


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens, and when to stop."""

    limit: int
    """Tokens to generate at most."""
    temperature: float
    """0 takes the likeliest token always."""
    top_k: int
    """0 is no limit."""
    top_p: float
    typical_p: float
    repetition_penalty: float
    frequency_penalty: float
    seed: int
    presence_penalty: float = 0.0
    min_p: float = 0.0
    """0 is no limit."""
    ignore_eos: bool = False
    """Whether to go on to the limit whatever the model says."""
    stop: Sequence[str] = ()
    top_n_tokens: int = 0
    schema: dict[str, Any] | None = None
    """JSON schema that the answer must follow."""
    adapter: str | None = None
    """LoRA adapter to answer with; None, or a name that the engine hasn't got, is the model alone."""


@dataclass(frozen=True)
class Token:
    """One generated token."""

    id: int
    text: str
    logprob: float
    special: bool = False


@dataclass(frozen=True)
class Step:
    """What one decoding step gave a request; the last one has a finish reason."""

    token: Token
    top_tokens: list[Token] = field(default_factory=list[Token])
    finish_reason: FinishReason | None = None
    generated_tokens: int = 0
    """Known at the last step."""
    prefill_seconds: float | None = None
    """How long the engine took to read the prompt, known at the last step."""
    cached_tokens: int = 0
    """Tokens of the prompt that were in the KV cache already, known at the last step."""
    stop: str = ""
    """The stop sequence that ended it. It isn't in the token's text."""


class GenerationError(Exception):
    """The engine failed while it generated."""


class TemplateError(Exception):
    """Messages that the model's chat template refuses."""


class Engine(Protocol):
    """Generates text from prompts, several at once."""

    @property
    def trained_tokens(self) -> int | None:
        """The longest sequence that the model was trained for; None where it has no such limit."""
        ...

    async def token_ids(self, text: str, *, add_special: bool) -> list[tuple[int, str]]:
        """The tokens of a text: their ids and their own text."""
        ...

    async def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt that the model's chat template makes of messages. Raises TemplateError where it refuses them."""
        ...

    def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Step]:
        """Generates tokens one by one; closing the generator stops it. Raises GenerationError."""
        ...

    async def healthy(self) -> bool:
        """Whether the engine answers."""
        ...

    async def close(self) -> None:
        """Frees what the engine holds."""
        ...


class EchoEngine:
    """Gives every request the same answer at a constant pace: what a load test measures is then not the model."""

    WORDS = "The quick brown fox jumps over the lazy dog and runs back home again".split()  # noqa: SIM905

    def __init__(self, tokens: int = 16, seconds_per_token: float = 0.0) -> None:
        self._tokens = tokens
        self._seconds = seconds_per_token

    @property
    def trained_tokens(self) -> int | None:
        """No limit."""
        return None

    async def token_ids(self, text: str, *, add_special: bool) -> list[tuple[int, str]]:
        """One token for each word."""
        del add_special
        return [(len(word), word) for word in text.split()]

    async def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """Each message on a line."""
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages)

    async def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Step]:
        """The constant answer: its words, then the end-of-sequence token unless the limit comes first."""
        del prompt
        count = min(self._tokens, sampling.limit)
        for number in range(1, count + 1):
            await asyncio.sleep(self._seconds)
            index = (number - 1) % len(self.WORDS)
            text = self.WORDS[index] if number == 1 else f" {self.WORDS[index]}"
            token = Token(index, text, -0.5)
            if number == sampling.limit:
                yield Step(token, finish_reason="length", generated_tokens=number, prefill_seconds=self._seconds)
            elif number == self._tokens:
                end = Token(len(self.WORDS), "</s>", -0.1, special=True)
                yield Step(token)
                yield Step(end, finish_reason="eos_token", generated_tokens=number + 1, prefill_seconds=self._seconds)
            else:
                yield Step(token)

    async def healthy(self) -> bool:
        """Always."""
        return True

    async def close(self) -> None:
        """Holds nothing."""
