import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local import certificates, paths
from local.cluster import kubeconfigs, pki


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pki, "STATE", tmp_path)
    monkeypatch.setattr(paths, "STATE", tmp_path)


def certificate(pair: pki.Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def test_authorities_sign_only_their_own() -> None:
    leaf = certificate(pki.issue("front-proxy-client", "front-proxy-client", signer="front-proxy-ca"))
    leaf.verify_directly_issued_by(certificate(pki.authority("front-proxy-ca")))
    with pytest.raises((ValueError, InvalidSignature)):
        leaf.verify_directly_issued_by(certificate(pki.authority("ca")))


def test_authority_may_sign_certificates_and_leaf_may_not() -> None:
    authority = certificate(pki.authority("ca"))
    leaf = certificate(pki.issue("admin", "kubernetes-admin"))
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_kubelet_certificate_says_who_it_is_and_serving_one_where() -> None:
    client = certificate(pki.issue("kubelet-a", "system:node:a", organizations=["system:nodes"]))
    assert [item.value for item in client.subject] == ["system:nodes", "system:node:a"]
    assert client.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    serving = certificate(pki.issue("kubelet-a-serving", "a", sans=["10.89.0.11", "a"], usages=[pki.SERVER]))
    names = serving.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.89.0.11"]
    assert names.get_values_for_type(x509.DNSName) == ["a"]
    usage = serving.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_keys_are_closed_to_others() -> None:
    pairs = [pki.authority("ca"), pki.issue("admin", "kubernetes-admin"), pki.service_account_key()]
    assert {stat.S_IMODE(pair.key.stat().st_mode) for pair in pairs} == {0o600}
    assert stat.S_IMODE(pki.folder().stat().st_mode) == 0o700


def test_certificate_is_kept_while_it_fits_and_made_anew_when_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pki.issue("apiserver", "kube-apiserver", sans=["10.89.0.1"]).certificate.read_bytes()
    assert pki.issue("apiserver", "kube-apiserver", sans=["10.89.0.1"]).certificate.read_bytes() == first
    second = pki.issue("apiserver", "kube-apiserver", sans=["10.89.0.1", "10.96.0.1"]).certificate.read_bytes()
    assert second != first
    monkeypatch.setattr(certificates, "RENEW_DAYS", certificates.LEAF_DAYS)
    renewed = pki.issue("apiserver", "kube-apiserver", sans=["10.89.0.1", "10.96.0.1"]).certificate.read_bytes()
    assert renewed != second


def test_certificate_of_a_replaced_authority_is_made_anew() -> None:
    pair = pki.issue("admin", "kubernetes-admin")
    first = pair.certificate.read_bytes()
    pki.authority("ca").certificate.unlink()
    assert pki.issue("admin", "kubernetes-admin").certificate.read_bytes() != first


def test_service_account_key_is_kept_and_its_halves_belong_together() -> None:
    pair = pki.service_account_key()
    before = pair.key.read_bytes()
    assert pki.service_account_key().key.read_bytes() == before
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    public = load_pem_private_key(before, password=None).public_key()
    assert public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) == pair.certificate.read_bytes()


def test_kubeconfig_is_whole_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfigs, "port", {"apiserver": 16443}.__getitem__)
    path = kubeconfigs.write(tmp_path / "config", "kubernetes-admin", pki.issue("admin", "kubernetes-admin"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = yaml.safe_load(path.read_text())
    assert document["clusters"][0]["cluster"]["server"] == "https://10.89.0.1:16443"
    assert set(document["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert document["current-context"] == document["contexts"][0]["name"]
