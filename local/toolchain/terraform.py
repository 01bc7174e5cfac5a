"""Finds the Terraform AWS provider binary that a Terraform plugin mirror on this machine already holds."""

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from local.errors import LocalError

VERSION = "5.100.0"
"""The version that the AWS bridge is tested with."""
ADDRESS = "registry.terraform.io/hashicorp/aws"
NAME = "terraform-provider-aws"
ADD_ON_SOFTWARE = Path("/opt")
"""Where the Filesystem Hierarchy Standard puts it."""


def aws_provider_binary() -> Path:
    """The binary: the one that TF_AWS_PROVIDER names, or that of a plugin mirror of this machine.

    Raises LocalError, with how to get one, where there is none.
    """
    if named := os.environ.get("TF_AWS_PROVIDER"):
        if not Path(named).is_file():
            raise LocalError(f"TF_AWS_PROVIDER names {named}, which isn't a file", f"name a {NAME} {VERSION} binary")
        return Path(named)
    for mirror in mirrors():
        for folder in _platform_folders(mirror):
            for binary in sorted(folder.glob(f"{NAME}*")):
                if binary.is_file() and os.access(binary, os.X_OK):
                    return binary
    raise LocalError(
        f"there is no AWS provider on this machine: neither Pulumi's plugin nor {NAME} {VERSION}",
        f"run `pulumi plugin install resource aws`, or `terraform providers mirror DIR` for hashicorp/aws {VERSION} "
        f"and set TF_AWS_PROVIDER to the binary in it",
    )


def mirrors() -> Iterable[Path]:
    """The folders that may hold a plugin mirror, in the order in which they are asked."""
    home = Path.home()
    yield from _configured(Path(os.environ.get("TF_CLI_CONFIG_FILE") or home / ".terraformrc"))
    yield home / ".terraform.d" / "plugins"
    for data in (os.environ.get("XDG_DATA_HOME") or str(home / ".local/share"), "/usr/local/share", "/usr/share"):
        yield Path(data) / "terraform" / "plugins"
    yield from sorted(path.parent for path in ADD_ON_SOFTWARE.glob("*/registry.terraform.io"))


def _configured(configuration: Path) -> Iterable[Path]:
    """The mirrors that the Terraform CLI's configuration names."""
    try:
        text = configuration.read_text()
    except OSError:
        return
    for block in re.findall(r"filesystem_mirror\s*\{(.*?)\}", text, re.DOTALL):
        for path in re.findall(r'path\s*=\s*"([^"]+)"', block):
            yield Path(path)


def _platform_folders(mirror: Path) -> Iterable[Path]:
    yield mirror / ADDRESS / VERSION / f"linux_{machine()}"


def machine() -> str:
    """This machine's processor in Go's words, as mirrors name it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
