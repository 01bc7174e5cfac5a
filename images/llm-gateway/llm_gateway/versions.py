"""Which version of a model answers a request: as many of them as its weight says, and the same one for the same key.

The choice is weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005): every
version draws a score from the key, and the best one wins. Shares are as the weights are, and where weights change, keys
move only to versions that gained and from versions that lost: nobody is sent back and forth while a canary grows.
"""

import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence

from http_service.errors import ApiError

from llm_gateway.config import ModelRoute, Version
from llm_gateway.inference import Inference

VERSION_HEADER = "x-model-version"
SESSION_HEADER = "x-session-id"
_UNIT_BITS = 52
"""Few enough that no number of the unit interval is rounded to 1."""


def select(route: ModelRoute, inference: Inference, headers: Mapping[str, str]) -> tuple[Version, bool]:
    """The version to ask, and whether the caller has named it. Raises ApiError 404 for one that there isn't."""
    named = inference.version or headers.get(VERSION_HEADER)
    if not named:
        return choose(route.live, _key(inference, headers)), False
    for version in route.all_versions:
        if version.name == named:
            return version, True
    names = ", ".join(sorted(version.name for version in route.all_versions))
    raise ApiError(
        404,
        f"The model '{inference.model}' has no version '{named[:128]}'; available: {names}.",
        code="version_not_found",
        param="model",
    )


def choose(versions: Sequence[Version], key: bytes) -> Version:
    """The version that `key` belongs to. One of weight 0 is never chosen while another one has any."""
    return versions[0] if len(versions) == 1 else max(versions, key=lambda version: _score(version, key))


def second_choice(route: ModelRoute, unreachable: Version) -> Version | None:
    """The heaviest other version that may answer where one can't be reached; None where there is none."""
    others = [version for version in route.live if version != unreachable]
    return max(others, key=lambda version: version.weight, default=None)


def sampled(version: Version) -> bool:
    """Whether a shadow version gets a copy of this request."""
    return unit(version.name, secrets.token_bytes(16)) * 100 < version.weight


def _key(inference: Inference, headers: Mapping[str, str]) -> bytes:
    """What the caller's requests are kept together by; something new each time where it gives nothing."""
    session = headers.get(SESSION_HEADER) or inference.fields.get("user")
    if not isinstance(session, str) or not session:
        return secrets.token_bytes(16)
    # With the model in it, so that not always the same callers are the first to get what is new.
    return f"{inference.model}\0{session}".encode()


def _score(version: Version, key: bytes) -> float:
    return -version.weight / math.log(unit(version.name, key))


def unit(name: str, key: bytes) -> float:
    """A number above 0 and below 1 that a name and a key always draw."""
    digest = hashlib.blake2b(name.encode() + b"\0" + key, digest_size=8).digest()
    return ((int.from_bytes(digest) >> (64 - _UNIT_BITS)) + 0.5) / (1 << _UNIT_BITS)
