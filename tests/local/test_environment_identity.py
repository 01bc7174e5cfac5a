"""Tokens in place of keys, in the running environment: its gateways' pods ask a user pool of the emulated Cognito.

The pool is at its name on AWS, by the cluster's DNS and HTTPS with a certificate that the image trusts.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from local import cloud
from local.addresses import BRIDGE, ISSUER_IP
from local.cluster import network
from local.paths import STATE
from tests.environment_harness import apply, committed_again, kill, kubectl, outputs, ready_pods, settle, wait
from tests.environment_load import MODEL, client
from tests.user_pool_harness import SCOPE, UserPool

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NAMESPACE = "llm-serving"
TO_KNOW_S = 240
"""For the kubelets to hand on a changed ConfigMap, and for the gateways to read it."""
BOTH = 8
"""Requests that show what both gateways do: each gets some."""
LEEWAY_S = 30
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Api:
    """The API, where callers show tokens of a pool."""

    def __init__(self, pool: UserPool) -> None:
        self.pool = pool
        self.app = pool.app()
        # On AWS no token ends so soon.
        self.ended = pool.token("ann", brief := pool.app(seconds=1))
        apply(
            {
                "apiGateway": {
                    "jwt": {"issuer": pool.url, "audience": [self.app, brief], "requiredScopes": [SCOPE]},
                    "usagePlans": None,
                }
            }
        )
        found = outputs()
        assert not found["apiKeys"]
        self._chat = f"{found['apiGatewayUrl'].rstrip('/')}/v1/chat/completions"
        wait("both gateways know the issuer", self._know_the_issuer, seconds=TO_KNOW_S)

    def _know_the_issuer(self) -> bool:
        # In rows of one kind: in turns, each gateway would always get the same one.
        assert 200 not in self.statuses(None)  # not even while one of them knows no issuer yet
        return self.statuses(self.token("ann")) == {200: BOTH}

    def token(self, user: str, kind: str = "AccessToken") -> str:
        return self.pool.token(user, self.app, kind)

    def ask(self, token: str | None, question: str = "", **fields: Any) -> httpx.Response:
        """Asks the model; without a question of its own, one that no cache has."""
        headers = {} if question else {"cache-control": "no-store"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        content = question or f"Say a word about {secrets.randbelow(10**9)}."
        messages = [{"role": "user", "content": content}]
        body = {"model": MODEL, "messages": messages, "max_tokens": 5, "temperature": 0, **fields}
        return httpx.post(self._chat, json=body, headers=headers, timeout=120, trust_env=False)

    def refused(self, token: str | None) -> tuple[int, str, str | None]:
        """The status, the error's code, and what the refusal says of how to ask."""
        answer = self.ask(token)
        return answer.status_code, _code(answer), answer.headers.get("x-amzn-remapped-www-authenticate")

    def statuses(self, token: str | None) -> Counter[int]:
        """What both gateways answer."""
        return Counter(self.ask(token).status_code for _ in range(BOTH))


def _code(answer: httpx.Response) -> str:
    return answer.json()["error"]["code"]


@pytest.fixture(scope="module")
def api(environment: str) -> Iterator[Api]:
    """The API with tokens; afterwards it takes keys again, and the committed stack answers."""
    settle()
    pool = UserPool(cloud.client("cognito-idp"))
    try:
        made = Api(pool)
        yield made
    finally:
        committed_again()
        pool.delete()
        client().wait(MODEL, seconds=TO_KNOW_S)


def signed_by_a_stranger(token: str, **header: str) -> str:
    """A token with the same claims and the same key's name, unless `header` has another, but another signature."""
    claims = jwt.decode(token, options={"verify_signature": False})
    name = jwt.get_unverified_header(token)["kid"]
    return jwt.encode(claims, STRANGER, algorithm="RS256", headers={"kid": name, **header})


def logs() -> dict[str, list[dict[str, Any]]]:
    """What each of the gateway's pods has logged."""
    return {
        pod: [json.loads(line) for line in kubectl("logs", "-n", NAMESPACE, pod).splitlines() if line.startswith("{")]
        for pod in ready_pods("llm-gateway")
    }


def test_a_token_of_the_issuer_gets_a_whole_answer(api: Api) -> None:
    token = api.token("ann")
    (choice,) = api.ask(token).json()["choices"]
    assert choice["message"]["content"]
    assert choice["finish_reason"]
    streamed = api.ask(token, stream=True)
    assert streamed.status_code == 200
    assert streamed.text.strip().endswith("data: [DONE]")


