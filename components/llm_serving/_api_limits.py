"""What API Gateway takes of a timeout and of usage plans. Pure, no Pulumi import: settings are checked with it too."""

from collections.abc import Mapping
from typing import Any

from llm_serving import _checks

STREAM_SECONDS = 900
"""Longest integration timeout of a streamed response (API Gateway quotas for REST APIs)."""
BUFFERED_SECONDS = 29
"""Longest integration timeout of a buffered response where no raised quota has been granted."""
TRANSFER_MODES = ("STREAM", "BUFFERED")
AUTHENTICATIONS = ("KEY", "TOKEN")


def check_timeout(mode: str, seconds: float | None) -> int:
    """Return the integration timeout in seconds; raises ValueError if the transfer mode does not allow it."""
    _checks.one_of("response_transfer_mode", mode, TRANSFER_MODES)
    longest = STREAM_SECONDS if mode == "STREAM" else BUFFERED_SECONDS
    if seconds is None:
        return min(300, longest)
    return _checks.whole("timeout_seconds", seconds, low=1, high=longest, unit=f"s with {mode} responses")


def check_usage_plans(field: str, plans: Mapping[str, Mapping[str, Any]], *, tokens: bool = False) -> None:
    """Check that there is a key and that each is in one plan only; raises ValueError otherwise.

    Where callers show `tokens` there are no keys, and so no plans.
    """
    if tokens:
        if plans:
            raise ValueError(
                f"{field}: {', '.join(plans)} would be for API keys, and callers show tokens; nearest valid value: none"
            )
        return
    owner: dict[str, str] = {}
    for plan, plan_args in plans.items():
        for key in plan_args["keys"]:
            if key in owner:
                raise ValueError(
                    f"{field}.{plan}.keys: {key!r} is in plan {owner[key]} already; nearest valid value: {key}-{plan}"
                )
            owner[key] = plan
    if not owner:
        raise ValueError(f"{field}: has no API key, so nobody could call the API; nearest valid value: one key")
