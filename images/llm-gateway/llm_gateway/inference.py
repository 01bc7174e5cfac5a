"""A request for inference: what the gateway must know of it, checked; the rest is the model service's to judge."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import orjson
from http_service.errors import ApiError

from llm_gateway.config import ModelRoute
from llm_gateway.json_fields import as_object

MAX_NAMES_IN_ERROR = 20
_MAX_DEPTH = 250


class Endpoint(StrEnum):
    """The inference endpoints, each with its path, the same here and at the model's service."""

    CHAT = "/v1/chat/completions"
    COMPLETION = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"
    GENERATE = "/generate"
    GENERATE_STREAM = "/generate_stream"


@dataclass(frozen=True, slots=True)
class Inference:
    """One checked request."""

    endpoint: Endpoint
    model: str
    version: str
    """Version of the model that the caller names, as in model@canary; "" where it leaves the choice to the gateway."""
    body: bytes
    """As it came, and as it is sent on; without the version, which the model's service does not know."""
    fields: dict[str, Any]
    """The body, parsed."""
    stream: bool


def parse(
    endpoint: Endpoint,
    body: bytes,
    header_model: str | None,
    models: Mapping[str, ModelRoute],
    adapters: Collection[str] = (),
) -> Inference:
    """Checks a request; raises ApiError with what the caller must change. A model may be named with its version.

    `header_model` is the `x-model` header, which names the model for TGI's own endpoints; `models` has every name that
    a request may give, `adapters` those that are adapters. The model's service finds an adapter by the same name: in
    `model`, or in TGI's `adapter_id`.
    """
    fields = _object(body)
    kind = "embedding" if endpoint is Endpoint.EMBEDDINGS else "generation"
    names = sorted(name for name, route in models.items() if route.kind == kind)
    match endpoint:
        case Endpoint.CHAT | Endpoint.COMPLETION:
            _check_openai(endpoint, fields)
            model = fields.get("model")
            stream = bool(fields.get("stream"))
        case Endpoint.EMBEDDINGS:
            # What an input may be is the embedding service's to judge.
            model, stream = fields.get("model"), False
        case Endpoint.GENERATE | Endpoint.GENERATE_STREAM:
            _check_tgi(fields)
            own = [name for name in names if name not in adapters]
            model = header_model or (own[0] if len(own) == 1 else None)
            stream = endpoint is Endpoint.GENERATE_STREAM
    name, separator, version = model.partition("@") if isinstance(model, str) else ("", "", "")
    if name in models and name not in names:
        raise ApiError(400, _other_endpoint(name, models[name]), code="wrong_endpoint", param="model")
    known = _known(name, names, endpoint)
    if separator and "model" in fields:
        fields["model"] = known
        body = orjson.dumps(fields)
    if endpoint in (Endpoint.GENERATE, Endpoint.GENERATE_STREAM) and _set_adapter(fields, known, adapters):
        body = orjson.dumps(fields)
    return Inference(endpoint, known, version, body, fields, stream)


def _set_adapter(fields: dict[str, Any], model: str, adapters: Collection[str]) -> bool:
    """Names the adapter as TGI's own endpoints have it; whether that changed the body.

    An adapter that a request names beside its model would be answered from the cache as if it were never replaced.
    """
    parameters = as_object(fields.get("parameters")) or {}
    given = parameters.get("adapter_id")
    if given is not None and given != model:
        raise ApiError(
            400, "Name the adapter in the header 'x-model', not in 'parameters.adapter_id'.", param="parameters"
        )
    if model not in adapters or given == model:
        return False
    fields["parameters"] = {**parameters, "adapter_id": model}
    return True


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = as_object(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    if fields is None:
        raise ApiError(400, "The request body must be a JSON object.", code="invalid_json")
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and not _is_writable(fields):
        raise ApiError(400, f"The request body is nested deeper than {_MAX_DEPTH} levels.", code="invalid_json")
    return fields


def _is_writable(fields: dict[str, Any]) -> bool:
    """Whether it can be written again, inside what the gateway makes of it: orjson reads 1024 levels and writes 254."""
    try:
        orjson.dumps([[[[fields]]]])
    except orjson.JSONEncodeError:
        return False
    return True


def _check_openai(endpoint: Endpoint, fields: dict[str, Any]) -> None:
    if endpoint is Endpoint.CHAT:
        messages = fields.get("messages")
        if not isinstance(messages, list) or not messages:
            raise ApiError(400, "'messages' must be a list with at least one message.", param="messages")
        if not all(isinstance(message, dict) for message in cast("list[object]", messages)):
            raise ApiError(400, "Each of 'messages' must be an object.", param="messages")
    elif not isinstance(fields.get("prompt"), str | list):
        raise ApiError(400, "'prompt' must be a string or a list.", param="prompt")
    if not isinstance(fields.get("stream"), bool | None):
        raise ApiError(400, "'stream' must be true or false.", param="stream")


def _check_tgi(fields: dict[str, Any]) -> None:
    if not isinstance(fields.get("inputs"), str):
        raise ApiError(400, "'inputs' must be a string.", param="inputs")
    if not isinstance(fields.get("parameters"), dict | None):
        raise ApiError(400, "'parameters' must be an object.", param="parameters")


def _other_endpoint(model: str, route: ModelRoute) -> str:
    if route.kind == "embedding":
        return f"The model '{model}' makes embeddings: ask it at {Endpoint.EMBEDDINGS}."
    return f"The model '{model}' makes no embeddings: ask it at {Endpoint.CHAT} or {Endpoint.COMPLETION}."


def _known(model: str, names: list[str], endpoint: Endpoint) -> str:
    shown = ", ".join(names[:MAX_NAMES_IN_ERROR]) + (", ..." if len(names) > MAX_NAMES_IN_ERROR else "")
    shown = shown or "none"
    if not model:
        tgi = endpoint in (Endpoint.GENERATE, Endpoint.GENERATE_STREAM)
        where = "header 'x-model'" if tgi else "field 'model'"
        raise ApiError(400, f"The {where} must name the model, one of: {shown}.", param="model")
    if model not in names:
        raise ApiError(
            404,
            f"The model '{model[:128]}' does not exist; available: {shown}.",
            code="model_not_found",
            param="model",
        )
    return model
