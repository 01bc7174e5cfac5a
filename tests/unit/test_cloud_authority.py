"""The local certificate authority: made once, trusted by TLS clients, keys readable to their owner only."""

import datetime as dt
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from local import certificates
from local.cloud import authority


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(*parts: str) -> Path:
        path = tmp_path.joinpath("state", *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    monkeypatch.setattr(authority, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(authority, "state", state)


def test_the_authority_is_made_once() -> None:
    certificate = authority.ca_certificate()
    before = certificate.read_bytes()
    assert authority.ca_certificate().read_bytes() == before
    key = certificate.with_name("ca.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    found = x509.load_pem_x509_certificate(before)
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_certificate_is_kept_while_it_fits() -> None:
    certificate, key = authority.issue("cache", ["127.0.0.1", "localhost"])
    before = certificate.read_bytes()
    assert authority.issue("cache", ["localhost", "127.0.0.1"])[0].read_bytes() == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert authority.issue("cache", ["10.89.0.1"])[0].read_bytes() != before


def test_a_certificate_of_another_authority_or_near_its_end_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = authority.issue("cache", ["localhost"])[0].read_bytes()
    for path in authority.ca_certificate().parent.glob("ca.*"):
        path.unlink()
    after = authority.issue("cache", ["localhost"])[0].read_bytes()
    assert after != before
    monkeypatch.setattr(certificates, "RENEW_DAYS", certificates.LEAF_DAYS + 1)
    assert authority.issue("cache", ["localhost"])[0].read_bytes() != after


def test_a_client_that_trusts_the_authority_connects() -> None:
    certificate, key = authority.issue("cache", ["127.0.0.1", "cache.local"])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw, _ = listener.accept()
            with serving.wrap_socket(raw, server_side=True) as connection:
                connection.sendall(b"ok")

        thread = threading.Thread(target=serve)
        thread.start()
        trusting = ssl.create_default_context(cafile=authority.ca_certificate())
        with (
            socket.create_connection(listener.getsockname()) as raw,
            trusting.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            assert connection.recv(2) == b"ok"
        thread.join()


def test_dates() -> None:
    certificate, _ = authority.issue("cache", ["localhost"])
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    left = found.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=364) < left <= dt.timedelta(days=365)
