"""User pools of the emulated Cognito as issuers of tokens: what a checker of tokens reads of them, and from whom."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from hypercorn.config import Config
from jwt import PyJWK
from llm_gateway.issuer_keys import usable

from local.addresses import ISSUER_HOST, ISSUER_IP
from local.cloud import user_pools
from local.cluster import addons
from tests.cloud_harness import Cloud
from tests.user_pool_harness import SCOPE, UserPool


@pytest.fixture(scope="module")
def pool(cloud: Cloud) -> Iterator[UserPool]:
    made = UserPool(cloud.client("cognito-idp"))
    yield made
    made.delete()


def get(cloud: Cloud, url: str) -> httpx.Response:
    """Reads an address of the issuers as a pod does: it checks the certificate, of that name."""
    authority = Path(cloud.call("__import__('local.cloud.authority').cloud.authority.ca_certificate()"))
    path = url.removeprefix(f"https://{ISSUER_HOST}")
    assert path.startswith("/")
    with httpx.Client(verify=ssl.create_default_context(cafile=authority), trust_env=False) as http:
        return http.get(
            f"https://127.0.0.1:{cloud.port('issuer')}{path}",
            headers={"host": ISSUER_HOST},
            extensions={"sni_hostname": ISSUER_HOST},
        )


def keys(cloud: Cloud, pool: UserPool) -> dict[str, PyJWK]:
    """The keys of a pool, found as its tokens say."""
    document = get(cloud, f"{pool.url}/.well-known/openid-configuration").json()
    assert document["issuer"] == pool.url
    return usable(get(cloud, document["jwks_uri"]).json())


def checked(cloud: Cloud, pool: UserPool, token: str) -> dict[str, Any]:
    """A token's claims; raises KeyError where the pool has no such key."""
    key = keys(cloud, pool)[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key.key, algorithms=["RS256"], issuer=pool.url, options={"verify_aud": False})


def test_a_pools_tokens_are_checked_as_on_aws(cloud: Cloud, pool: UserPool) -> None:
    app = pool.app(seconds=900)
    access = checked(cloud, pool, pool.token("ann", app))
    assert (access["client_id"], access["scope"], access["exp"] - access["iat"]) == (app, SCOPE, 900)
    assert "aud" not in access
    identity = checked(cloud, pool, pool.token("ann", app, "IdToken"))
    assert (identity["aud"], identity["sub"]) == (app, access["sub"])
    assert "scope" not in identity
    assert checked(cloud, pool, pool.token("bob", app))["sub"] != access["sub"]


def test_keys_stay_and_change_where_they_are_taken_away(cloud: Cloud, pool: UserPool) -> None:
    app = pool.app()
    before, token = keys(cloud, pool).keys(), pool.token("ann", app)
    _again(cloud)
    assert keys(cloud, pool).keys() == before
    checked(cloud, pool, token)
    _again(cloud, without=pool.signing_key(cloud.state))
    checked(cloud, pool, pool.token("ann", app))  # the pool, its app client and its user are still there
    with pytest.raises(KeyError):
        checked(cloud, pool, token)


def _again(cloud: Cloud, *, without: Path | None = None) -> None:
    """Stops the cloud, and starts it without a file."""
    cloud.stop()
    if without is not None:
        without.unlink()
    cloud.start()


def test_pods_are_led_there_by_the_clusters_dns() -> None:
    (corefile,) = (each["data"]["Corefile"] for each in addons.manifests() if "Corefile" in each.get("data", {}))
    block = corefile.partition(f"{ISSUER_HOST}:5353 {{")[2].partition("reload")[0]
    assert block.split() == ["errors", "hosts", "{", ISSUER_IP, ISSUER_HOST, "}"]
    assert "$" not in corefile


def test_only_documents_of_pools_are_open(cloud: Cloud, pool: UserPool) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key=".well-known/jwks.json", Body=b"{}")
    for path in (
        "/models/.well-known/jwks.json",
        "/us-east-1_nobody00/.well-known/jwks.json",
        f"/{pool.id}",
        "/models",
    ):
        assert get(cloud, f"https://{ISSUER_HOST}{path}").status_code == 403, path
    assert httpx.post(f"{cloud.url}/{pool.id}/.well-known/jwks.json").status_code == 403


def test_a_cloud_goes_on_where_the_port_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    config = Config()
    config.bind = ["127.0.0.1:4566"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address: tuple[str, int] = taken.getsockname()
        user_pools.listen(config, address, Path("issuer.crt"), Path("issuer.key"))
    assert (config.bind, config.insecure_bind, config.ssl_enabled) == (["127.0.0.1:4566"], [], False)
    assert f"as 127.0.0.1:{address[1]} can't be had: Address already in use" in caplog.text
