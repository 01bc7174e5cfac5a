"""Runs buildah: image builds with a layer cache, in a storage of our own, that leave nothing behind when they end.

Nothing of the machine's own container storage is read or written. Builds need root, but no daemon.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

from local.errors import LocalError
from local.paths import CACHE

STORAGE = CACHE / "buildah"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NO_SPACE = "no space left on device"
_PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "timeout", "proxy", "retries", "no-index")
"""The settings of this machine's pip that say where packages come from; paths of this machine mean nothing inside."""


def contained(command: Sequence[str | Path]) -> list[str]:
    """The command, so that nothing of it outlives this process, however that ends: neither itself nor its mounts."""
    killed_with_parent = ["setpriv", "--pdeathsig", "KILL", "--"]
    private_mounts = ["unshare", "--mount", "--propagation", "private", "--"]
    return [*killed_with_parent, *private_mounts, *map(str, command)]


def run(command: Sequence[str | Path], *, action: str, env: Mapping[str, str] | None = None) -> str:
    """Runs a program to its end and returns what it wrote to its standard output.

    Raises LocalError that names `action`, with the last lines of what it wrote, where it fails or the disk is full.
    """
    with subprocess.Popen(
        contained(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(env or {})},
        start_new_session=True,  # Ctrl-C reaches this process, which then ends the whole group
    ) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            _end(process)
            raise
    if process.returncode != 0:
        raise _failure(action, output)
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a program and what it started: politely, then by force."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _failure(action: str, output: str) -> LocalError:
    if _NO_SPACE in output.lower():
        return LocalError(f"{action}: the disk of {CACHE} is full", "free some space and run the command again")
    return LocalError(f"{action} failed:\n{last_lines(output)}", "mend what the lines above name, then try again")


def last_lines(output: str, count: int = 12) -> str:
    """The failing step of a build and the last lines that it wrote; the steps before it are left out."""
    lines = [line for line in output.splitlines() if line.strip()]
    steps = [number for number, line in enumerate(lines) if re.match(r"(\[\d+/\d+] )?STEP \d+/\d+", line)]
    step = [lines[steps[-1]]] if steps and steps[-1] < len(lines) - count else []
    return "\n".join(step + lines[-count:])


def buildah(*arguments: str | Path, action: str) -> str:
    """Runs one buildah command on our storage; see `run`."""
    return run(["buildah", *_storage_options(), *arguments], action=action, env={"BUILDAH_ISOLATION": "chroot"})


def _storage_options() -> list[str]:
    options = ["--root", str(STORAGE / "storage"), "--runroot", str(STORAGE / "run")]
    return [*options, "--storage-driver", _storage_driver(options)]


def _storage_driver(options: Sequence[str]) -> str:
    """`overlay` where the file system of the cache can hold overlays, else `vfs`, which copies every layer in full."""
    chosen = STORAGE / "driver"
    if not chosen.exists():
        STORAGE.mkdir(parents=True, exist_ok=True)
        probe = subprocess.run(
            ["buildah", *options, "--storage-driver", "overlay", "info"], capture_output=True, check=False
        )
        chosen.write_text("overlay" if probe.returncode == 0 else "vfs")
    return chosen.read_text()


@contextmanager
def clean_storage() -> Generator[None]:
    """Removes working containers that an earlier run or this one left behind."""
    _remove_containers()
    try:
        yield
    finally:
        _remove_containers()


def _remove_containers() -> None:
    # Reading the index costs nothing; starting buildah to learn that there is nothing costs a tenth of a second.
    indexes = (STORAGE / "storage").glob("*-containers/containers.json")
    if any(index.read_text().strip() not in ("", "[]", "null") for index in indexes):
        buildah("rm", "--all", action="removing unfinished builds")


def build(
    context: Path,
    tag: str,
    *,
    name: str,
    arguments: Mapping[str, str],
    contexts: Mapping[str, Path],
    ignore: Path,
    target: str = "",
    file: str = "Dockerfile",
) -> None:
    """Builds a folder's Dockerfile, `file`, with this machine's certificates and package index, and keeps neither.

    `contexts` are folders that the Dockerfile may copy from by name, `target` is the stage to stop at. Raises
    LocalError with the failing step.
    """
    dockerfile = context / file
    # Only Docker's own format has health checks.
    image_format = "docker" if "HEALTHCHECK" in dockerfile.read_text() else "oci"
    with _package_index() as pip:
        buildah(
            "build",
            *("--layers", "--force-rm", "--network", "host", "--format", image_format),
            *("--ignorefile", ignore, "--file", dockerfile, "--tag", tag),
            *(["--target", target] if target else []),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            *(f"--build-context={key}={path}" for key, path in contexts.items()),
            *(["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"] if _CERTIFICATES.exists() else []),
            *("--volume", f"{pip}:/etc/pip.conf:ro"),
            context,
            action=f"building image {name}",
        )


@contextmanager
def _package_index() -> Generator[Path]:
    """A pip.conf with this machine's package index, which may hold credentials: readable to its owner, and removed."""
    with tempfile.NamedTemporaryFile("w", prefix="pip-", suffix=".conf") as file:
        file.write("[global]\n" + "".join(f"{key} = {value}\n" for key, value in pip_settings().items()))
        file.flush()
        yield Path(file.name)


def pip_settings() -> dict[str, str]:
    """Where pip of this machine gets packages from: its configuration files, then its environment."""
    parser = ConfigParser(interpolation=None)
    parser.read(["/etc/pip.conf", Path.home() / ".pip" / "pip.conf", Path.home() / ".config" / "pip" / "pip.conf"])
    found = dict(parser["global"]) if parser.has_section("global") else {}
    for option in _PIP_OPTIONS:
        variable = os.environ.get(f"PIP_{option.upper().replace('-', '_')}")
        if variable:
            found[option] = variable
    settings = {option: found[option] for option in _PIP_OPTIONS if option in found}
    return {**settings, "cert": str(_CERTIFICATES)} if _CERTIFICATES.exists() else settings


def push(tag: str, destination: str, *, name: str) -> str:
    """Pushes an image to a registry on this machine; returns the digest of its manifest there."""
    with tempfile.TemporaryDirectory(prefix="push-") as folder:
        digest = Path(folder) / "digest"
        buildah(
            *("push", "--quiet", "--tls-verify=false", "--digestfile", digest, tag, f"docker://{destination}"),
            action=f"pushing image {name}",
        )
        return digest.read_text().strip()


def exists(tag: str) -> bool:
    """Whether our storage has an image of this name."""
    command = ["buildah", *_storage_options(), "inspect", "--type", "image", tag]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def remove_images_except(tags: Sequence[str]) -> None:
    """Deletes every image that is not named, and layers that none of those uses."""
    listed = buildah("images", "--format", "{{.Name}}:{{.Tag}}", "--noheading", action="listing images").splitlines()
    old = [tag for tag in listed if tag not in tags and not tag.startswith("<none>")]
    if old:
        buildah("rmi", *old, action="removing old images")
    buildah("rmi", "--prune", action="removing unused layers")
