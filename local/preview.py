"""Previews of a stack that need no cloud account, no cluster and no root: on its own, or against another commit.

Everything that a preview starts or writes belongs to the state folder of this process, which is a throw-away one.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local import cloud, plugins, seeds, toolchain
from local.engine import Engine, committed, known_stacks
from local.errors import LocalError
from local.paths import ROOT
from local.plan import Plan, plan, state_of

PROGRAMS = ("pulumi", "pulumi-language-python-exec", "aws-bridge", "pulumi-resource-kubernetes")
PLANNED = ("aws", "kubernetes")
"""The plugins that would reach a cloud or a cluster."""
UNSAVED = {"PULUMI_SKIP_CHECKPOINTS": "true"}
"""Has the engine write a state once, at the end. It else makes the whole state anew after each resource, in a preview,
which throws it away, too: time that grows with the square of the resources."""


def preview(stack: str) -> Plan:
    """Returns what `pulumi up` would do in an empty account. Raises LocalError where the stack can't be used."""
    with throw_away_cloud(committed(stack)) as variables:
        engine = Engine(stack, toolchain.program("pulumi"), variables)
        seeds.put_images(cloud.client("ecr"), seeds.tagged_images(engine.stack_file()))
        engine.select()
        return plan(stack, engine.preview())


def record(stack: str) -> dict[str, Any]:
    """Returns the state of an environment as this checkout's program makes it: what a later program is compared with.

    Its ids, addresses and secrets are made up (`local.planning`).
    """
    content = committed(stack)
    with throw_away_cloud(content) as variables:
        _plan_only(Path(variables["PULUMI_HOME"]) / "plugins")
        seeds.put_images(cloud.client("ecr"), seeds.tagged_images(content))
        engine = Engine(stack, toolchain.program("pulumi"), variables)
        engine.select()
        engine.up()
        return engine.export()


def compare(stack: str, base: Path) -> Plan:
    """Returns what this checkout's program would do to an environment that the program in `base` has made.

    `base` is a checkout, or a file with what `record` returned. Both programs are planned by the real engine and the
    real providers, which decide what is replaced; see `local.planning` for what stands for the environment. A program
    that can't be planned makes a plan with problems.
    """
    try:
        return _compare(stack, base)
    except LocalError as error:
        return Plan(stack, problems=tuple(error.problem.splitlines()))


def _compare(stack: str, base: Path) -> Plan:
    after = committed(stack)
    before = committed(stack, base) if base.is_dir() and stack in known_stacks(base) else None
    if before is not None and seeds.account(before) != seeds.account(after):
        before = None  # nothing of one account can be kept in another
    with throw_away_cloud(after) as variables:
        _plan_only(Path(variables["PULUMI_HOME"]) / "plugins")
        protected: list[str] = []
        images = seeds.tagged_images(after)
        if before is not None:
            ecr = cloud.client("ecr")
            seeds.put_images(ecr, seeds.tagged_images(before))
            protected = _make(stack, base, variables)
            images = _others(ecr, images, seeds.tagged_images(before))
        seeds.put_images(cloud.client("ecr"), images)
        engine = Engine(stack, toolchain.program("pulumi"), variables)
        engine.select()
        if base.is_file():
            recorded: list[dict[str, Any]] = json.loads(base.read_text())["deployment"]["resources"]
            engine.restore(recorded)
            protected = [each["urn"] for each in recorded if each.get("protect")]
            engine.unprotect()
        return plan(stack, engine.preview(), protected)


def _make(stack: str, base: Path, variables: Mapping[str, str]) -> list[str]:
    """Plans the program of another commit into the state. Returns the URNs that it protects."""
    engine = Engine(stack, toolchain.program("pulumi"), variables, root=base)
    try:
        engine.select()
        made = engine.up()
    except LocalError as error:
        raise LocalError(f"the base's stack {stack} can't be planned: {error.problem}", error.remedy) from None
    engine.unprotect()
    return [step["urn"] for step in made.steps if state_of(step, "new").get("protect")]


