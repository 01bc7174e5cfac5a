"""`llm-serving rollout`: each step as an edit of a stack file, which keeps the rest, and is whole or not at all."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli import rollout_edits
from infra.settings import load
from infra.settings.models import ModelSettings
from tests.unit.cli.cli_runner import Answer, ask

ROOT = Path(__file__).resolve().parents[3]
STACKS = sorted((ROOT / "stacks").glob("Pulumi.*.yaml"))
MODEL = "smollm2-135m"
Step = Callable[..., Answer]


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "Pulumi.local.yaml"
    path.write_bytes((ROOT / "stacks" / "Pulumi.local.yaml").read_bytes())
    return path


@pytest.fixture
def step(capsys: pytest.CaptureFixture[str], stack: Path) -> Step:
    def take(*arguments: str) -> Answer:
        return ask(capsys, "rollout", *arguments, "--stack", str(stack))

    return take


def models(path: Path) -> dict[str, Any]:
    document = cast(dict[str, Any], yaml.safe_load(path.read_text()))
    load({key: value if isinstance(value, str) else json.dumps(value) for key, value in document["config"].items()})
    return document["config"]["llm-serving:models"]


def versions(path: Path) -> dict[str, Any]:
    return models(path)[MODEL].get("versions", {})


def test_a_rollout_from_its_start_to_its_end(step: Step, stack: Path) -> None:
    before = stack.read_text()
    assert step("start", MODEL, "--revision", "2").status == 0
    assert versions(stack) == {"stable": {"weight": 90}, "canary": {"revision": "2", "weight": 10, "replicas": 1}}
    assert step("set", MODEL, "canary=60").status == 0
    assert versions(stack) == {"stable": {"weight": 40}, "canary": {"revision": "2", "weight": 60, "replicas": 2}}
    first = step("promote", MODEL)
    # As many as stable may have: the model is autoscaled.
    assert versions(stack) == {"stable": {"weight": 0}, "canary": {"revision": "2", "weight": 100}}
    assert models(stack)[MODEL]["revision"] == "1"
    assert f"rollback {MODEL}" in first.out
    assert step("promote", MODEL).status == 0
    assert models(stack)[MODEL]["revision"] == "2"
    assert versions(stack) == {"stable": {"weight": 100}, "canary": {"revision": "2", "weight": 0}}
    assert step("promote", MODEL).status == 1
    assert step("clean", MODEL).status == 0
    assert stack.read_text() == before.replace('revision: "1"', 'revision: "2"')


def test_the_way_back(step: Step, stack: Path) -> None:
    before = stack.read_text()
    step("start", MODEL, "--revision", "2", "--weight", "30")
    assert step("rollback", MODEL).status == 0
    assert versions(stack) == {"stable": {"weight": 100}, "canary": {"revision": "2", "weight": 0, "replicas": 1}}
    assert step("clean", MODEL).status == 0
    assert stack.read_text() == before
    step("start", MODEL, "--revision", "2")
    step("promote", MODEL)
    assert step("rollback", MODEL).status == 0
    assert {name: each["weight"] for name, each in versions(stack).items()} == {"stable": 100, "canary": 0}


def test_a_shadow_takes_nothing_from_stable(step: Step, stack: Path) -> None:
    assert step("start", MODEL, "--revision", "2", "--shadow", "--weight", "20").status == 0
    shadow = {"revision": "2", "weight": 20, "replicas": 1, "shadow": True}
    assert versions(stack) == {"stable": {"weight": 100}, "shadow": shadow}
    assert step("promote", MODEL).status == 1
    assert step("rollback", MODEL).status == 0
    assert versions(stack)["shadow"] == shadow


@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.name)
def test_nothing_else_of_a_stack_file_changes(capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    for model in models(path):
        answer = ask(capsys, "rollout", "start", model, "--revision", "next", "--stack", str(copy))
        assert answer.status == 0, answer.err
    before, after = path.read_text().splitlines(), copy.read_text().splitlines()
    added = iter(after)
    assert all(line in added for line in before)  # the lines before are still there, in their order
    assert len(after) == len(before) + 7 * len(models(path))


@pytest.mark.parametrize("indent", ["  - m7i.large", "    - m7i.large"])
def test_lists_stay_as_they_were_written(step: Step, stack: Path, indent: str) -> None:
    text = stack.read_text().replace("      instanceTypes: [m7i.large]", f"      instanceTypes:\n    {indent}  # ours")
    stack.write_text(text)
    step("start", MODEL, "--revision", "2")
    step("rollback", MODEL)
    step("clean", MODEL)
    assert stack.read_text() == text


def test_a_dry_run_writes_nothing_and_says_what_would_change(step: Step, stack: Path) -> None:
    before = stack.read_text()
    answer = step("start", MODEL, "--revision", "2", "--dry-run")
    assert answer.status == 0
    assert '+          revision: "2"' in answer.out.splitlines()
    assert "nothing was written" in answer.out
    assert stack.read_text() == before


def test_a_program_gets_what_changed(step: Step, stack: Path) -> None:
    answer = step("start", MODEL, "--revision", "2", "--json").json
    assert (answer["stack"], answer["written"], answer["findings"]) == ("local", True, [])
    assert "+        canary:" in answer["diff"]
    stable = {"model": MODEL, "version": "stable", "service": MODEL, "revision": "1", "runtime": "tgi"}
    stable |= {"replicas": 2, "max_replicas": 3}
    canary = {**stable, "version": "canary", "service": f"{MODEL}-canary", "revision": "2"}
    canary |= {"replicas": 1, "max_replicas": 1}
    expected = [{**stable, "weight": 90, "shadow": False}, {**canary, "weight": 10, "shadow": False}]
    assert answer["versions"] == expected
    assert step("status", "--json").json == {"stack": "local", "versions": expected, "findings": []}
    again = step("set", MODEL, "canary=10", "--json").json
    assert (again["written"], again["diff"]) == (False, [])


def test_status_shows_every_version(step: Step) -> None:
    assert step("status").out.split()[-2:] == ["100", "%"]
    step("start", MODEL, "--revision", "2", "--shadow")
    shown = step("status", MODEL).out
    assert f"{MODEL}-shadow" in shown
    assert "10 % copied" in shown


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("status", "smollm"), f"MODEL: 'smollm' is no model of {{stack}}; nearest valid value: {MODEL}"),
    (("start", "smollm", "--revision", "2"),
     f"llm-serving:models.smollm: is no model of {{stack}}; nearest valid value: {MODEL}"),
    (("start", MODEL), "--revision: is missing: start needs the revision to try"),
    (("start", MODEL, "--revision", "2", "--weight", "101"),
     "--weight: 101 is outside 0 to 100; nearest valid value: 100"),
    (("start", MODEL, "--revision", "2", "--version", "stable"),
     f"llm-serving:models.{MODEL}.versions.stable: is what a rollout starts beside; nearest valid value: canary"),
    (("start", MODEL, "--revision", "a/b"), "does not match"),
    (("start", MODEL, "--revision", "2", "--version", "Canary"), "nearest valid value: canary"),
    (("set", MODEL, "canary=10"), f"llm-serving:models.{MODEL}.versions: has none; nearest valid step: start"),
    (("set", MODEL), "VERSION=PERCENT: is missing, as in canary=10"),
    (("set", MODEL, "canary=ten"), "'canary=ten' is no version and whole percentage from 0 to 100"),
    (("promote", MODEL), f"llm-serving:models.{MODEL}.versions: has none; nearest valid step: start"),
    (("promote", MODEL, "--weight", "10"), "--weight: is for start only"),
    (("rollback", MODEL), f"llm-serving:models.{MODEL}.versions: has none; nearest valid step: start"),
    (("rollback",), "MODEL: is missing: rollback is about one model"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(each) for each, _ in REFUSED])
def test_what_cannot_be_done_leaves_the_file_as_it_was(
    step: Step, stack: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = stack.read_text()
    answer = step(*arguments)
    assert answer.status == 1
    assert message.format(stack=stack) in answer.err
    assert stack.read_text() == before
    assert list(stack.parent.iterdir()) == [stack]


def test_weights_that_do_not_sum_up_leave_the_file_as_it_was(step: Step, stack: Path) -> None:
    step("start", MODEL, "--revision", "2")
    before = stack.read_text()
    answer = step("set", MODEL, "canary=10", "stable=80")
    assert answer.status == 1
    assert (
        f"llm-serving:models.{MODEL}.versions: weights sum to 90, not to 100 (stable 80 + canary 10);"
        " nearest valid value: stable 90, canary 10" in answer.err
    )
    assert step("set", MODEL, "canari=10").status == 1
    assert stack.read_text() == before


def test_a_file_that_cannot_be_written_is_as_it_was(step: Step, stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stack.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = step("start", MODEL, "--revision", "2")
    assert answer.status == 1
    assert "cannot be written: No space left on device; it is as it was" in answer.err
    assert stack.read_text() == before
    assert list(stack.parent.iterdir()) == [stack]


def test_a_link_and_a_mode_are_kept(step: Step, stack: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.yaml"
    stack.rename(real)
    stack.symlink_to(real)
    real.chmod(0o640)
    assert step("start", MODEL, "--revision", "2").status == 0
    assert stack.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "canary" in versions(real)


def test_mistakes_that_were_there_before_are_told(step: Step, stack: Path) -> None:
    stack.write_text(stack.read_text().replace("      runtime: tgi", "      versions: {stable: 1, canary: 2}"))
    before = stack.read_text()
    answer = step("promote", MODEL)
    assert answer.status == 1
    assert f"llm-serving:models.{MODEL}.versions.stable: 1 is not a group of keys" in answer.err
    assert stack.read_text() == before


def test_a_file_that_only_one_reader_takes_is_not_rewritten(step: Step, stack: Path) -> None:
    stack.write_text(stack.read_text().replace("      gpus: 1", "      gpus: 1\n      gpus: 1"))
    before = stack.read_text()
    answer = step("start", MODEL, "--revision", "2")
    assert answer.status == 1
    assert "is no YAML 1.2: " in answer.err
    assert stack.read_text() == before


settings_of_versions = st.fixed_dictionaries(
    {},
    optional={
        "revision": st.sampled_from(["1", "2", "3"]),
        "dtype": st.sampled_from(["float16", "bfloat16"]),
        "maxConcurrentRequests": st.integers(1, 100),
        "cpuMillicores": st.integers(10, 100),
    },
)
Settings = tuple[dict[str, Any], dict[str, Any]]


def scaled(least: int) -> dict[str, Any]:
    return {"autoscaling": {"minReplicas": least, "maxReplicas": 6}}


def fixed(number: int) -> dict[str, Any]:
    return {"replicas": number}


nothing: dict[str, Any] = {}
pods = st.one_of(st.just(nothing), st.builds(fixed, st.integers(1, 5)), st.builds(scaled, st.integers(1, 6)))
settings_with_pods = st.tuples(settings_of_versions, pods)


@given(settings_with_pods, settings_with_pods, settings_with_pods)
def test_a_promoted_canary_serves_as_before_with_the_pods_of_stable(
    own: Settings, stable: Settings, canary: Settings
) -> None:
    model: dict[str, Any] = {"revision": "1", "weightGb": 1.0, "pool": "l4", **own[0], **own[1]}
    model["versions"] = {
        "stable": {**stable[0], **stable[1], "weight": 70},
        "canary": {**canary[0], **canary[1], "weight": 30},
    }
    before = ModelSettings.model_validate(model)
    assert not rollout_edits.promote(model)
    shifted = ModelSettings.model_validate(model)
    assert shifted.version("canary").most_replicas >= before.version("stable").least_replicas
    assert rollout_edits.promote(model)
    after = ModelSettings.model_validate(model)
    assert {name: each.weight for name, each in after.versions.items()} == {"stable": 100, "canary": 0}
    size = before.version("stable")
    served = before.version("canary").model_copy(update={"replicas": size.replicas, "autoscaling": size.autoscaling})
    assert after.version("stable") == served
