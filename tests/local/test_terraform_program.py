"""Terraform accepts the program that is generated from prod's recorded state, and plans as many AWS resources."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from local import terraform_cli
from local.plugins.aws.bridge import Bridge
from local.plugins.aws.sdk import installed
from local.terraform_program import Writer
from tests.cloud_harness import Cloud

pytestmark = [
    pytest.mark.local,
    pytest.mark.skipif(shutil.which("terraform") is None, reason="there is no terraform on PATH"),
]

STATE = Path(__file__).parents[1] / "upgrade" / "prod.json"
ACCOUNT = "333333333333"
"""That of prod: the provider refuses any other."""


def test_terraform_plans_the_same_resources(tmp_path: Path) -> None:
    states: list[dict[str, Any]] = json.loads(STATE.read_text())["deployment"]["resources"]
    bridge = Bridge("")
    try:
        program = Writer(installed(), bridge.terraform).program(states)
    finally:
        bridge.end()
    aws = Counter(state["type"] for state in states if state["type"].startswith("aws:"))
    written = Counter({name: len(each) for name, each in program["resource"].items()})
    assert sorted(written.values()) == sorted(aws.values())
    folder = tmp_path / "terraform"
    folder.mkdir()
    terraform_cli.prepare(folder, program)
    cloud = Cloud(tmp_path)
    cloud.environment["MINISTACK_ACCOUNT_ID"] = ACCOUNT
    cloud.start()
    try:
        addresses: dict[str, str] = json.loads(cloud.call("__import__('json').dumps(cloud.environment())"))
        assert terraform_cli.plan(folder, addresses) == aws.total()
    finally:
        cloud.stop()
