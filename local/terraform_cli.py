"""Runs the Terraform CLI on a generated program, with the AWS provider of this machine and no network."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.toolchain.terraform import ADDRESS, NAME, VERSION, aws_provider_binary, machine


def version() -> str | None:
    """The version of the `terraform` on PATH; None where there is none."""
    if shutil.which("terraform") is None:
        return None
    content: dict[str, Any] = json.loads(_run(Path.cwd(), {}, "version", "-json"))
    return str(content["terraform_version"])


def prepare(folder: Path, program: Mapping[str, Any]) -> None:
    """Writes a program into an empty folder and initialises it. Raises LocalError, in Terraform's words."""
    binary = aws_provider_binary()
    mirrored = folder / "mirror" / ADDRESS / VERSION / f"linux_{machine()}" / f"{NAME}_v{VERSION}"
    mirrored.parent.mkdir(parents=True)
    mirrored.symlink_to(binary)
    mirror = f"filesystem_mirror {{\n    path = {json.dumps(str(folder / 'mirror'))}\n  }}"
    (folder / "terraform.rc").write_text(f"provider_installation {{\n  {mirror}\n}}\n")
    (folder / "main.tf.json").write_text(json.dumps(program, indent=1))
    _run(folder, {}, "init", "-input=false", "-no-color")


def plan(folder: Path, environment: Mapping[str, str]) -> int:
    """Returns how many resources `terraform plan` would add. Raises LocalError, in Terraform's words."""
    lines = _run(folder, environment, "plan", "-input=false", "-json").splitlines()
    summary = next(each["changes"] for each in map(json.loads, lines) if each["type"] == "change_summary")
    return int(summary["add"])


def _run(folder: Path, environment: Mapping[str, str], *arguments: str) -> str:
    variables = {
        **os.environ,
        **environment,
        "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
        "TF_IN_AUTOMATION": "true",
        "CHECKPOINT_DISABLE": "true",
    }
    done = subprocess.run(
        ["terraform", *arguments], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"terraform {arguments[0]} failed: {_problems(done.stdout) or done.stderr.strip()}")
    return done.stdout


def _problems(output: str) -> str:
    """The errors in what Terraform prints for programs; all of it where it is for people."""
    try:
        said = [json.loads(line) for line in output.splitlines()]
    except ValueError:
        return output.strip()
    return "; ".join(each["@message"] for each in said if each.get("@level") == "error")
