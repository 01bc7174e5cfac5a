"""The cluster's certificates: three authorities that trust nothing of each other, and a certificate for each part.

One authority signs the cluster's own certificates. The front proxy has its own, so that no other client certificate can
claim to be the API server's proxy. etcd has its own, so that only the API server reads the data. All of it is in
`.state/cluster/pki`, which is closed to other users.
"""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.certificates import CLIENT, SERVER, Pair, create_authority, ensure_leaf, pem, write
from local.paths import STATE

__all__ = ["CLIENT", "SERVER", "Pair", "authority", "folder", "issue", "service_account_key"]


def folder() -> Path:
    """The folder of the cluster's keys, made if it is missing, closed to other users."""
    path = STATE / "cluster" / "pki"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def authority(name: str) -> Pair:
    """One of the authorities, made at its first use: `ca`, `front-proxy-ca` or `etcd-ca`."""
    pair = Pair.named(folder(), name)
    if not pair.exists:
        create_authority(pair, f"llm-serving-{name}")
    return pair


def issue(
    name: str,
    common_name: str,
    *,
    signer: str = "ca",
    organizations: Iterable[str] = (),
    sans: Iterable[str] = (),
    usages: Iterable[x509.ObjectIdentifier] = (CLIENT,),
) -> Pair:
    """The certificate `name`: the one on disk while it fits and is valid, else a new one.

    `organizations` are the Kubernetes groups; `sans` are host names and IP addresses.
    """
    pair = Pair.named(folder(), name)
    ensure_leaf(pair, authority(signer), common_name, organizations=organizations, sans=sans, usages=usages)
    return pair


def service_account_key() -> Pair:
    """The key that signs service account tokens; the pair's `certificate` is its public key."""
    pair = Pair(folder() / "sa.pub", folder() / "sa.key")
    if not pair.exists:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)  # RS256, as EKS signs
        write(pair.key, pem(key))
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        write(pair.certificate, key.public_key().public_bytes(serialization.Encoding.PEM, public))
    return pair