def test_what_is_no_token_of_the_issuer_is_refused(api: Api) -> None:
    token, ends = api.token("ann"), jwt.decode(api.ended, options={"verify_signature": False})["exp"]
    other = UserPool(cloud.client("cognito-idp"))
    try:
        refused = {
            "another key": signed_by_a_stranger(token),
            "an unknown key": signed_by_a_stranger(token, kid="nobody"),
            "another audience": api.pool.token("ann", api.pool.app()),
            "another pool": other.token("ann", other.app()),
        }
        found = {what: api.refused(given) for what, given in refused.items()}
    finally:
        other.delete()
    assert found == dict.fromkeys(refused, (401, "invalid_token", 'Bearer error="invalid_token"'))
    assert api.refused(None) == (401, "no_token", "Bearer")
    time.sleep(max(0.0, ends + LEEWAY_S + 1 - time.time()))
    assert api.refused(api.ended) == (401, "token_expired", 'Bearer error="invalid_token"')
    missing = api.refused(api.token("ann", "IdToken"))
    assert missing == (403, "insufficient_scope", 'Bearer error="insufficient_scope"')


def test_nobody_gets_what_was_cached_for_another_and_no_token_is_logged(api: Api) -> None:
    question = f"What is {secrets.randbelow(10**9)} plus one?"
    tokens = {user: api.token(user) for user in ("ann", "bob")}
    for token in tokens.values():
        first = api.ask(token, question)
        assert (first.status_code, first.headers["x-cache"]) == (200, "miss")
        wait("the answer is cached", lambda token=token: api.ask(token, question).headers["x-cache"] == "hit")
        again = api.ask(token, question)
        assert again.json()["choices"] == first.json()["choices"]
    ids = {user: api.ask(token).headers["x-request-id"] for user, token in tokens.items()}
    wait("both are logged", lambda: len(_tenants(ids)) == len(ids))
    tenants = _tenants(ids)
    assert tenants["ann"] != tenants["bob"]
    assert {len(tenant) for tenant in tenants.values()} == {32}
    text = json.dumps(logs())
    for token in tokens.values():
        assert not [part for part in token.split(".")[1:] if part in text]


def _tenants(ids: Mapping[str, str]) -> dict[str, str]:
    """Whom the gateways have taken each user for, by the ids of their requests."""
    lines = [line for pod in logs().values() for line in pod if line["message"] == "request"]
    return {user: line["tenant"] for user, number in ids.items() for line in lines if line["request_id"] == number}


def test_while_the_issuer_is_down_its_tokens_count(api: Api) -> None:
    known = api.token("ann")
    assert api.statuses(known) == {200: BOTH}
    stranger, before = signed_by_a_stranger(known, kid="nobody"), _unread()
    # The pods are cut off from it; this test, which signs users in, asks at another address.
    network.run("ip", "address", "del", f"{ISSUER_IP}/32", "dev", BRIDGE)
    try:

        def both_have_looked() -> bool:
            assert api.statuses(stranger) == {401: BOTH}  # a key that is not known has them look
            return all(count > before.get(pod, 0) for pod, count in _unread().items())

        wait("both gateways find it down", both_have_looked, seconds=120)
        assert api.statuses(known) == {200: BOTH}
        assert api.statuses(api.token("bob")) == {200: BOTH}
    finally:
        network.ensure()


def _unread() -> dict[str, int]:
    """How often each gateway has found that the issuer did not answer."""
    return {pod: sum(line["message"] == "issuer's keys not read" for line in lines) for pod, lines in logs().items()}


def test_a_new_key_of_the_issuer_is_found_and_the_old_one_counts_no_longer(api: Api) -> None:
    old = api.token("ann")
    assert api.statuses(old) == {200: BOTH}
    kill("cloud")
    kill("balancer")
    api.pool.signing_key(STATE).unlink()
    cloud.start(bridge=True)
    new = api.token("ann")
    assert jwt.get_unverified_header(new)["kid"] != jwt.get_unverified_header(old)["kid"]
    wait("both gateways have found the new key", lambda: api.statuses(new) == {200: BOTH}, seconds=120)
    wait("neither takes the old one", lambda: api.statuses(old) == {401: BOTH}, seconds=120)
    assert _code(api.ask(old)) == "invalid_token"
