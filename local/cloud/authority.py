"""The local certificate authority: what on AWS is a public one.

Images built here trust it, so that pods check the certificates of the stand-ins for AWS as they would on AWS.
"""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from local.certificates import SERVER, Pair, create_authority, ensure_leaf
from local.paths import CACHE, state


def ca_certificate() -> Path:
    """The authority's certificate (PEM), made on first use; its key lies beside it, readable to its owner only."""
    return _authority().certificate


def issue(name: str, sans: list[str]) -> tuple[Path, Path]:
    """A server certificate and its key (PEM) for host names and IP addresses, kept in the state folder.

    The one from last time is returned while it fits. Its key is readable to its owner only.
    """
    authority = _authority()
    pair = Pair.named(state("tls", name).parent, name)
    with _locked(pair.key.parent):
        ensure_leaf(pair, authority, min(sans)[:64], sans=sans, usages=[SERVER])
    return pair.certificate, pair.key


def _authority() -> Pair:
    pair = Pair.named(CACHE / "ca", "ca")
    with _locked(pair.key.parent):
        if not pair.exists:
            create_authority(pair, "llm-serving local authority")
    return pair


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Lets one process at a time make keys in a folder."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
