"""Writes docs/checks.md from the checks themselves; a test fails when the page is out of date.

python -m cli.reference
"""

from collections.abc import Iterator
from pathlib import Path

from cli.checks import everything
from cli.failures import FAILURES, Failure

PAGE = Path(__file__).resolve().parent.parent / "docs" / "checks.md"
HEAD = """# Checks

What `pulumi preview`, `pulumi up` and `llm-serving` refuse or warn of before anything is created. All findings of a
stack come at once; each names the setting, the value, the limit, and the nearest values that work.

- An **error** stops a preview. A **warning** doesn't. **Unchecked** says which check could not run, and why.
- A stack file answers for a finding with a reason: `allow: {CODE: why}`, for the stack or for one model.
- Codes that begin with `INPUT_` are the command line's own.

Written by `python -m cli.reference`; a test keeps it current.

## Codes

| code | worst | what is wrong | prevents |
|---|---|---|---|"""
FAILURES_HEAD = """
## Reported failures

The failures that people report and that follow from configuration alone, each with the checks that refuse it and what
is set without being asked.

| number | failure | checks | default |
|---|---|---|---|"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_codes(), FAILURES_HEAD, *(_failure(failure) for failure in FAILURES), ""])


def _codes() -> Iterator[str]:
    for check in everything():
        yield f"| `{check.code}` | {check.severity} | {_cell(check.summary)} | {' '.join(check.failures)} |"


def preventing(number: str) -> list[str]:
    """The codes of the checks that prevent a failure."""
    return [check.code for check in everything() if number in check.failures]


def _failure(failure: Failure) -> str:
    codes = " ".join(f"`{code}`" for code in preventing(failure.number))
    return f"| {failure.number} | {_cell(failure.happens)} | {codes} | {_cell(failure.default)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
