"""Images are really built by buildah and pushed to a registry: once, with the digest that ECR gets, leaving nothing."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local import paths
from local.addresses import ECR_HOST
from local.cluster import buildah, images, registry
from local.cluster.images import Recipe
from local.errors import LocalError
from local.toolchain import ensure, program

pytestmark = [
    pytest.mark.environment,
    # The registry is a daemon: it outlives the object that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]
HOST = "127.0.0.1"


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry and a build storage of the test's own."""
    ensure("pause")
    monkeypatch.setattr(paths, "STATE", tmp_path / "state")
    monkeypatch.setattr(registry, "STORAGE", tmp_path / "registry")
    monkeypatch.setattr(buildah, "STORAGE", tmp_path / "buildah")
    monkeypatch.setattr(images, "RECORDS", tmp_path / "records")
    registry.start(HOST)
    yield tmp_path
    registry.stop()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    context = tmp_path / "context"
    context.mkdir()
    dockerfile(context, "COPY data /data", "USER 10001")
    (context / "data").write_text("1")
    return Recipe("app", ECR_HOST, "app", "local", context, on_base=False, programs=("pause",))


def dockerfile(context: Path, *lines: str) -> None:
    (context / "Dockerfile").write_text("\n".join(["FROM scratch", "COPY --from=programs pause /pause", *lines, ""]))


def build(recipe: Recipe, progress: list[str]) -> images.Image:
    return images.build_all(progress.append, recipes=[recipe], registry_host=HOST)["app"]


@pytest.mark.usefixtures("running")
def test_build_push_change(recipe: Recipe) -> None:
    progress: list[str] = []

    first = build(recipe, progress)
    begun = time.monotonic()
    again = build(recipe, progress)
    seconds = time.monotonic() - begun
    (recipe.context / "data").write_text("2")
    changed = build(recipe, progress)

    assert again == first
    assert seconds < 1
    assert first.digest == f"sha256:{hashlib.sha256(first.manifest.encode()).hexdigest()}"
    assert changed.digest != first.digest
    assert [line.split(":")[0] for line in progress] == ["  image app", "  image app"]
    repositories = registry.Repositories(HOST)
    assert repositories.digest(recipe.path, "local") == changed.digest
    assert repositories.manifest(recipe.path, first.digest)[0] == first.manifest.encode()
    repositories.close()


@pytest.mark.usefixtures("running")
def test_a_checkout_with_older_content_moves_the_tag_back(recipe: Recipe) -> None:
    first = build(recipe, [])
    (recipe.context / "data").write_text("2")
    build(recipe, [])
    (recipe.context / "data").write_text("1")
    progress: list[str] = []

    assert build(recipe, progress) == first
    assert progress == []
    repositories = registry.Repositories(HOST)
    assert repositories.digest(recipe.path, "local") == first.digest
    repositories.close()


@pytest.mark.usefixtures("running")
def test_health_checks_are_kept(recipe: Recipe) -> None:
    dockerfile(recipe.context, 'HEALTHCHECK CMD ["/pause"]')

    assert build(recipe, []).media_type == "application/vnd.docker.distribution.manifest.v2+json"


@pytest.mark.usefixtures("running")
def test_a_dockerfile_that_fails(recipe: Recipe) -> None:
    dockerfile(recipe.context, 'RUN ["/missing"]')

    with pytest.raises(LocalError) as caught:
        build(recipe, [])

    assert caught.value.problem.startswith("building image app failed:\n")
    assert 'RUN ["/missing"]' in caught.value.problem
    assert containers() == "[]"


def containers() -> str:
    index = next((buildah.STORAGE / "storage").glob("*-containers/containers.json"), None)
    return index.read_text().strip() if index else "[]"


@pytest.mark.usefixtures("running")
def test_ctrl_c_leaves_nothing_and_the_next_build_works(recipe: Recipe) -> None:
    good = (recipe.context / "Dockerfile").read_text()
    dockerfile(recipe.context, 'RUN ["/pause"]')  # never ends
    threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        build(recipe, [])

    assert containers() == "[]"
    assert not any(is_build(path) for path in Path("/proc").glob("[0-9]*"))
    (recipe.context / "Dockerfile").write_text(good)
    build(recipe, [])


def is_build(process: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return str(buildah.STORAGE).encode() in command


@pytest.mark.usefixtures("running")
def test_prune_keeps_the_last_builds(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_base(_: Any) -> str:
        return "localhost/base:none"

    monkeypatch.setattr(images, "RECIPES", (recipe,))
    monkeypatch.setattr(images, "RECORDS_KEPT", 1)
    monkeypatch.setattr(images, "_base", no_base)
    build(recipe, [])
    (recipe.context / "data").write_text("2")
    last = build(recipe, [])

    images.prune()

    assert len(list(images.RECORDS.glob("app-*.json"))) == 1
    assert build(recipe, []) == last
    assert build(replace(recipe, name="app", tag="other"), []).digest == last.digest


def test_the_registry_listens_where_it_is_told_and_stops(running: Path) -> None:
    del running
    assert registry.is_running()
    listening = Path("/proc/net/tcp").read_text()
    port = int(registry.address(HOST).rpartition(":")[2])
    assert f"0100007F:{port:04X} 00000000:0000 0A" in listening
    assert f"00000000:{port:04X} 00000000:0000 0A" not in listening

    registry.stop()

    assert not registry.is_running()
    assert program("pause").exists()
