"""Records the state that a release makes of prod: `python -m tests.upgrade.record`, once for each release."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from local.preview import recorded

STACK = "prod"
STATE = Path(__file__).with_name(f"{STACK}.json")


OF_THE_RUN = ("created", "modified", "sourcePosition", "stackTrace")
"""What a resource in a state says about the run that made it."""


def essential(state: dict[str, Any]) -> dict[str, Any]:
    """The state without when, where and under which passphrase it was made."""
    resources = [
        {key: value for key, value in each.items() if key not in OF_THE_RUN}
        for each in state["deployment"]["resources"]
    ]
    return {"version": state["version"], "deployment": {"resources": resources}}


def with_certificates(text: str) -> str:
    """The state with each planned certificate as base64: the Kubernetes provider reads the kubeconfigs it compares."""
    planned = set(re.findall(r'certificate-authority-data\\+": \\+"(planned-[0-9a-f]+)', text))
    for each in planned:
        text = text.replace(each, base64.b64encode(each.encode()).decode())
    return text


if __name__ == "__main__":
    STATE.write_text(with_certificates(json.dumps(essential(recorded(STACK)), indent=1, sort_keys=True)) + "\n")
