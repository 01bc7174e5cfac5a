"""Whose tokens count, where callers show tokens. Pure, no Pulumi import: settings are checked with it too."""

import re
import ssl
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlsplit

_ISSUER = re.compile(
    r"https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[\w.~!$&'()*+,;=:@%/-]*)?", re.ASCII
)
_CERTIFICATES = re.compile(r"(\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----)+\s*", re.ASCII)
_NEAREST_CERTIFICATE = "nearest valid value: each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"


class JwtArgs(TypedDict):
    """Whose tokens count, where the API asks for tokens."""

    issuer: str
    """Of OpenID Connect, as the claim `iss` has it: https://..."""
    audience: Sequence[str]
    """One of them is in the claim `aud`; in `client_id` where a token has no `aud`."""
    tenant_claim: NotRequired[str]
    """Claim by which callers are told apart: in the cache, in limits, in the log. Default: sub."""
    required_scopes: NotRequired[Sequence[str]]
    """Scopes that a token must have, all of them. Default: none."""
    required_inside: NotRequired[bool]
    """Whether callers that reach the gateway around the API need a token, too. Default: false."""
    certificate_authority: NotRequired[str]
    """Certificates in PEM of the authorities that the issuer's own comes from. Default: the public ones."""


def check_issuer(field: str, issuer: str) -> None:
    """Check that an issuer of OpenID Connect is one by its address; raises ValueError otherwise."""
    if _is_issuer(issuer):
        return
    host, slash, path = re.split(r"[\s?#]", issuer.strip().rpartition("://")[2])[0].partition("/")
    nearest = f"https://{host.rpartition('@')[2]}{slash}{path}"
    raise ValueError(
        f"{field}: {issuer!r} is not https://HOST[:PORT][/PATH], as an issuer of OpenID Connect is;"
        f" nearest valid value: {nearest if _is_issuer(nearest) else 'https://login.example.com'}"
    )


def check_certificate_authority(field: str, text: str) -> None:
    """Check that a text is certificates of authorities in PEM, and nothing else; raises ValueError otherwise.

    The text is never repeated: what was pasted may have a key in it.
    """
    if not _CERTIFICATES.fullmatch(text):
        raise ValueError(f"{field}: is not certificates in PEM alone; {_NEAREST_CERTIFICATE}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError:
        raise ValueError(f"{field}: has a certificate that can't be read; {_NEAREST_CERTIFICATE}") from None
    stored = context.cert_store_stats()
    if stored["x509_ca"] < stored["x509"]:
        raise ValueError(
            f"{field}: has a certificate that is no authority's;"
            " nearest valid value: that of the authority which has signed it"
        )


def _is_issuer(issuer: str) -> bool:
    return _ISSUER.fullmatch(issuer) is not None and int(urlsplit(issuer).netloc.partition(":")[2] or 443) < 65_536


def values(given: JwtArgs | None) -> dict[str, Any]:
    """Return what the gateway is told; raises ValueError where no token would count."""
    if given is None:
        return {}
    check_issuer("jwt.issuer", given["issuer"])
    if not given["audience"]:
        raise ValueError("jwt.audience: is empty, so no token would count; nearest valid value: one client's id")
    authority = given.get("certificate_authority")
    if authority is not None:
        check_certificate_authority("jwt.certificate_authority", authority)
    return {
        "issuer": given["issuer"],
        "audience": list(given["audience"]),
        "tenant_claim": given.get("tenant_claim", "sub"),
        "required_scopes": list(given.get("required_scopes", ())),
        **({"required_inside": True} if given.get("required_inside") else {}),
        **({"certificate_authority": authority} if authority is not None else {}),
    }
