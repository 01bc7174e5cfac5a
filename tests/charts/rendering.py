"""Renders our charts with the Helm that the Kubernetes provider has inside, for tests of the manifests."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from local.toolchain import program

CHARTS = Path(__file__).parents[2] / "components" / "llm_serving" / "charts"
DIGEST = "sha256:" + "0123456789abcdef" * 4
NAMESPACE = "llm-serving"

Objects = dict[str, dict[str, Any]]


class ChartError(Exception):
    """Helm refused the values; the message is its own."""


def _helm(folder: Path, values: dict[str, Any], *arguments: str) -> str:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [program("helm"), *arguments, "--namespace", NAMESPACE, "--values", file],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(folder)},
    )
    if done.returncode:
        raise ChartError(done.stdout + done.stderr)
    return done.stdout


def lint(folder: Path, chart: str, values: dict[str, Any]) -> None:
    """Fails where `helm lint --strict` finds anything wrong."""
    _helm(folder, values, "lint", "--strict", str(CHARTS / chart))


def documents(folder: Path, chart: str, release: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The chart's objects. Raises ChartError where the values are refused."""
    text = _helm(folder, values, "template", release, str(CHARTS / chart))
    return [document for document in yaml.safe_load_all(text) if document]


def render(folder: Path, chart: str, release: str, values: dict[str, Any]) -> Objects:
    """The chart's objects by kind; every kind occurs once. Raises ChartError where the values are refused."""
    objects = documents(folder, chart, release, values)
    by_kind = {item["kind"]: item for item in objects}
    assert len(by_kind) == len(objects)
    return by_kind
