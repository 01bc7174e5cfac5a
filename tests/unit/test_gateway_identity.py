"""Tokens of an OpenID Connect issuer in place of keys: which count, whom they are of, what becomes of the others."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from llm_gateway import identity, issuer_keys
from llm_gateway.config import GatewayConfig
from llm_gateway.issuer_keys import usable

from local import certificates
from local.certificates import Pair
from tests.gateway_harness import (
    CHAT,
    QUESTION,
    Client,
    FakeModel,
    RedisServer,
    eventually,
    gateway_for,
    have_redis,
    serving,
    stored,
)

AUDIENCE = "llm"
MARK = {"x-llm-authentication": "TOKEN"}
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(name: str, key: Any, algorithm: str) -> dict[str, Any]:
    """A public key as an issuer lists it."""
    maker: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[algorithm[0]]
    maker = OKPAlgorithm if algorithm == "EdDSA" else maker
    return {**json.loads(maker.to_jwk(key.public_key())), "kid": name, "alg": algorithm, "use": "sig"}


class Issuer:
    """An OpenID Connect issuer on this machine."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[dict[str, Any]] = [
            public("rsa", RSA, "RS256"),
            public("ec", EC, "ES256"),
            public("ed", ED, "EdDSA"),
        ]
        self.document: dict[str, Any] = {}
        self.status = 200
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def discovery(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.document})

    async def key_set(self, _: web.Request) -> web.Response:
        self.reads += 1
        await self.answers.wait()
        return web.json_response({"keys": self.keys}, status=self.status)

    def token(self, key: Any = RSA, name: str = "rsa", algorithm: str = "RS256", **claims: Any) -> str:
        """A token that counts, but for what is given."""
        given = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 300, **claims}
        wanted = {claim: value for claim, value in given.items() if value is not None}
        return jwt.encode(wanted, key, algorithm=algorithm, headers={"kid": name})


@asynccontextmanager
async def issuing(tls: ssl.SSLContext | None = None) -> AsyncGenerator[Issuer]:
    """An issuer on this machine; with `tls`, at the name that its certificate is for."""
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", issuer.discovery)
    app.router.add_get("/keys", issuer.key_set)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    address = "http://127.0.0.1" if tls is None else "https://localhost"
    issuer.url = f"{address}:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()


def config_of(model: FakeModel, issuer: Issuer, **jwt_fields: Any) -> dict[str, Any]:
    return {
        "models": {"m": {"url": model.url}},
        "jwt": {"issuer": issuer.url, "audience": [AUDIENCE], **jwt_fields},
    }


@asynccontextmanager
async def gateway(**jwt_fields: Any) -> AsyncGenerator[tuple[Client, Issuer, FakeModel]]:
    async with (
        issuing() as issuer,
        serving(FakeModel()) as model,
        gateway_for(config_of(model, issuer, **jwt_fields)) as client,
    ):
        yield client, issuer, model


async def ask(client: Client, token: str | None, **headers: str) -> tuple[int, str]:
    """The status, and the error's code."""
    shown = {} if token is None else {"authorization": f"Bearer {token}"}
    status, _, body = await client.post(CHAT, QUESTION, {**MARK, **shown, **headers})
    answer: dict[str, dict[str, str]] = orjson.loads(body)
    return status, answer.get("error", {}).get("code", "")


@pytest.mark.parametrize(
    ("key", "name", "algorithm"), [(RSA, "rsa", "RS256"), (EC, "ec", "ES256"), (ED, "ed", "EdDSA")]
)
async def test_a_token_of_the_issuer_counts_and_goes_no_further(key: Any, name: str, algorithm: str) -> None:
    async with gateway() as (client, issuer, model):
        assert await ask(client, issuer.token(key, name, algorithm)) == (200, "")
    assert not {"authorization", *MARK} & model.headers[0].keys()


