"""Previews as they are used: with no credentials, no root and no network; and of a change against another commit."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.paths import CACHE, ROOT
from local.preview import borrow_python
from local.preview_comment import MARKER

pytestmark = pytest.mark.local

PATIENCE_S = 600
CACHE_TYPE = "aws:elasticache/replicationGroup:ReplicationGroup"
UNPRIVILEGED = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""A user of its own, with no privilege over anything that isn't its own."""
ALONE = ("unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""A machine with nothing but the loopback interface."""


class Checkout:
    """A copy of this checkout's files in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self._copy()
        borrow_python(self.folder)
        self.git("init", "--quiet")
        self.commit("base")

    def _copy(self) -> None:
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def replace(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1, (path, old)
        file.write_text(text.replace(old, new))

    def run(self, *arguments: str, before: tuple[str, ...] = (), status: int = 0) -> "subprocess.CompletedProcess[str]":
        """Runs a command of `python -m local` with an environment that holds nothing but where things are."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder.parent),
            "XDG_CACHE_HOME": str(CACHE.parent),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if "TF_AWS_PROVIDER" in os.environ:
            environment["TF_AWS_PROVIDER"] = os.environ["TF_AWS_PROVIDER"]
        command = [*before, str(self.folder / ".venv/bin/python"), "-m", "local", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def files(self) -> set[Path]:
        return set(self.folder.rglob("*")) | set(self.temporary.rglob("*"))

    def processes(self) -> list[str]:
        """The command lines of what runs from here."""
        found: list[str] = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(self.folder.parent) in line:
                found.append(line)
        return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = Checkout(tmp_path_factory.mktemp("preview"))
    yield made
    assert not made.processes()


@pytest.fixture
def base(checkout: Checkout) -> Iterator[Checkout]:
    """The checkout as it was first committed, and again after the test."""
    first = checkout.git("rev-list", "--max-parents=0", "HEAD")
    yield checkout
    checkout.git("reset", "--quiet", "--hard", first)
    checkout.git("clean", "--quiet", "--force", "-d")


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_no_credentials_no_root_no_network_and_nothing_left(base: Checkout, stack: str) -> None:
    before = base.files()
    done = base.run("preview", stack, "--json", before=(*ALONE, *UNPRIVILEGED))
    plan: dict[str, Any] = json.loads(done.stdout)
    assert plan["stack"] == stack
    assert plan["problems"] == []
    assert plan["counts"] == {**dict.fromkeys(plan["counts"], 0), "create": len(plan["resources"])}
    by_name = {each["name"]: each for each in plan["resources"] if each["type"] == CACHE_TYPE}
    assert by_name["cache-group"]["operation"] == "create"
    assert by_name["cache-group"]["protected"]
    assert base.files() == before
    assert not base.processes()


def test_what_is_wrong_with_a_stack_is_said_without_a_traceback(base: Checkout) -> None:
    base.replace("stacks/Pulumi.dev.yaml", "cidr: 10.10.0.0/16", "cidr: 10.10.0.0/8")
    done = base.run("preview", "dev", "--json", status=1)
    assert done.stdout == ""
    limit = "network.cidr: 10.10.0.0/8 has host bits set; nearest valid value: 10.0.0.0/8"
    assert limit in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_commit_that_replaces_the_cache_shows_that_first(base: Checkout) -> None:
    base.replace(
        "components/llm_serving/semantic_cache.py", 'engine="valkey",', 'engine="valkey",\n            port=6380,'
    )
    base.replace("stacks/Pulumi.dev.yaml", "keys: [platform-team]", "keys: [platform-team, laptop]")
    base.commit("another port, another key")
    before = base.files()
    text = base.run("preview-comment", "HEAD~1", "dev").stdout
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == MARKER
    assert lines[1] == "## Preview against `HEAD~1`"
    assert lines[2].startswith("### dev: 2 replaced, 1 changed, 2 created, ")
    assert lines[3] == "**1 protected or stateful resource would be replaced or deleted:**"
    assert lines[6] == f"| replaced | `cache-group` | {CACHE_TYPE} | `port`: `none` to `6380` | yes |"
    assert "<summary>2 created</summary>" in text
    assert "laptop" in text
    assert base.files() == before


def test_a_change_without_effect_is_no_change(base: Checkout) -> None:
    base.replace("infra/providers.py", '"""The two providers', '"""Both providers')
    base.commit("other words")
    assert "### dev: no changes" in base.run("preview-comment", "HEAD~1", "dev").stdout


def test_only_the_stacks_that_differ(base: Checkout) -> None:
    (base.folder / "docs" / "new.md").write_text("words\n")
    assert "No stack is touched." in base.run("preview-comment", "HEAD").stdout


def test_a_stack_that_is_broken_now_says_why_and_fails(base: Checkout) -> None:
    base.replace("stacks/Pulumi.dev.yaml", "minSize: 2", "minSize: 200")
    plans = json.loads(base.run("preview-comment", "HEAD", "--json", status=1).stdout)
    assert [plan["stack"] for plan in plans] == ["dev"]
    assert "cluster.systemPool" in " ".join(plans[0]["problems"])


def test_a_commit_that_is_not_there(base: Checkout) -> None:
    done = base.run("preview-comment", "nowhere", status=1)
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
