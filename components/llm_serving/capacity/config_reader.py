"""Reads values of a JSON object that may have anything in it, and collects what is wrong instead of stopping at it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

_SHOWN = 40
"""Characters of a wrong value that a message shows."""


class ConfigReader:
    """Typed reading of one object, with the problems met so far."""

    def __init__(self, config: Mapping[str, Any], prefix: str = "", problems: list[str] | None = None) -> None:
        self._config = config
        self._prefix = prefix
        self.problems: list[str] = [] if problems is None else problems
        """What is wrong, each with the key, its value, and the nearest valid one."""

    def problem(self, text: str) -> None:
        """Add something that is wrong, once."""
        if text not in self.problems:
            self.problems.append(text)

    def has(self, key: str) -> bool:
        """Tell whether a key is there with a value other than null."""
        return self._config.get(key) is not None

    def part(self, key: str) -> "ConfigReader | None":
        """Return a reader of an object inside; None where it is absent or no object, the latter being a problem."""
        value = self._config.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._wrong(key, value, "an object")
            return None
        return ConfigReader(cast("dict[str, Any]", value), f"{self._prefix}{key}.", self.problems)

    def parts(self, key: str) -> "list[ConfigReader]":
        """Return readers of all objects that an object inside has as its values."""
        inside = self.part(key)
        if inside is None:
            return []
        found = (inside.part(name) for name in inside._config)
        return [part for part in found if part is not None]

    def number(self, keys: Sequence[str], *, most: int, default: int | None = None) -> int:
        """Return the whole number from 1 to `most` of the first key that is there, or the default.

        0 and a problem where it is no such number, or where neither a key nor a default is there.
        """
        for key in keys:
            value = self._config.get(key)
            if value is not None:
                return self._whole(key, value, 1, most) or 0
        if default is None:
            self.problem(f"{self._prefix}{keys[0]}: missing")
        return default or 0

    def optional(self, keys: str | Sequence[str], *, most: int, least: int = 1) -> int | None:
        """Return the whole number from `least` to `most` of the first key that is there; None where none is."""
        for key in (keys,) if isinstance(keys, str) else keys:
            value = self._config.get(key)
            if value is not None:
                return self._whole(key, value, least, most)
        return None

    def numbers(self, key: str, *, or_one: bool = False) -> list[int]:
        """Return a list of whole numbers; empty where it is absent, or 1 where `or_one` allows for that."""
        value: object = self._config.get(key)
        if value is None or (or_one and value == 1):
            return []
        items = cast("list[object]", value) if isinstance(value, list) else None
        if items is None or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            self._wrong(key, cast("object", value), "a list of whole numbers")
            return []
        return cast("list[int]", items)

    def texts(self, key: str) -> list[str]:
        """Return a list of texts; empty where it is absent."""
        value: object = self._config.get(key)
        if value is None:
            return []
        items = cast("list[object]", value) if isinstance(value, list) else None
        if items is None or not all(isinstance(item, str) for item in items):
            self._wrong(key, cast("object", value), "a list of texts")
            return []
        return cast("list[str]", items)

    def text(self, key: str, *, required: bool = True) -> str | None:
        """Return a text."""
        value = self._config.get(key)
        if value is None:
            if required:
                self.problem(f"{self._prefix}{key}: missing")
            return None
        if not isinstance(value, str):
            self._wrong(key, value, "a text")
            return None
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._wrong(key, value, "true or false")
            return default
        return value

    def _whole(self, key: str, value: object, least: int, most: int) -> int | None:
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong(key, value, "a whole number")
            return None
        if not least <= value <= most:
            near = least if value < least else most
            self.problem(
                f"{self._prefix}{key}: {_shown(value)} is outside {least} to {most}; nearest valid value: {near}"
            )
            return None
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> None:
        self.problem(f"{self._prefix}{key}: {_shown(value)} is not {wanted}")


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 128:
        # Python refuses to write out the longest ones.
        return f"a number of {value.bit_length()} bits"
    text = json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
