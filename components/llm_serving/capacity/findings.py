"""What a check finds: one line that a person can act on, with a code that a stack file can answer for."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "unchecked"]
"""`error` stops a preview, `warning` doesn't, `unchecked` says which check could not run and why."""


@dataclass(frozen=True, slots=True)
class Check:
    """A kind of finding, as `llm-serving checks` and docs/checks.md list it."""

    code: str
    """Upper case with underscores, as in FIT_KV_POOL. Stack files name it in `allow`, so it never changes."""
    severity: Severity
    """The worst that it reports."""
    summary: str
    """What is wrong, in one sentence that stands for every finding with this code."""
    failures: tuple[str, ...] = ()
    """The reported failures that it prevents, as in F3."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with what is to be deployed."""

    code: str
    """Code of its `Check`."""
    severity: Severity
    """How bad it is."""
    setting: str
    """The key of the stack file, as in models.chat.gpus, or the option of a command line."""
    message: str
    """The value that failed, the limit, and the nearest values that work; does not repeat the setting."""
    alternatives: tuple[str, ...] = ()
    """The nearest values that work, best first, for a program to read."""

    def __str__(self) -> str:
        return f"{self.setting}: {self.message} [{self.code}]"
