"""Custom resource definitions, as the projects that own them publish them in their Go modules."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.paths import CACHE
from local.toolchain.build import locked

OWN = Path(__file__).parent / "manifests"
"""Definitions that no module carries: written here with the fields of the published ones."""


@dataclass(frozen=True)
class Source:
    """A Go module with definitions in it."""

    module: str
    version: str
    checksum: str
    """As in a go.sum file; another content is refused."""
    files: str
    """Which of its files, as a glob."""


LWS = Source(
    "sigs.k8s.io/lws",
    "v0.8.0",
    "h1:DdhJ8QabwTfWgbgaHH2gdf8twliioHaoSfmDXRYEVU0=",
    "config/crd/bases/leaderworkerset.x-k8s.io_*.yaml",
)
SOURCES = (
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "example/prometheus-operator-crd/*.yaml",
    ),
    Source(
        "github.com/kedacore/keda/v2",
        "v2.21.0",
        "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        "config/crd/bases/*.yaml",
    ),
    Source(
        "github.com/aws/karpenter-provider-aws",
        "v1.12.0",
        "h1:i85sVPjpZ0kfUCGZEbg5h1c5FF4M7UrdsQIKYwZHIJA=",
        "pkg/apis/crds/*.yaml",
    ),
    LWS,
)


def crds() -> dict[str, str]:
    """The definitions' YAML by file name. Raises LocalError where a module can't be had or isn't the pinned one."""
    found = {path.stem: path.read_text() for path in sorted(OWN.glob("*.yaml"))}
    for source in SOURCES:
        found |= {path.stem: path.read_text() for path in sorted(fetch(source).glob("*.yaml"))}
    return found


def fetch(source: Source) -> Path:
    """The folder in the cache with the definitions of one module."""
    name = source.module.replace("/", "-")
    target = CACHE / "crds" / f"{name}@{source.version}"
    if target.is_dir():
        return target
    with locked(f"crds-{name}"):
        if not target.is_dir():
            folder = download(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                draft = Path(scratch) / "definitions"
                draft.mkdir()
                for path in folder.glob(source.files):
                    (draft / path.name).write_bytes(path.read_bytes())
                draft.rename(target)
    return target


def download(source: Source) -> Path:
    """The folder of a whole module in Go's cache. Raises LocalError where it can't be had or isn't the pinned one."""
    command = ["go", "mod", "download", "-json", f"{source.module}@{source.version}"]
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    except OSError:
        raise LocalError("Go isn't installed, and definitions are fetched with it", "put Go on PATH") from None
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if "Dir" not in answer:
        words = " ".join((answer.get("Error") or done.stderr).split())
        raise LocalError(f"{source.module} {source.version} can't be had: {words}", "check GOPROXY and the network")
    if answer["Sum"] != source.checksum:
        raise LocalError(f"{source.module} {source.version} is not the pinned content", "don't use this proxy")
    return Path(answer["Dir"])
