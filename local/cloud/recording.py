"""Writes down what the emulator checked: each IAM action, the resource that it was for, and what was decided.

MiniStack asks its policy evaluation for every call, and for everything else that a call needs besides its own action,
as an S3 copy reads its source. What passes there is what a policy must allow.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.cloud import emulator

VARIABLE = "LLM_SERVING_RECORDED_CALLS"
"""Names the file to write to, one JSON object a line. Nothing is recorded where it isn't set."""


def install() -> None:
    """Puts itself in front of the policy evaluation; call before the first request."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    path = Path(name)
    evaluator: Any = emulator.core("iam_evaluator")
    enforce = evaluator.enforce

    def recorded(
        access_key_id: str, iam_action: str, service: str, region: str, resource_arn: str = "*", **context: Any
    ) -> Any:
        refusal = enforce(access_key_id, iam_action, service, region, resource_arn=resource_arn, **context)
        line = {"action": iam_action, "resource": resource_arn, "caller": access_key_id, "allowed": refusal is None}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return refusal

    evaluator.enforce = recorded


def calls(path: Path, caller: str) -> Iterator[tuple[str, str]]:
    """Yields the action and resource of every check made for an access key."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        recorded = json.loads(line)
        if recorded["caller"] == caller:
            yield recorded["action"], recorded["resource"]
