"""The local certificate authority: what on AWS is a public one.

Images built here trust it, so that pods check the certificates of the stand-ins for AWS as they would on AWS.
"""

import datetime as dt
import fcntl
import ipaddress
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.paths import CACHE, state

CA_DAYS = 3650
LEAF_DAYS = 365
RENEW_DAYS = 30
"""A certificate with less time left than this is issued anew."""


def ca_certificate() -> Path:
    """The authority's certificate (PEM), made on first use; its key lies beside it, readable to its owner only."""
    folder = CACHE / "ca"
    certificate, key = folder / "ca.crt", folder / "ca.key"
    with _locked(folder):
        if not (certificate.exists() and key.exists()):
            _create_authority(certificate, key)
    return certificate


def issue(name: str, sans: list[str]) -> tuple[Path, Path]:
    """A server certificate and its key (PEM) for host names and IP addresses, kept in the state folder.

    The one from last time is returned while it fits. Its key is readable to its owner only.
    """
    authority = ca_certificate()
    folder = state("tls", name).parent
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    with _locked(folder):
        if not (certificate.exists() and key.exists() and _fits(certificate, sans, authority)):
            _issue(certificate, key, sans, authority)
    return certificate, key


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Lets one process at a time make keys in a folder."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _create_authority(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llm-serving local authority")])
    built = (
        _builder(CA_DAYS)
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    _write_key(key, private)
    _write(certificate, built.public_bytes(serialization.Encoding.PEM), 0o644)


def _issue(certificate: Path, key: Path, sans: Sequence[str], authority: Path) -> None:
    issuer = x509.load_pem_x509_certificate(authority.read_bytes())
    signer = serialization.load_pem_private_key(authority.with_suffix(".key").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    private = ec.generate_private_key(ec.SECP256R1())
    built = (
        _builder(LEAF_DAYS)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, sans[0][:64])]))
        .issuer_name(issuer.subject)
        .public_key(private.public_key())
        .add_extension(x509.SubjectAlternativeName([_general_name(san) for san in sans]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write_key(key, private)
    _write(certificate, built.public_bytes(serialization.Encoding.PEM), 0o644)


def _fits(certificate: Path, sans: Sequence[str], authority: Path) -> bool:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = found.not_valid_after_utc - dt.datetime.now(dt.UTC)
    if set(names) != {_general_name(san) for san in sans} or left < dt.timedelta(days=RENEW_DAYS):
        return False
    try:
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.read_bytes()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # clocks of nodes may be a little behind
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, encoded, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replaces a file whole, never readable to others in between."""
    temporary = path.with_suffix(path.suffix + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    temporary.replace(path)
