"""Who asks, where API Gateway has asked for a token rather than for a key: tokens of an OpenID Connect issuer.

API Gateway marks such requests by a header that a caller can't take away. A gateway that doesn't know the issuer yet
refuses them.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import jwt
from http_service.errors import ApiError
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from llm_gateway import cache_policy
from llm_gateway.config import JwtConfig
from llm_gateway.issuer_keys import ALGORITHMS, IssuerKeys

AUTHENTICATION_HEADER = "x-llm-authentication"
_KEPT = 10_000
_KEPT_SECONDS = 60.0
"""For how long a token that was checked is not checked again: a key that an issuer withdraws counts no longer."""


def asks_for_token(headers: Mapping[str, str]) -> bool:
    """Whether the request came in where callers show tokens."""
    return headers.get(AUTHENTICATION_HEADER) is not None


class Identity:
    """Checks tokens of one issuer."""

    def __init__(self, config: JwtConfig, keys: IssuerKeys) -> None:
        self._config = config
        self._keys = keys
        self._checked: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    async def tenant(self, headers: Mapping[str, str]) -> str:
        """The hash of the claim that names the caller's tenant.

        Raises ApiError: 401 without a token that counts, 403 without a scope that it takes, 503 before there are keys.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _refusal("Send a token of this API's issuer in the header 'Authorization: Bearer ...'.", "no_token")
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        known = self._checked.get(digest)
        if known is not None and time.time() < known[1]:
            return known[0]
        claims = await self._claims(token)
        tenant = _tenant(self._config, claims)
        self._checked[digest] = tenant, min(time.time() + _KEPT_SECONDS, float(claims["exp"]))
        self._checked.move_to_end(digest)
        if len(self._checked) > _KEPT:
            self._checked.popitem(last=False)
        return tenant

    async def close(self) -> None:
        """Closes the connections to the issuer."""
        await self._keys.close()

    async def _claims(self, token: str) -> dict[str, Any]:
        config = self._config
        try:
            header = jwt.get_unverified_header(token)
            name = header.get("kid")
            key = await self._keys.key(name) if isinstance(name, str) else None
            if key is None:
                self._unknown_key()
            if key.algorithm_name not in ALGORITHMS or header.get("alg") != key.algorithm_name:
                raise _refusal("The token is not signed in the way of its key.")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                issuer=config.issuer,
                leeway=config.leeway_seconds,
                options={"require": ["exp", "iss"], "verify_aud": False},
            )
        except ExpiredSignatureError:
            raise _refusal("The token has expired.", "token_expired") from None
        except (PyJWTError, ValueError, UnicodeError):
            raise _refusal("The token is not one of this API's issuer.") from None
        if not _audiences(claims) & set(config.audience):
            raise _refusal("The token is for another audience.")
        lacking = sorted(set(config.required_scopes) - _scopes(claims))
        if lacking:
            raise ApiError(
                403,
                f"The token lacks a scope that this API takes: {', '.join(lacking)}.",
                kind="permission_error",
                code="insufficient_scope",
                headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'},
            )
        return claims

    def _unknown_key(self) -> NoReturn:
        if not self._keys.known:
            raise not_yet()
        raise _refusal("The token is signed with a key that its issuer doesn't have.")


def not_yet() -> ApiError:
    """What a request gets whose token can't be checked here yet."""
    return ApiError(
        503,
        "Tokens can't be checked at the moment.",
        kind="server_error",
        code="issuer_unknown",
        headers={"Retry-After": "5"},
    )


def _refusal(message: str, code: str = "invalid_token") -> ApiError:
    challenge = "Bearer" if code == "no_token" else 'Bearer error="invalid_token"'
    return ApiError(401, message, kind="authentication_error", code=code, headers={"WWW-Authenticate": challenge})


def _tenant(config: JwtConfig, claims: Mapping[str, Any]) -> str:
    value = claims.get(config.tenant_claim)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise _refusal(f"The token has no claim '{config.tenant_claim}', which names its tenant.")
    identity = f"jwt:{config.issuer}:{config.tenant_claim}:{value}"
    return cache_policy.tenant_of(identity.encode(errors="surrogatepass"))


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    """Whom a token is for. Where it doesn't say so, the client that it was given to, as in Cognito's access tokens."""
    return _texts(claims.get("aud", claims.get("client_id")))


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """What a token allows: `scope` as RFC 8693 has it, `scp` as Okta and Entra do."""
    found = claims.get("scope", claims.get("scp"))
    return set(found.split()) if isinstance(found, str) else _texts(found)


def _texts(value: object) -> set[str]:
    """A text, or those of a list of them."""
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return {each for each in values if isinstance(each, str)}
