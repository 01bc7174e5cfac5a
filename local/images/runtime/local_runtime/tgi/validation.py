"""Checks requests as the router does (`router/src/validation.rs` of 3.3.7): same order, same words. Pure."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from local_runtime.engine import Sampling
from local_runtime.tgi.arguments import Arguments
from local_runtime.tgi.errors import RequestShapeError, ValidationError

CHUNK_TOKENS = 1024
"""The router generates this many tokens, then checks the request again with them as part of its input."""

_KINDS: dict[str, type | tuple[type, ...]] = {
    "best_of": int, "temperature": (int, float), "repetition_penalty": (int, float), "frequency_penalty": (int, float),
    "top_k": int, "top_p": (int, float), "typical_p": (int, float), "do_sample": bool, "max_new_tokens": int,
    "return_full_text": bool, "stop": list, "truncate": int, "watermark": bool, "details": bool,
    "decoder_input_details": bool, "seed": int, "top_n_tokens": int, "grammar": dict, "adapter_id": str,
}  # fmt: skip
_REQUIRED = ("do_sample", "stop", "watermark", "details", "decoder_input_details")
"""Those that may be left out but not be null."""


@dataclass(frozen=True)
class Request:
    """What to generate, as every route asks for it."""

    inputs: str
    parameters: Mapping[str, Any]
    add_special_tokens: bool = True
    """Whether the tokenizer adds what begins a prompt; a chat template has done so already."""

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter, or the default where it is absent or null."""
        value = self.parameters.get(name)
        return default if value is None else value


def read_request(body: Any) -> Request:
    """The request in the body of /generate. Raises RequestShapeError, in serde's manner, where it isn't one."""
    fields = json_object(body)
    inputs = fields.get("inputs")
    if "inputs" not in fields:
        raise RequestShapeError(_deserialize("missing field `inputs`"))
    if not isinstance(inputs, str):
        raise RequestShapeError(_deserialize("inputs: invalid type, expected a string"))
    parameters: Any = fields.get("parameters", {"do_sample": True})
    if not isinstance(parameters, dict):
        raise RequestShapeError(_deserialize("parameters: invalid type, expected struct GenerateParameters"))
    known = cast("dict[str, Any]", parameters)
    for name, value in known.items():
        check_kind(f"parameters.{name}", value, _KINDS.get(name), nullable=name not in _REQUIRED)
    return Request(inputs, known)


def json_object(body: Any) -> dict[str, Any]:
    """The body as an object. Raises RequestShapeError for another kind of JSON."""
    if not isinstance(body, dict):
        raise RequestShapeError(_deserialize("invalid type, expected struct"))
    return cast("dict[str, Any]", body)


def check_kind(name: str, value: Any, kind: type | tuple[type, ...] | None, *, nullable: bool = True) -> None:
    """Raises RequestShapeError where a field's value is of another kind. A kind of None, of unknown fields, is any."""
    if kind is None or (value is None and nullable):
        return
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = kind[-1] if isinstance(kind, tuple) else kind
        raise RequestShapeError(_deserialize(f"{name}: invalid type, expected {wanted.__name__}"))
    if isinstance(value, int) and value < 0 and kind is int and not name.endswith("top_k"):
        raise RequestShapeError(_deserialize(f"{name}: invalid value: integer `{value}`, expected an unsigned integer"))


def _deserialize(problem: str) -> str:
    return f"Failed to deserialize the JSON body into the target type: {problem}"


