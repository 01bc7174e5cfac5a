"""Who callers are, where they show tokens in place of API keys."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from infra.section import Section, problem_of
from llm_serving._identity import check_certificate_authority, check_issuer


class JwtSettings(Section):
    """Tokens of an OpenID Connect issuer: docs/identity.md."""

    issuer: Annotated[str, Field(examples=["https://login.example.com"])]
    """The issuer, to the letter as its tokens' claim `iss` has it."""
    audience: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, examples=[["llm"]])]
    """Audiences, one of which a token is for: its `aud`, or its `client_id` where it has no `aud`."""
    tenant_claim: Annotated[str, Field(min_length=1)] = "sub"
    """Claim by which callers are told apart: in the cache, in limits, in the log."""
    required_scopes: list[Annotated[str, Field(pattern=r"^[^\s\"]+$")]] = Field(default_factory=list[str])
    """Scopes that a token must have, all of them."""
    required_inside: bool = False
    """Whether callers inside the cluster and the VPC, who reach the gateway around the API, need a token, too."""

    certificate_authority: str | None = None
    """Certificates in PEM of the authorities that the issuer's own is from. Default: the public authorities."""

    def problems(self) -> Iterator[str]:
        """Check the issuer's address and its authority."""
        yield from problem_of(check_issuer, "issuer", self.issuer)
        if self.certificate_authority is not None:
            yield from problem_of(check_certificate_authority, "certificateAuthority", self.certificate_authority)
