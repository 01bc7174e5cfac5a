"""The gateway's configuration: what it accepts, what it says of the rest, how a change reaches a running gateway."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from llm_gateway.access_log import Record
from llm_gateway.attempts import Attempts
from llm_gateway.config import CacheConfig, ConfigError, GatewayConfig, ModelRoute, Version, load
from llm_gateway.config_watcher import ConfigWatcher
from llm_gateway.metrics import Metrics
from llm_gateway.upstream import Target

from tests.gateway_harness import CHAT, QUESTION, Client, FakeModel, config_for, gateway_for, serving


def write(path: Path, document: object) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_deployed_form_is_read(tmp_path: Path) -> None:
    text = """
models:
  smollm2-135m:
    url: http://smollm2-135m.llm-serving.svc.cluster.local:8080/
    timeout_seconds: 120
cache: {enabled: true, ttl_seconds: 3600, url_file: /var/run/secrets/cache/url}
"""
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    config = load(path)
    url = "http://smollm2-135m.llm-serving.svc.cluster.local:8080"
    assert config.models == {"smollm2-135m": ModelRoute(url=url, timeout_seconds=120)}
    assert config.cache == CacheConfig(enabled=True, ttl_seconds=3600, url_file=Path("/var/run/secrets/cache/url"))
    assert (config.upstream.attempts, config.server.drain_deadline_seconds) == (3, 130)


MODEL = {"url": "http://m:1"}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (None, "configuration: Input should be a valid dictionary or instance of GatewayConfig"),
        ({}, "models: Field required"),
        ({"models": {}}, "models: Dictionary should have at least 1 item after validation, not 0"),
        ({"models": {"m": {}}}, "models.m: has exactly one of url and versions"),
        ({"models": {"m": {"url": "m:8080"}}}, "models.m.url: must be http://HOST[:PORT] or https://HOST[:PORT]"),
        ({"models": {"m": {**MODEL, "timeout": 1}}}, "models.m.timeout: Extra inputs are not permitted"),
        (
            {"models": {"m": {**MODEL, "timeout_seconds": 0}}},
            "models.m.timeout_seconds: Input should be greater than 0",
        ),
        (
            {"models": {"m": MODEL}, "cache": {"semantic": {"embedder_model": "bge"}}},
            "cache.semantic: has no embedder_url for bge: the gateway itself has all-MiniLM-L6-v2",
        ),
        ({"models": {"m": MODEL}, "cache": {"enabled": True}}, "cache: url_file is required when the cache is enabled"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, document: object, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path / "gateway.yaml", document))
    assert str(caught.value) == problem


@pytest.mark.parametrize("content", [b"models: [", b"\xff"])
def test_what_is_not_yaml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"gateway\.yaml is not YAML: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def watcher(path: Path, client: Client) -> ConfigWatcher:
    return ConfigWatcher(path, client.gateway.configure, client.gateway.metrics)


def reloads(client: Client, result: str) -> float:
    return client.metric("llm_gateway_config_reloads_total", result=result)


async def test_a_changed_file_is_in_force_without_a_restart(tmp_path: Path) -> None:
    async with serving(FakeModel()) as first, serving(FakeModel()) as second, gateway_for(None) as client:
        path = write(tmp_path / "gateway.yaml", config_for(first))
        watching = watcher(path, client)
        watching.check()
        assert (await client.post(CHAT, QUESTION))[0] == 200
        write(path, {"models": {"m": {"url": second.url}, "n": {"url": first.url}}})
        watching.check()
        assert (await client.post(CHAT, QUESTION))[0] == 200
        assert (await client.post(CHAT, {**QUESTION, "model": "n"}))[0] == 200
    assert (first.calls, second.calls) == (2, 1)
    assert reloads(client, "applied") == 2


async def test_a_mounted_configmap_changes_by_its_link(tmp_path: Path) -> None:
    async with serving(FakeModel()) as model, gateway_for(None) as client:
        for number, name in enumerate(("old", "new")):
            folder = tmp_path / f"..{number}"
            folder.mkdir()
            write(folder / "gateway.yaml", {"models": {name: {"url": model.url}}})
        link = tmp_path / "..data"
        link.symlink_to("..0")
        (tmp_path / "gateway.yaml").symlink_to("..data/gateway.yaml")
        watching = watcher(tmp_path / "gateway.yaml", client)
        watching.check()
        (tmp_path / "..tmp").symlink_to("..1")
        (tmp_path / "..tmp").replace(link)
        watching.check()
        assert list(client.gateway.backend.config.models) == ["new"]


@pytest.mark.parametrize("broken", ["models: {}", "}{"])
async def test_a_bad_file_leaves_the_old_configuration_in_force(tmp_path: Path, broken: str) -> None:
    async with serving(FakeModel()) as model, gateway_for(None) as client:
        path = write(tmp_path / "gateway.yaml", config_for(model))
        watching = watcher(path, client)
        watching.check()
        path.write_text(broken)
        watching.check()
        watching.check()
        assert (await client.post(CHAT, QUESTION))[0] == 200
        assert reloads(client, "refused") == 1
        path.unlink()
        watching.check()
        watching.check()
        assert (await client.post(CHAT, QUESTION))[0] == 200
        assert reloads(client, "missing") == 1


async def test_a_request_in_flight_ends_under_the_configuration_it_began_with(tmp_path: Path) -> None:
    async with serving(FakeModel()) as model, gateway_for(config_for(model)) as client:
        upstream = client.gateway.backend.upstream
        changed = config_for(model, upstream={"attempts": 5}, cache={"enabled": True, "url_file": "/nonexistent"})
        client.gateway.configure(GatewayConfig.model_validate(changed))
        assert client.gateway.backend.upstream is not upstream
        attempts = Attempts(client.gateway.metrics, Record("1", "POST", CHAT, model="m", version="stable"), waits=False)
        target = Target(Version(name="stable", url=model.url, weight=100), CHAT)
        answer = await upstream.send(target, b"{}", {}, attempts)
        assert answer.status == 200
        upstream.release(answer)
        assert client.metric("llm_gateway_upstream_errors_total") == 0


def test_metrics_of_two_gateways_are_apart() -> None:
    first, second = Metrics(), Metrics()
    first.draining.set(1)
    values: list[Any] = [metrics.registry.get_sample_value("llm_gateway_draining") for metrics in (first, second)]
    assert values == [1, 0]
