"""A request for embeddings, checked: OpenAI's fields, and what this model can do of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson
from http_service.errors import ApiError

Input = str | list[int]
"""A text, or its token ids."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One checked request."""

    inputs: Sequence[Input]
    encoding: Literal["float", "base64"]


def parse(body: bytes, model: str, dimensions: int, max_inputs: int) -> Embeddings:
    """Checks a request; raises ApiError with what the caller must change.

    `model` and `dimensions` are the served model's name and the length of its vectors. Fields that are not OpenAI's are
    passed over, as `user` is.
    """
    fields = _object(body)
    _check_model(fields.get("model"), model)
    wanted = fields.get("dimensions")
    if wanted is not None and (wanted is True or wanted != dimensions):
        message = (
            f"'dimensions' must be {dimensions} or left out: vectors of the model '{model}' have that length only."
        )
        raise ApiError(400, message, param="dimensions")
    encoding = fields.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise ApiError(400, "'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    return Embeddings(_inputs(fields.get("input"), max_inputs), encoding)


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "The request body must be a JSON object.", code="invalid_json")
    return cast("dict[str, Any]", fields)


def _check_model(wanted: object, model: str) -> None:
    if not isinstance(wanted, str) or not wanted:
        raise ApiError(400, f"The field 'model' must name the model: {model}.", param="model")
    if wanted != model:
        message = f"The model '{wanted[:128]}' does not exist; available: {model}."
        raise ApiError(404, message, code="model_not_found", param="model")


def _inputs(value: object, most: int) -> Sequence[Input]:
    """The inputs of `input`: a text, texts, token ids, or lists of token ids."""
    if isinstance(value, str):
        items: list[object] = [value]
    elif isinstance(value, list) and value:
        items = cast("list[object]", value)
        items = [items] if _is_id(items[0]) else items
    else:
        raise _bad("must be a text, a list of texts, a list of token ids, or a list of such lists, and not empty")
    if len(items) > most:
        raise _bad(f"has {len(items)} inputs, and at most {most} are taken at once")
    return [_input(item, index) for index, item in enumerate(items)]


def _input(item: object, index: int) -> Input:
    if isinstance(item, str):
        if not item:
            raise _bad(f"must not hold an empty text (number {index})")
        try:
            item.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            raise _bad(f"holds a text that is not Unicode (number {index})") from None
        return item
    if isinstance(item, list) and item and all(map(_is_id, cast("list[object]", item))):
        return cast("list[int]", item)
    raise _bad(f"holds something that is neither a text nor a list of token ids (number {index})")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(what: str) -> ApiError:
    return ApiError(400, f"'input' {what}.", param="input")
