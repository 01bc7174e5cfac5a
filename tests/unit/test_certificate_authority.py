"""The authority that a stack file names for its issuer of tokens: what counts as one, and what becomes of the rest."""

import re
from pathlib import Path

import pytest

from llm_serving._identity import check_certificate_authority
from local import certificates
from local.certificates import Pair
from tests.unit.test_settings import changed, loaded, problems

FIELD = "llm-serving:apiGateway.jwt.certificateAuthority"
NEAREST = "nearest valid value: each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A server's certificate and its key."""
    folder = tmp_path_factory.mktemp("leaf")
    signer, leaf = Pair.named(folder, "authority"), Pair.named(folder, "server")
    certificates.create_authority(signer, "test")
    certificates.ensure_leaf(leaf, signer, "login.example", sans=["login.example"], usages=[certificates.SERVER])
    return leaf


def problem(text: str) -> str:
    """The one problem of a stack that names this as its issuer's authority."""
    settings = changed(
        "apiGateway.jwt", {"issuer": "https://login.example", "audience": ["llm"], "certificateAuthority": text}
    )
    settings["apiGateway"]["usagePlans"] = {}
    (found,) = problems(settings)
    return found


def test_one_authority_or_several(authority: str, tmp_path: Path) -> None:
    other = Pair.named(tmp_path, "other")
    certificates.create_authority(other, "another")
    for text in (authority, authority + other.certificate.read_text(), f"\n{authority}\n\n{authority}"):
        check_certificate_authority("field", text)
    given = {"issuer": "https://login.example", "audience": ["llm"], "certificateAuthority": authority}
    settings = changed("apiGateway.jwt", given)
    settings["apiGateway"]["usagePlans"] = {}
    jwt = loaded(settings).api_gateway.jwt
    assert jwt is not None
    assert jwt.certificate_authority == authority


@pytest.mark.parametrize("text", ["", "MIIB", "/etc/ssl/ca.pem", "-----BEGIN CERTIFICATE-----"])
def test_what_is_no_certificate(text: str) -> None:
    assert problem(text) == f"{FIELD}: is not certificates in PEM alone; {NEAREST}"


def test_a_certificate_that_is_damaged(authority: str) -> None:
    body = re.sub(r"(?m)^[A-Za-z0-9+/=]{64}$", "A" * 64, authority, count=1)
    assert body != authority
    assert problem(body) == f"{FIELD}: has a certificate that can't be read; {NEAREST}"


def test_the_servers_own_certificate_is_no_authority(authority: str, leaf: Pair) -> None:
    for text in (leaf.certificate.read_text(), authority + leaf.certificate.read_text()):
        assert problem(text) == (
            f"{FIELD}: has a certificate that is no authority's;"
            " nearest valid value: that of the authority which has signed it"
        )


def test_a_key_is_refused_and_not_repeated(authority: str, leaf: Pair) -> None:
    key = leaf.key.read_text()
    with pytest.raises(ValueError, match="is not certificates in PEM alone") as refused:
        check_certificate_authority("field", authority + key)
    assert key.splitlines()[1] not in str(refused.value)
