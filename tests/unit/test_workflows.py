"""The GitHub Actions workflows: least permissions, pinned actions, commands that exist, no input run as a script."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from local.preview_comment import MARKER
from local.toolchain import terraform

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
PREVIEW = ROOT / ".github" / "workflows" / "preview.yaml"
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def content(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.load(path.read_text(), yaml.BaseLoader))  # `on` stays a word


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in content(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
class TestEveryWorkflow:
    def test_actions_are_pinned_to_a_commit_and_say_which_version(self, path: Path) -> None:
        used = re.findall(r"uses: (.*)", path.read_text())
        assert used
        for line in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line

    def test_make_targets_exist(self, path: Path) -> None:
        called = re.findall(r"\bmake (?:--silent )?([a-z-]+)", path.read_text())
        assert called
        assert set(called) <= TARGETS

    def test_nothing_from_outside_is_pasted_into_a_script(self, path: Path) -> None:
        assert not [step["run"] for step in steps(path) if "${{" in step.get("run", "")]

    def test_permissions_are_none_but_what_a_job_names(self, path: Path) -> None:
        assert content(path)["permissions"] == {}
        for job in content(path)["jobs"].values():
            assert job["timeout-minutes"]
            assert job["permissions"]


def test_the_job_that_runs_the_pull_request_can_only_read() -> None:
    jobs = content(PREVIEW)["jobs"]
    assert jobs["preview"]["permissions"] == {"contents": "read"}
    assert jobs["preview"]["steps"][0]["with"] == {"fetch-depth": "0", "persist-credentials": "false"}
    assert jobs["comment"]["permissions"] == {"pull-requests": "write"}
    assert not [step for step in jobs["comment"]["steps"] if "uses" in step or "make" in step["run"]]


def test_it_runs_on_pull_requests_with_no_secret() -> None:
    assert list(content(PREVIEW)["on"]) == ["pull_request"]
    assert "secrets." not in PREVIEW.read_text()
    assert content(PREVIEW)["concurrency"]["cancel-in-progress"] == "true"


def test_the_comment_is_found_by_its_marker() -> None:
    assert f'startswith("{MARKER}")' in PREVIEW.read_text()


def test_the_provider_is_the_one_that_the_bridge_is_tested_with() -> None:
    (step,) = [step for step in steps(PREVIEW) if step.get("name") == "Get the AWS provider"]
    assert step["env"]["VERSION"] == terraform.VERSION
    assert terraform.ADDRESS in step["run"]
