"""What the gateway measures of its cache beside hits: the tokens that it saves, and when its certificate ends."""

from pathlib import Path

import pytest
from cryptography import x509

from local import certificates, ports
from local.certificates import Pair
from tests.gateway_harness import (
    CHAT,
    QUESTION,
    FakeModel,
    RedisServer,
    config_for,
    eventually,
    gateway_for,
    have_redis,
    serving,
    stored,
)

pytestmark = pytest.mark.skipif(not have_redis(), reason="no redis-server on PATH")


async def test_a_hit_counts_as_tokens_saved_and_not_as_tokens_generated(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    cache = {"enabled": True, "url_file": str(redis.url_file), "retry_seconds": 0.02, "timeout_seconds": 1}
    try:
        async with serving(FakeModel()) as model, gateway_for(config_for(model, cache=cache)) as client:
            await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
            for _ in range(3):
                await client.post(CHAT, QUESTION)
                await stored(client)
            saved = [
                client.metric("llm_gateway_cache_tokens_saved_total", model="m", kind=kind)
                for kind in ("prompt", "completion")
            ]
            generated = client.metric("llm_gateway_tokens_total", model="m", kind="completion")
            without_tls = client.metric("llm_gateway_cache_certificate_expiry_timestamp_seconds")
    finally:
        redis.stop()
    assert (saved, generated, without_tls) == ([24, 6], 3, 0)


async def test_the_end_of_the_certificate_that_the_cache_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, leaf = Pair.named(tmp_path, "authority"), Pair.named(tmp_path, "cache")
    certificates.create_authority(authority, "test")
    certificates.ensure_leaf(leaf, authority, "localhost", sans=["localhost"], usages=[certificates.SERVER])
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    port = ports.free()
    redis = RedisServer(tmp_path)
    files = {"cert": leaf.certificate, "key": leaf.key, "ca-cert": authority.certificate}
    named = [part for name, path in files.items() for part in (f"--tls-{name}-file", str(path))]
    redis.start("--tls-port", str(port), "--tls-auth-clients", "no", *named)
    redis.url_file.write_text(f"rediss://localhost:{port}")
    cache = {"enabled": True, "url_file": str(redis.url_file), "retry_seconds": 0.02, "timeout_seconds": 1}
    try:
        async with serving(FakeModel()) as model, gateway_for(config_for(model, cache=cache)) as client:
            await eventually(lambda: client.metric("llm_gateway_cache_available") == 1)
            expiry = client.metric("llm_gateway_cache_certificate_expiry_timestamp_seconds")
    finally:
        redis.stop()
    certificate = x509.load_pem_x509_certificate(leaf.certificate.read_bytes())
    assert expiry == certificate.not_valid_after_utc.timestamp()