async def test_what_is_no_token_of_the_issuer_does_not_count() -> None:
    async with gateway() as (client, issuer, model):
        now = int(time.time())
        secret = RSA.public_key().public_numbers().n.to_bytes(256)
        unsigned = ".".join(
            base64.urlsafe_b64encode(orjson.dumps(part)).decode().rstrip("=")
            for part in (
                {"alg": "none", "kid": "rsa"},
                {"iss": issuer.url, "aud": AUDIENCE, "sub": "a", "exp": now + 9},
            )
        )
        nested = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 2500 + b"]" * 2500 + b"}").decode().rstrip("=")
        refused = {
            "no token": None,
            "nothing": "",
            "no JWT": "abc",
            "unsigned": unsigned + ".",
            "nested deeply": f"{nested}.e30.AAAA",
            "no text": f"\udcff.{unsigned}",
            "long": "a" * 8000,
            "a shared secret": issuer.token(secret, algorithm="HS256"),
            "another's key": issuer.token(OTHER),
            "another kind of key": issuer.token(EC, "rsa", "ES256"),
            "another key's name": issuer.token(RSA, "ec"),
            "an unknown key": issuer.token(OTHER, "other"),
            "another issuer": issuer.token(iss="https://other.example"),
            "another audience": issuer.token(aud="other"),
            "no audience": issuer.token(aud=None),
            "no end": issuer.token(exp=None),
            "no tenant": issuer.token(sub=None),
            "not yet": issuer.token(nbf=now + 120),
        }
        codes = {what: await ask(client, token) for what, token in refused.items()}
        assert await ask(client, issuer.token(exp=now - 60)) == (401, "token_expired")
        assert await ask(client, issuer.token(exp=now - 5)) == (200, "")  # within the leeway
        assert await ask(client, issuer.token(aud=["other", AUDIENCE])) == (200, "")
        assert await ask(client, issuer.token(aud=None, client_id=AUDIENCE)) == (200, "")
    expected = dict.fromkeys(refused, (401, "invalid_token")) | dict.fromkeys(
        ("no token", "nothing"), (401, "no_token")
    )
    assert codes == expected
    assert model.calls == 3


async def test_a_refusal_says_how_to_ask() -> None:
    async with gateway() as (client, issuer, _):
        status, headers, body = await client.post(CHAT, QUESTION, MARK)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert orjson.loads(body)["error"] == {
            "message": "Send a token of this API's issuer in the header 'Authorization: Bearer ...'.",
            "type": "authentication_error",
            "param": None,
            "code": "no_token",
        }
        wrong = {"authorization": f"Bearer {issuer.token(aud='other')}"}
        _, headers, _ = await client.post(CHAT, QUESTION, MARK | wrong)
        assert headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("given", [{"scope": "chat models"}, {"scp": ["models", "chat"]}])
async def test_scopes_that_are_asked_for(given: dict[str, Any]) -> None:
    async with gateway(required_scopes=["chat", "models"]) as (client, issuer, _):
        assert await ask(client, issuer.token(**given)) == (200, "")
        assert await ask(client, issuer.token(scope="models chats")) == (403, "insufficient_scope")
        assert await ask(client, issuer.token()) == (403, "insufficient_scope")


async def test_only_the_api_is_reached_with_tokens() -> None:
    async with gateway() as (client, issuer, _):
        token = {"authorization": f"Bearer {issuer.token()}"}
        hidden = ("/metrics", "/health/live", "/health/ready", "/other")
        for path, expected in (("/v1/models", 200), *((path, 404) for path in hidden)):
            async with client.session.get(client.url + path, headers=MARK | token) as response:
                assert response.status == expected, path
        async with client.session.get(client.url + "/v1/models", headers=MARK) as response:
            assert response.status == 401
        for path in ("/metrics", "/health/live", "/health/ready"):
            assert (await client.get(path))[0] == 200  # Prometheus and the kubelet come by another way
        assert (await client.post(CHAT, QUESTION))[0] == 200  # and so do callers with keys, while an API changes


async def test_inside_a_token_is_needed_where_that_is_asked_for() -> None:
    async with gateway(required_inside=True) as (client, issuer, model):
        status, _, body = await client.post(CHAT, QUESTION, {"x-api-key": "key"})
        assert (status, orjson.loads(body)["error"]["code"]) == (401, "no_token")
        shown = {"authorization": f"Bearer {issuer.token()}"}
        assert (await client.post(CHAT, QUESTION, shown))[0] == 200
        assert (await client.get("/v1/models"))[0] == 401
        assert (await client.get("/health/ready"))[0] == 200
    assert model.calls == 1


