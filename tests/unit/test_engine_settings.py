"""What the engine's wrapper does by itself: settings laid over a stack file, messages, locks of killed engines."""

from pathlib import Path
from typing import Any

import pytest

from local import engine
from local.errors import LocalError


def test_merged_goes_into_groups_and_replaces_all_else() -> None:
    base = {"config": {"a": {"x": 1, "y": [1, 2]}, "b": 2}}
    over = {"config": {"a": {"y": [3]}, "c": {"z": 4}}}
    assert engine.merged(base, over) == {"config": {"a": {"x": 1, "y": [3]}, "b": 2, "c": {"z": 4}}}
    assert base == {"config": {"a": {"x": 1, "y": [1, 2]}, "b": 2}}


def test_what_is_null_in_overrides_is_taken_away() -> None:
    base: dict[str, Any] = {"apiGateway": {"usagePlans": {"standard": {}}, "url": "u"}, "gateway": {}}
    over: dict[str, Any] = {"apiGateway": {"jwt": {}, "usagePlans": None}, "gateway": None, "cache": None}
    # Overrides are of several origins: what one of them takes away must reach the stack file.
    both = engine.merged({"apiGateway": {"url": "v"}}, over)
    assert engine.without_nulls(engine.merged(base, both)) == {"apiGateway": {"jwt": {}, "url": "v"}}


@pytest.mark.parametrize(
    ("text", "problem"), [("a: [1", "is not valid YAML"), ("- a\n- b\n", "holds no keys"), ("word", "holds no keys")]
)
def test_file_that_holds_no_settings(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "Pulumi.local.yaml"
    path.write_text(text)
    with pytest.raises(LocalError, match=problem) as raised:
        engine.read(path)
    assert "\n" not in str(raised.value)


def test_empty_file_is_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert engine.read(path) == {}


def test_unknown_stack_is_told_with_those_that_there_are() -> None:
    with pytest.raises(LocalError, match="there is no stack 'nope': stacks/ has dev, local, prod, staging"):
        engine.committed("nope")


def test_overrides_are_laid_over_the_committed_stack() -> None:
    settings = engine.Engine("local", Path("pulumi"), {}, {"config": {"llm-serving:gateway": {"replicas": 5}}})
    gateway = settings.stack_file()["config"]["llm-serving:gateway"]
    assert gateway["replicas"] == 5
    assert gateway["cpuMillicores"] == 50


@pytest.mark.parametrize("running", [[], [1]], ids=["nobody", "somebody"])
def test_locks_go_where_no_engine_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: list[int]) -> None:
    lock = tmp_path / "pulumi-state/.pulumi/locks/organization/llm-serving/local/1.json"
    lock.parent.mkdir(parents=True)
    lock.write_text("{}")
    monkeypatch.setattr(engine, "STATE", tmp_path)
    monkeypatch.setattr(engine, "running", lambda: running)
    engine.release_locks()
    assert lock.exists() == bool(running)


def test_programs_traceback_is_left_to_the_log() -> None:
    traceback = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nException: no such image\n'
    outcome = engine.Outcome()
    engine._note({"severity": "error", "message": f"Program failed: {traceback}"}, outcome)  # pyright: ignore[reportPrivateUsage]
    assert outcome.problems == ["Program failed: Exception: no such image"]


def test_each_line_of_an_error_stays_one() -> None:
    outcome = engine.Outcome()
    engine._note({"severity": "error", "message": "stack prod cannot be used:\none  wrong\n\ntwo wrong\n"}, outcome)  # pyright: ignore[reportPrivateUsage]
    assert outcome.problems == ["stack prod cannot be used:\n    one wrong\n    two wrong"]
