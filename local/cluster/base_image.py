"""The base of the images that are built here: a minimal Debian with Python, which trusts the local authority.

On AWS its place is taken by a pinned upstream image. debootstrap makes it from packages that the machine's Debian
mirror signs; it is kept by a key of everything that goes into it, so that it is made once per machine.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from local.cloud.authority import ca_certificate
from local.cluster import buildah
from local.paths import CACHE, ROOT

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "libgomp1", "python3-minimal", "python3-venv")
"""libgomp1 is what llama.cpp's threads need; python3-venv is what the images' Dockerfiles install with."""
USER_ID = 10001
CONTEXT = ROOT / "local" / "images" / "base"
_MIRROR = "http://deb.debian.org/debian"

_FINISH = f"""
set -eu
update-ca-certificates >/dev/null
groupadd --gid {USER_ID} app
useradd --uid {USER_ID} --gid {USER_ID} --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/* /var/cache/ldconfig /usr/share/doc /usr/share/man \
  /usr/share/info /usr/share/locale /usr/share/lintian /etc/machine-id /usr/lib/python3/dist-packages/*/__pycache__
find / -xdev -name __pycache__ -path '/usr/*' -prune -exec rm -rf {{}} +
"""


def key_parts() -> list[bytes]:
    """What decides what is in the base image: a new value of any makes a new one."""
    pins = f"{SUITE} {' '.join(PACKAGES)} {_FINISH}"
    return [pins.encode(), ca_certificate().read_bytes(), (CONTEXT / "Dockerfile").read_bytes()]


def build(tag: str, ignore: Path) -> None:
    """Makes the base image in our build storage. Takes about a minute, and 700 MB of disk while it does.

    Raises LocalError with debootstrap's last lines where it fails.
    """
    for left in CACHE.glob("base-*"):  # by a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=CACHE, ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "rootfs"
        _debootstrap(root)
        context = Path(folder) / "context"
        context.mkdir()
        shutil.copy(CONTEXT / "Dockerfile", context)
        buildah.run(
            ["tar", "--create", "--numeric-owner", "--exclude=./dev/*", "--directory", root, "--file",
             context / "rootfs.tar", "."],
            action="packing the base image",
        )  # fmt: skip
        buildah.build(context, tag, name="base", arguments={}, contexts={}, ignore=ignore)


def _debootstrap(root: Path) -> None:
    buildah.run(
        ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root, _mirror()],
        action="making the Debian base image",
        env={"DEBIAN_FRONTEND": "noninteractive"},
    )
    certificates = root / "usr" / "local" / "share" / "ca-certificates"
    shutil.copy(ca_certificate(), certificates / "llm-serving-local.crt")
    buildah.run(
        ["chroot", root, "/bin/sh", "-c", _FINISH],
        action="finishing the Debian base image",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )


def _mirror() -> str:
    """The mirror that this machine's apt uses for the suite, else Debian's own."""
    if shutil.which("apt-get") is None:
        return _MIRROR
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {SUITE}", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    mirrors = [line.rstrip("/") for line in listed.stdout.splitlines() if line.startswith("http")]
    return mirrors[0] if mirrors else _MIRROR
