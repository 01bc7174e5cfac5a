"""Who gets the bridge that was started beside the engine."""

import threading
import time
from pathlib import Path

import pytest

from local.plugins.aws import warm
from local.plugins.aws.warm import Warm


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "free").touch()
    monkeypatch.setenv(warm.VARIABLE, str(tmp_path))
    return tmp_path


def test_one_plugin_takes_it(folder: Path) -> None:
    taken = warm.taken()
    assert taken
    assert taken.messages == f"unix:{folder}/messages"
    assert warm.taken() is None


def test_there_may_be_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    assert warm.taken() is None
    monkeypatch.setenv(warm.VARIABLE, str(tmp_path / "gone"))
    assert warm.taken() is None


def test_the_port_is_waited_for(tmp_path: Path) -> None:
    def start() -> None:
        time.sleep(0.2)
        (tmp_path / "draft").write_text("4711")
        (tmp_path / "draft").replace(tmp_path / "port")

    thread = threading.Thread(target=start)
    thread.start()
    assert Warm(tmp_path).port() == 4711
    thread.join()


def test_there_is_no_port_where_the_engine_has_ended(tmp_path: Path) -> None:
    assert Warm(tmp_path / "gone").port() == 0


def test_nothing_starts_beside_the_official_plugin(tmp_path: Path) -> None:
    program = tmp_path / "plugins" / "resource-aws-v7.0.0" / "pulumi-resource-aws"
    program.parent.mkdir(parents=True)
    program.symlink_to("/official")
    for environment in ({"PULUMI_HOME": str(tmp_path)}, {}):
        with (tmp_path / "log").open("wb") as log, warm.started(environment, log) as variables:
            assert variables == {}
