"""A Pulumi program of its own on the real engine: with a state folder and plugins that nothing else uses."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local import paths, plugins
from local.plugins import installation

TIMEOUT_SECONDS = 600
"""For one operation of the engine."""


class ProgramStack:
    """The stack of one program."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """`folder` holds Pulumi.yaml; `environment` is what the CLI and its plugins see."""
        self.folder = folder
        self.environment = dict(environment)

    def run(self, *arguments: str) -> str:
        """Runs the Pulumi CLI in the program's folder; checks that it succeeds, and returns what it printed."""
        process = self.finished(*arguments)
        said = process.stdout + process.stderr
        assert process.returncode == 0, said
        assert "Traceback" not in said, said
        return process.stdout

    def finished(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs the Pulumi CLI in the program's folder, however it ends."""
        return subprocess.run(
            ["pulumi", "--non-interactive", "--color", "never", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )

    def up(self) -> str:
        """Creates or updates everything."""
        return self.run("up", "--yes", "--skip-preview")

    def destroy(self) -> None:
        """Deletes everything, and checks that nothing is left in the state."""
        self.run("destroy", "--yes", "--skip-preview")
        assert self.resources() == []

    def differences(self) -> set[tuple[str, str]]:
        """The type and property path of everything that a preview would change; the step where it has no path."""
        return {
            (step["urn"].split("::")[2].rpartition("$")[2], path)
            for step in json.loads(self.run("preview", "--json"))["steps"]
            if step["op"] != "same"
            for path in step.get("diffReasons") or [step["op"]]
        }

    def resources(self) -> list[dict[str, Any]]:
        """What the state holds."""
        return json.loads(self.run("stack", "export"))["deployment"].get("resources", [])

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets in plain."""
        return json.loads(self.run("stack", "output", "--json", "--show-secrets"))


def variables(state: Path, cloud: Mapping[str, str], *, yaml: bool = False) -> dict[str, str]:
    """What the Pulumi CLI needs in its environment: a state folder and plugins in `state`, and the way to a cloud.

    With `yaml` it runs programs in YAML too.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (paths, installation):
            patch.setattr(module, "STATE", state)
        own = plugins.install()
        if yaml:
            installation.install_yaml()
    return {**dict(_neutral()), **cloud, **own}


def _neutral() -> Iterator[tuple[str, str]]:
    """The tests' own environment without what would lead the CLI elsewhere."""
    return ((name, value) for name, value in os.environ.items() if not name.startswith(("PULUMI_", "AWS_")))
