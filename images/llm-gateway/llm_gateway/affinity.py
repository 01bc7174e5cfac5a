"""Which pod of a model a request prefers: requests that begin alike go to the same one, whose runtime has cached that.

Rendezvous hashing: every pod draws a score from the prefix, and the best one wins, so that a pod which comes or goes
moves only its own share. With bounded loads (Mirrokni et al., "Consistent Hashing with Bounded Loads", 2016): a pod
that has more than a quarter above the mean of this gateway's requests is passed over, so that a prefix which everybody
shares, as a system prompt, spreads over as many pods as it needs.
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from llm_gateway.inference import Endpoint, Inference
from llm_gateway.json_fields import as_object
from llm_gateway.versions import unit

PREFIX_CHARACTERS = 1024
"""How much of a prompt requests must share to go to the same pod: about 256 tokens."""
LEAST_CHARACTERS = 256
"""Shorter prompts take less time to read than is worth a detour; runtimes cache whole blocks only."""
LOAD_FACTOR = 1.25
"""How far above the mean a pod may be loaded; the paper's own middle way."""


def prefix_key(inference: Inference, session: str = "") -> bytes | None:
    """What a request's pod is chosen by: its session, where it names one, or its prompt's first characters.

    None where there is nothing to share: a short prompt, a list of prompts, or an embedding.
    """
    if session:
        return b"session\0" + session.encode(errors="surrogateescape")
    text = _beginning(inference)
    if len(text) < LEAST_CHARACTERS:
        return None
    return text[:PREFIX_CHARACTERS].encode(errors="surrogatepass")


def ranked(pods: Sequence[str], key: bytes | None, loads: Mapping[str, int]) -> tuple[list[str], bool]:
    """The pods, best first, and whether the first one is the key's own rather than one that its load has put there."""
    if key is None:
        return sorted(pods, key=lambda pod: (loads.get(pod, 0), secrets.randbits(16))), False
    order = sorted(pods, key=lambda pod: unit(pod, key), reverse=True)
    most = math.ceil(LOAD_FACTOR * (sum(loads.get(pod, 0) for pod in pods) + 1) / len(pods))
    free = [pod for pod in order if loads.get(pod, 0) < most]
    full = [pod for pod in order if loads.get(pod, 0) >= most]
    return [*free, *full], bool(free) and free[0] == order[0]


def _beginning(inference: Inference) -> str:
    fields = inference.fields
    match inference.endpoint:
        case Endpoint.CHAT:
            return _of_messages(fields["messages"])
        case Endpoint.COMPLETION:
            prompt = fields["prompt"]
            return prompt if isinstance(prompt, str) else ""
        case Endpoint.GENERATE | Endpoint.GENERATE_STREAM:
            return fields["inputs"]
        case Endpoint.EMBEDDINGS:
            return ""


def _of_messages(messages: Sequence[Any]) -> str:
    """The first messages as one text, with what each is: as much of it as is looked at."""
    parts: list[str] = []
    size = 0
    for message in messages:
        fields = as_object(message) or {}
        content = cast("object", fields.get("content"))
        text = content if isinstance(content, str) else orjson.dumps(content).decode()
        parts.append(f"{fields.get('role')}\n{text[:PREFIX_CHARACTERS]}\n")
        size += len(parts[-1])
        if size >= PREFIX_CHARACTERS:
            break
    return "".join(parts)