async def test_a_gateway_that_knows_no_issuer_yet_lets_nobody_in() -> None:
    async with (
        issuing() as issuer,
        serving(FakeModel()) as model,
        gateway_for({"models": {"m": {"url": model.url}}}) as client,
    ):
        assert await ask(client, issuer.token()) == (503, "issuer_unknown")
        client.gateway.configure(GatewayConfig.model_validate(config_of(model, issuer)))
        assert await ask(client, issuer.token()) == (200, "")
    assert model.calls == 1


async def test_an_issuer_that_is_down_is_asked_again_and_its_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(issuer_keys, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(issuer_keys, "_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(identity, "_KEPT_SECONDS", 0.0)
    async with issuing() as issuer, serving(FakeModel()) as model:
        issuer.status = 500
        async with gateway_for(config_of(model, issuer)) as client:
            assert await ask(client, issuer.token()) == (503, "issuer_unknown")
            issuer.status = 200
            await _until(client, issuer.token(), (200, ""))
            issuer.status = 500
            reads = issuer.reads
            await eventually(lambda: issuer.reads > reads + 2)
            assert await ask(client, issuer.token()) == (200, "")


async def _until(client: Client, token: str, expected: tuple[int, str]) -> None:
    async with asyncio.timeout(5):
        while await ask(client, token) != expected:  # noqa: ASYNC110 - only an answer tells
            await asyncio.sleep(0.02)


async def test_a_new_key_is_found_once_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "_LEAST_SECONDS", 0.0)
    async with gateway() as (client, issuer, _):
        assert await ask(client, issuer.token()) == (200, "")
        issuer.keys = [public("new", OTHER, "RS256")]
        assert await ask(client, issuer.token(OTHER, "new")) == (200, "")
        assert await ask(client, issuer.token(sub="other")) == (401, "invalid_token")


async def test_unknown_keys_do_not_have_the_issuer_asked_each_time() -> None:
    async with gateway() as (client, issuer, _):
        assert await ask(client, issuer.token()) == (200, "")
        for number in range(20):
            assert await ask(client, issuer.token(OTHER, f"other-{number}")) == (401, "invalid_token")
    assert issuer.reads == 1


async def test_an_issuer_with_an_authority_of_its_own_is_trusted_where_that_is_named(tmp_path: Path) -> None:
    authority, leaf = Pair.named(tmp_path, "authority"), Pair.named(tmp_path, "issuer")
    certificates.create_authority(authority, "test")
    certificates.ensure_leaf(leaf, authority, "localhost", sans=["localhost"], usages=[certificates.SERVER])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(leaf.certificate, leaf.key)
    named = {"certificate_authority": authority.certificate.read_text()}
    async with issuing(tls) as issuer, serving(FakeModel()) as model:
        async with gateway_for(config_of(model, issuer)) as client:
            assert await ask(client, issuer.token()) == (503, "issuer_unknown")
        async with gateway_for(config_of(model, issuer, **named)) as client:
            assert await ask(client, issuer.token()) == (200, "")


async def test_one_look_at_the_issuer_is_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "_LEAST_SECONDS", 0.2)
    async with gateway() as (client, issuer, _):
        assert await ask(client, issuer.token()) == (200, "")
        await asyncio.sleep(0.25)
        issuer.keys = [public("new", OTHER, "RS256")]
        issuer.answers.clear()
        waiting = [asyncio.create_task(ask(client, issuer.token(OTHER, "new")))]
        await eventually(lambda: issuer.reads == 2)
        waiting += [asyncio.create_task(ask(client, issuer.token(OTHER, "new", sub=f"{each}"))) for each in range(5)]
        await asyncio.sleep(0.05)
        issuer.answers.set()
        assert await asyncio.gather(*waiting) == [(200, "")] * 6
        await asyncio.sleep(0.05)
    assert issuer.reads == 2


