"""Checks of plain values, shared by the components and by the stack settings, so that both refuse with the same words.

Every message names the field, the value it has, the limit, and the nearest value that works. Numbers may arrive as
floats (a component that runs as a Pulumi plugin gets them so); `whole` turns them back.
"""

import difflib
from collections.abc import Iterable


def whole(field: str, value: float, *, low: int, high: int, unit: str = "") -> int:
    """Return `value` as an int within `low` to `high`, both included; raises ValueError otherwise."""
    number = int(value)
    text = f"{number if number == value else value}" + (f" {unit}" if unit else "")
    if number != value:
        raise ValueError(f"{field}: {text} is not a whole number; nearest valid value: {_clamp(number, low, high)}")
    if not low <= number <= high:
        raise ValueError(
            f"{field}: {text} is outside {low} to {high}; nearest valid value: {_clamp(number, low, high)}"
        )
    return number


def _clamp(number: int, low: int, high: int) -> int:
    return max(low, min(high, number))


def one_of(field: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`; raises ValueError that names the nearest allowed one otherwise."""
    names = list(allowed)
    if value in names:
        return value
    raise ValueError(
        f"{field}: {value!r} is not one of {', '.join(names)}; nearest valid value: {nearest(value, names)}"
    )


def nearest(value: str, allowed: Iterable[str]) -> str:
    """Return the member of `allowed` that is spelt most like `value`."""
    names = list(allowed)
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(value.casefold(), list(folded), n=1, cutoff=0)
    return folded[close[0]] if close else names[0]


def ordered(low_field: str, low: float, high_field: str, high: float) -> None:
    """Check that `low` is at most `high`; raises ValueError that names both fields otherwise."""
    if low > high:
        raise ValueError(f"{low_field}: {low:g} is above {high_field} {high:g}; nearest valid value: {high:g}")


def between(fields: tuple[str, str, str], low: int, value: int, high: int) -> None:
    """Check that low <= value <= high, whose names are `fields`; raises ValueError otherwise."""
    ordered(fields[0], low, fields[2], high)
    if not low <= value <= high:
        raise ValueError(
            f"{fields[1]}: {value} is outside {fields[0]} {low} to {fields[2]} {high};"
            f" nearest valid value: {_clamp(value, low, high)}"
        )


LOG_RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288)
"""The periods that CloudWatch Logs offers (PutRetentionPolicy)."""


def retention_days(field: str, value: float) -> int:
    """Return `value` if CloudWatch Logs keeps logs for that many days; raises ValueError otherwise."""
    if value not in LOG_RETENTION_DAYS:
        near = min(LOG_RETENTION_DAYS, key=lambda days: abs(days - value))
        raise ValueError(
            f"{field}: {value:g} days is no period that CloudWatch Logs offers; nearest valid value: {near}"
        )
    return int(value)
