"""Debian packages: installed where this machine lets us, named otherwise."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from local.console import console
from local.errors import LocalError
from local.toolchain.build import locked

NODE = ("runc", "containernetworking-plugins", "iptables", "nftables", "iproute2", "socat", "conntrack", "procps")
IMAGES = ("buildah", "debootstrap", "docker-registry")
CLOUD = ("redis-server",)

_POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a package may start its service."""
_REFUSAL = "#!/bin/sh\n# Left by an installation of llm-serving's packages that was killed: delete it.\nexit 101\n"


def ensure_packages(*names: str) -> None:
    """Installs those packages that are missing. Raises LocalError, naming all of them, where it can't."""
    missing = missing_packages(names)
    if not missing:
        return
    command = f"apt-get install {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise LocalError(f"these programs are missing: {', '.join(missing)}", "install your system's packages of them")
    if os.geteuid() != 0:
        raise LocalError(f"these packages are missing: {', '.join(missing)}", f"sudo {command}")
    with locked("Debian packages"), console.status(f"installing {', '.join(missing)}"), _no_services():
        _apt("update", "-q")
        _apt("install", "-q", "-y", "--no-install-recommends", *missing)
    console.print(f"[green]✓[/green] installed {', '.join(missing)}")


def missing_packages(names: tuple[str, ...]) -> list[str]:
    """Those packages that Debian doesn't know as installed; all of them on another system."""
    if shutil.which("dpkg-query") is None:
        return list(names)
    command = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names]
    words = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in words.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def _apt(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise LocalError(f"apt-get {arguments[0]} failed: {' '.join(words[-2:])}", "mend that and run it again")


@contextmanager
def _no_services() -> Generator[None]:
    """Keeps the packages from starting services of their own: we start what we need, where we need it."""
    if _POLICY.exists() and _POLICY.read_text() != _REFUSAL:
        yield  # the machine has a policy of its own
        return
    _POLICY.write_text(_REFUSAL)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
