"""Records that are saved besides MiniStack's own: those of our handlers, and the sessions of assumed roles.

MiniStack forgets its sessions when it ends; pods would then be refused until they renew their credentials.
"""

import copy
from typing import Any

from local.cloud import emulator

KEY = "additions"
"""The name of their state file."""

_KINDS = ("eks_updates", "query_definitions", "vpc_links", "vpc_links_v2", "waf_logging")
_stores: dict[str, Any] = {}


def store(kind: str) -> Any:
    """The records of one kind: a dictionary that shows those of the request's account and region."""
    if kind not in _stores:
        _stores[kind] = emulator.core("responses").AccountRegionScopedDict()
    return _stores[kind]


def get_state() -> dict[str, Any]:
    """Everything, to be saved."""
    return copy.deepcopy({"sessions": _sessions(), **{kind: store(kind) for kind in _KINDS}})


def restore(state: dict[str, Any]) -> None:
    """Puts back what was saved."""
    _sessions().update(state.get("sessions", {}))
    for kind in _KINDS:
        if kind in state:
            store(kind).update(state[kind])


def _sessions() -> dict[str, Any]:
    sessions: dict[str, Any] = emulator.service("sts")._sessions
    return sessions