def _others(ecr: Any, images: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    """Empties the repositories whose tag differs. Returns what to put."""
    changed = {name: tag for name, tag in images.items() if there.get(name) != tag}
    for name in changed:
        if name in there:
            ecr.delete_repository(repositoryName=name, force=True)
    return changed


@contextmanager
def throw_away_cloud(stack_file: Mapping[str, Any]) -> Generator[dict[str, str]]:
    """A throw-away cloud with the account of a stack, and the environment that the engine needs for it."""
    plugins.require_aws()
    toolchain.ensure(*PROGRAMS)
    try:
        os.environ.update(seeds.account(stack_file))
        cloud.start(bridge=False)
        yield {**cloud.environment(), **plugins.install(), **UNSAVED}
    finally:
        cloud.stop()


def _plan_only(folder: Path) -> None:
    """Puts `local.planning` before each plugin that would reach a cloud or a cluster."""
    for name in PLANNED:
        for program in folder.glob(f"resource-{name}-v*/pulumi-resource-{name}"):
            real = program.parent / "real" / program.name
            real.parent.mkdir()
            program.rename(real)
            command = shlex.join([sys.executable, "-P", "-m", "local.planning", name, str(real)])
            program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            program.chmod(0o755)


@contextmanager
def checkout(reference: str) -> Generator[Path]:
    """A folder with the files of a commit and a Python for its program, gone after the block.

    Raises LocalError where there is no such commit, or its packages can't be had.
    """
    with tempfile.TemporaryDirectory(prefix="llm-serving-base-") as name:
        folder = Path(name)
        archive = folder / "files.tar"
        done = git("archive", "--format=tar", f"--output={archive}", reference)
        if done.returncode:
            raise LocalError(f"there is no commit {reference!r} here", "name a branch, tag or commit that git has")
        with tarfile.open(archive) as files:
            files.extractall(folder, filter="data")
        archive.unlink()
        _prepare_python(folder)
        yield folder


def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs git in this checkout; nothing that it is told to do here changes anything."""
    # Safe where another user owns the checkout, as in a container: only that user's hooks and settings would matter.
    command = ["git", "-c", f"safe.directory={ROOT}", "-c", "core.fsmonitor=false", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _prepare_python(folder: Path) -> None:
    """Gives a commit's files an environment of their own: this one's packages where both lock the same ones."""
    lock = folder / "uv.lock"
    if not lock.is_file() or lock.read_bytes() == (ROOT / "uv.lock").read_bytes():
        borrow_python(folder)
        return
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise LocalError("the base locks other packages, and uv isn't here to install them", "run it with `make`")
    command = [uv, "sync", "--quiet", "--frozen", "--no-default-groups", "--project", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(done.stderr.split())
        raise LocalError(f"the packages that the base locks can't be installed: {words}", "check the package index")


def borrow_python(folder: Path) -> None:
    """A virtual environment that finds this one's packages, but the program's own modules in `folder`."""
    home = folder / ".venv"
    venv.create(home, symlinks=True, with_pip=False)
    site_packages = next(home.glob("lib/python3*/site-packages"))
    ours = [entry for entry in sys.path if entry.endswith("site-packages")]
    # Lines of a .pth file come after one another on the path; the .pth files in the folders that it names don't count.
    paths = [str(folder), str(folder / "components"), *ours]
    (site_packages / "base.pth").write_text("\n".join(paths) + "\n")


def touched(reference: str) -> list[str]:
    """The stacks that differ between a commit and this working tree. Raises LocalError where git can't tell."""
    compared = git("diff", "--name-only", "--no-renames", reference, "--")
    fresh = git("ls-files", "--others", "--exclude-standard")
    if compared.returncode or fresh.returncode:
        words = " ".join((compared.stderr or fresh.stderr).split())
        raise LocalError(f"this checkout can't be compared with {reference!r}: {words}", "name a commit that git has")
    return stacks_of([*compared.stdout.splitlines(), *fresh.stdout.splitlines()], known_stacks())


SHARED = ("infra/", "components/", "Pulumi.yaml", "pyproject.toml", "uv.lock")
"""What every stack is made of."""


def stacks_of(files: list[str], known: list[str]) -> list[str]:
    """The stacks that a change of these files may change."""
    if any(file.startswith(SHARED) for file in files):
        return known
    return [stack for stack in known if f"stacks/Pulumi.{stack}.yaml" in files]


def planned(stack: str, base: Path | None = None) -> Plan:
    """As `preview`, or with a base `compare`, in a process with a state folder of its own that is gone afterwards.

    A state folder is chosen when a process starts. Progress goes to standard error. Exits as the
    process does where that has said what is wrong.
    """
    return Plan.from_json(alone("local", "preview", stack, "--here", *(("--base", str(base)) if base else ())))


def recorded(stack: str) -> dict[str, Any]:
    """As `record`, in such a process."""
    return alone("local", "preview", stack, "--here", "--record")


def alone(module: str, *arguments: str) -> Any:
    """What a module prints as JSON in a process with a state folder of its own. Exits as the process does."""
    with tempfile.TemporaryDirectory(prefix="llm-serving-") as folder:
        command = [sys.executable, "-m", module, *arguments]
        temporary = Path(folder, "t")  # plugins that are killed leave their sockets there; those take only short paths
        temporary.mkdir()
        variables = {**os.environ, "LLM_SERVING_STATE": folder, "TMPDIR": str(temporary)}
        done = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout)


def plans(reference: str, stacks: Sequence[str] | None = None) -> list[Plan]:
    """What this checkout would do to the environments that a commit describes: a plan for each stack that differs.

    `stacks` names others. A stack that can't be planned has a plan with problems. Raises LocalError where there is
    no such commit or stack, or a program is missing.
    """
    chosen = list(stacks or touched(reference))
    for stack in chosen:
        committed(stack)
    if not chosen:
        return []
    plugins.require_aws()
    toolchain.ensure(*PROGRAMS)
    with checkout(reference) as base:
        return [planned(stack, base) for stack in chosen]