def sampling(asked: Request, limits: Arguments) -> Sampling:
    """How to generate a request, its token limit still open. Raises ValidationError in the router's order."""
    best_of = asked.get("best_of", 1)
    if best_of != 1:
        # What the real one says where --max-best-of is 1.
        raise ValidationError("`best_of` != 1 is not allowed for this endpoint")
    temperature = asked.get("temperature", 1.0)
    _check(temperature > 0, "`temperature` must be strictly positive")
    repetition_penalty = asked.get("repetition_penalty", 1.0)
    _check(repetition_penalty > 0, "`repetition_penalty` must be strictly positive")
    frequency_penalty = asked.get("frequency_penalty", 0.0)
    _check(-2 <= frequency_penalty <= 2, "`frequency_penalty` must be >= -2.0 and <= 2.0")
    for name in ("top_p", "typical_p"):
        value = asked.get(name)
        _check(value is None or 0 < value < 1, f"`{name}` must be > 0.0 and < 1.0")
    _check(asked.get("top_k", 1) > 0, "`top_k` must be strictly positive")
    _check(asked.get("max_new_tokens", 1) != 0, "`max_new_tokens` must be strictly positive")
    stop: list[str] = asked.get("stop", [])
    _check(
        len(stop) <= limits.max_stop_sequences,
        f"`stop` supports up to {limits.max_stop_sequences} stop sequences. Given: {len(stop)}",
    )
    top_n_tokens = asked.get("top_n_tokens", 0)
    _check(
        top_n_tokens <= limits.max_top_n_tokens,
        f"`top_n_tokens` must be >= 0 and <= {limits.max_top_n_tokens}. Given: {top_n_tokens}",
    )
    _check(asked.inputs != "", "`inputs` cannot be empty")
    truncate = asked.get("truncate", 1)
    _check(
        0 < truncate <= limits.max_input_tokens,
        f"`truncate` must be strictly positive and less than {limits.max_input_tokens}. Given: {truncate}",
    )
    chosen = any(asked.get(name) is not None for name in ("temperature", "top_k", "top_p", "typical_p"))
    return Sampling(
        limit=0,
        temperature=float(temperature) if chosen or asked.get("do_sample", False) else 0.0,
        top_k=asked.get("top_k", 0),
        top_p=asked.get("top_p", 1.0),
        typical_p=asked.get("typical_p", 1.0),
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        seed=asked.get("seed", secrets.randbits(63)),
        stop=tuple(stop),
        top_n_tokens=top_n_tokens,
        schema=_schema(asked.get("grammar"), limits),
        adapter=asked.get("adapter_id"),
    )


def _check(right: bool, message: str) -> None:
    if not right:
        raise ValidationError(message)


def _schema(grammar: dict[str, Any] | None, limits: Arguments) -> dict[str, Any] | None:
    if grammar is None:
        return None
    value: Any = grammar.get("value")
    if grammar.get("type") == "json_schema" and isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("schema")
    # The engine here follows JSON schemas, not regular expressions.
    if limits.disable_grammar_support or grammar.get("type") == "regex" or not isinstance(value, dict):
        raise ValidationError("grammar is not supported")
    if "properties" not in value:
        raise ValidationError("grammar is not valid: Grammar must have a 'properties' field")
    return cast("dict[str, Any]", value)


def token_limit(input_length: int, asked: int | None, limits: Arguments) -> int:
    """How many tokens a request may generate.

    Raises ValidationError for an input that is too long, alone or with what is asked for. As the router does, only
    the first 1024 tokens asked for count against the limit, and generation ends where no further 1024 fit.
    """
    total = limits.max_total_tokens
    wanted = max(0, total - input_length) if asked is None else asked
    first = min(wanted, CHUNK_TOKENS)
    if input_length + first > total:
        raise ValidationError(
            f"`inputs` tokens + `max_new_tokens` must be <= {total}."
            f" Given: {input_length} `inputs` tokens and {first} `max_new_tokens`"
        )
    if input_length > limits.max_input_tokens:
        raise ValidationError(f"`inputs` must have less than {limits.max_input_tokens} tokens. Given: {input_length}")
    given = first
    while given < wanted and input_length + given <= limits.max_input_tokens:
        more = first if asked is not None else min(CHUNK_TOKENS, total - input_length - given)
        if more <= 0 or input_length + given + more > total:
            break
        given += more
    return min(given, wanted)