@pytest.mark.parametrize("address", ["https://[bad/keys", "https://host:port/keys", "https://a b/keys"])
async def test_an_address_that_is_none_does_not_end_the_reading(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(issuer_keys, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(issuer_keys, "_WAIT_SECONDS", 0.2)
    async with issuing() as issuer, serving(FakeModel()) as model:
        issuer.document = {"jwks_uri": address}
        async with gateway_for(config_of(model, issuer)) as client:
            assert await ask(client, issuer.token()) == (503, "issuer_unknown")
            issuer.document = {}
            await _until(client, issuer.token(), (200, ""))


async def test_a_document_of_somebody_else_gives_no_keys() -> None:
    async with issuing() as issuer, serving(FakeModel()) as model:
        for document in ({"issuer": "https://other.example"}, {"jwks_uri": "http://10.0.0.1/keys"}, {"jwks_uri": 1}):
            issuer.document = document
            async with gateway_for(config_of(model, issuer)) as client:
                assert await ask(client, issuer.token()) == (503, "issuer_unknown")


def test_keys_that_nothing_may_be_checked_with_are_passed_over() -> None:
    good = public("rsa", RSA, "RS256")
    shared = {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"}
    sealing = {**good, "kid": "sealing", "use": "enc"}
    listed = [shared, sealing, {"kid": "odd", "kty": "odd"}, {**good, "kid": 1}, "text", None, good]
    assert usable({"keys": listed}).keys() == {"rsa"}
    assert usable({"keys": "none"}) == {}


async def test_a_token_is_checked_once_and_not_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_KEPT_SECONDS", 600.0)
    async with gateway(leeway_seconds=0) as (client, issuer, _):
        token = issuer.token(exp=int(time.time()) + 2)
        assert await ask(client, token) == (200, "")
        calls: list[int] = []

        def decode(*arguments: Any, original: Any = jwt.decode, **options: Any) -> Any:
            calls.append(1)
            return original(*arguments, **options)

        monkeypatch.setattr(identity.jwt, "decode", decode)
        assert await ask(client, token) == (200, "")
        assert not calls
        await _until(client, token, (401, "token_expired"))
        assert calls


@pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")
async def test_tenants_share_no_answer_and_no_limit(redis: RedisServer, tmp_path: Path) -> None:
    async with issuing() as issuer, serving(FakeModel()) as model:
        config = config_of(model, issuer, tenant_claim="org") | {
            "cache": {"enabled": True, "url_file": str(redis.url_file), "timeout_seconds": 1},
            "limits": {"requests_per_minute": 3},
        }
        async with gateway_for(config) as client:
            await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
            ann, bob = issuer.token(org="a", sub="ann"), issuer.token(org="a", sub="bob")
            other = issuer.token(org="b", sub="ann")
            found: list[tuple[int, str]] = []
            for token in (ann, bob, other, ann, bob, other):
                status, headers, _ = await client.post(CHAT, QUESTION, {**MARK, "authorization": f"Bearer {token}"})
                found.append((status, headers.get("x-cache", "")))
                await stored(client)
        # The third of tenant a is its last one in the minute.
        assert found == [(200, "miss"), (200, "hit"), (200, "miss"), (200, "hit"), (429, ""), (200, "hit")]
        kept = b" ".join(redis.dump())
    assert model.calls == 2
    assert b"ann" not in kept
    assert ann.encode() not in kept


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("issuer", "http://issuer.example", "must be https://HOST"),
        ("issuer", "https://issuer.example?x", "must be https://HOST"),
        ("audience", [], "at least 1 item"),
        ("tenant_claim", "", "at least 1 character"),
        ("leeway_seconds", 301, "less than or equal to 300"),
        ("secret", "x", "not permitted"),
    ],
)
def test_configurations_that_are_refused(field: str, value: Any, problem: str) -> None:
    given = {"issuer": "https://issuer.example", "audience": ["llm"], field: value}
    with pytest.raises(ValueError, match=problem):
        GatewayConfig.model_validate({"models": {"m": {"url": "http://m"}}, "jwt": given})
