"""Findings that a stack file accepts: the code of each, and why."""

from collections.abc import Iterator, Mapping

from llm_serving import _checks
from llm_serving.capacity import checks

Allow = dict[str, str]
"""By the code of a finding, the sentence that says why it is accepted."""
FEWEST_WORDS = 3


def allow_problems(allow: Mapping[str, str]) -> Iterator[str]:
    """Yield which codes no check has, and which reasons say nothing."""
    for code, reason in allow.items():
        if code not in checks.ALL:
            yield f"allow.{code}: unknown code; nearest known code: {_checks.nearest(code, checks.ALL)}"
        elif len(reason.split()) < FEWEST_WORDS:
            yield f"allow.{code}: {reason!r} gives no reason; write a sentence that says why this is right here"
