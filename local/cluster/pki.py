"""The cluster's certificates: three authorities that trust nothing of each other, and a certificate for each part.

One authority signs the cluster's own certificates. The front proxy has its own, so that no other client certificate can
claim to be the API server's proxy. etcd has its own, so that only the API server reads the data. All of it is in
`.state/cluster/pki`, readable by its owner only.
"""

import datetime
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.paths import STATE

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
RENEW_DAYS = 30
"""A certificate that ends within so many days is issued anew at the next start."""
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


def folder() -> Path:
    """The folder of the cluster's keys, made if it is missing, closed to other users."""
    path = STATE / "cluster" / "pki"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)


def authority(name: str) -> Pair:
    """One of the authorities, made at its first use: `ca`, `front-proxy-ca` or `etcd-ca`."""
    pair = Pair(folder() / f"{name}.crt", folder() / f"{name}.key")
    if pair.certificate.exists() and pair.key.exists():
        return pair
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"llm-serving-{name}")])
    certificate = (
        _builder(subject, subject, AUTHORITY_DAYS)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _save(pair, certificate, key)
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
    pair = Pair(folder() / f"{name}.crt", folder() / f"{name}.key")
    issuer = authority(signer)
    issuer_certificate = x509.load_pem_x509_certificate(issuer.certificate.read_bytes())
    subject = x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    names = [_general_name(san) for san in sans]
    if _fits(pair, issuer_certificate, subject, names):
        return pair
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(subject, issuer_certificate.subject, LEAF_DAYS)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_certificate.public_key()), False)  # type: ignore[arg-type]
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signing_key = serialization.load_pem_private_key(issuer.key.read_bytes(), password=None)
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
    _save(pair, builder.sign(signing_key, hashes.SHA256()), key)
    return pair


def service_account_key() -> Pair:
    """The key that signs service account tokens; the pair's `certificate` is its public key."""
    pair = Pair(folder() / "sa.pub", folder() / "sa.key")
    if not (pair.certificate.exists() and pair.key.exists()):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)  # RS256, as EKS signs
        write_private(pair.key, _pem(key))
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        write_private(pair.certificate, key.public_key().public_bytes(serialization.Encoding.PEM, public))
    return pair


def _builder(subject: x509.Name, issuer: x509.Name, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # a clock that is set back a little is no fault
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _fits(pair: Pair, issuer: x509.Certificate, subject: x509.Name, names: list[x509.GeneralName]) -> bool:
    if not (pair.certificate.exists() and pair.key.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    try:
        found = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        found = []
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return certificate.subject == subject and found == names and left > datetime.timedelta(days=RENEW_DAYS)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _save(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(pair.key, _pem(key))
    write_private(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
