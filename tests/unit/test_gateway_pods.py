"""Which pod of a model a request gets, and what becomes of pods and services that fail."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from llm_gateway import pods
from llm_gateway.affinity import LEAST_CHARACTERS, PREFIX_CHARACTERS, prefix_key, ranked
from llm_gateway.breaker import Breakers
from llm_gateway.config import ConfigError, GatewayConfig, load
from llm_gateway.inference import Endpoint, Inference
from llm_gateway.retry_budget import RetryBudget

from local import ports
from tests.gateway_harness import CHAT, FakeModel, chat_answer, eventually, gateway_for

HOST = "m-pods.test"
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
SERVICE = "127.0.0.5"
PODS = [f"http://10.0.0.{number}:8080" for number in range(1, 6)]


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(content: Any, endpoint: Endpoint = Endpoint.CHAT) -> Inference:
    fields = {"messages": content} if endpoint is Endpoint.CHAT else {"prompt": content, "inputs": content}
    return Inference(endpoint, "m", "", b"", fields, stream=False)


def chat(system: str, user: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


LONG = "You answer questions about the handbook. " * 40


def test_requests_that_begin_alike_have_one_key() -> None:
    one, other = asked(chat(LONG, "What is new?")), asked(chat(LONG, "Who wrote it?"))
    assert len(LONG) > PREFIX_CHARACTERS
    assert prefix_key(one) == prefix_key(other) is not None
    assert prefix_key(asked(chat("Something else. " * 80, "What is new?"))) != prefix_key(one)


def test_the_role_of_a_message_is_part_of_what_it_begins_with() -> None:
    assert prefix_key(asked([{"role": "user", "content": LONG}])) != prefix_key(
        asked([{"role": "system", "content": LONG}])
    )


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETION, Endpoint.GENERATE, Endpoint.GENERATE_STREAM])
def test_prompts_have_keys_too(endpoint: Endpoint) -> None:
    assert prefix_key(asked(LONG + "a", endpoint)) == prefix_key(asked(LONG + "b", endpoint)) is not None
    assert prefix_key(asked("short", endpoint)) is None


@pytest.mark.parametrize(
    "request_",
    [
        asked(chat("", "x" * (LEAST_CHARACTERS // 2))),
        asked([{"role": "user", "content": None}]),
        asked([LONG, LONG], Endpoint.COMPLETION),
        asked(LONG, Endpoint.EMBEDDINGS),
    ],
)
def test_what_has_nothing_to_share_has_no_key(request_: Inference) -> None:
    assert prefix_key(request_) is None


def test_contents_in_parts_count() -> None:
    parts = [{"type": "text", "text": LONG}]
    assert prefix_key(asked([{"role": "user", "content": parts}])) is not None


def test_a_session_is_a_key_whatever_it_asks() -> None:
    assert prefix_key(asked(chat("", "a")), "s-1") == prefix_key(asked(chat(LONG, "b")), "s-1")
    assert prefix_key(asked(chat("", "a")), "s-1") != prefix_key(asked(chat("", "a")), "s-2")


def test_keys_spread_over_pods_and_move_only_where_a_pod_goes() -> None:
    keys = [str(number).encode() for number in range(4000)]
    before = {key: ranked(PODS, key, {})[0] for key in keys}
    counts = Counter(order[0] for order in before.values())
    assert len(counts) == 5
    assert all(680 <= count <= 920 for count in counts.values()), counts  # 800 each, 25.3 the deviation
    gone = PODS[2]
    for key in keys:
        order, own = ranked([pod for pod in PODS if pod != gone], key, {})
        assert own
        # Who had another pod keeps it; the others go to their second one.
        assert order[0] == next(pod for pod in before[key] if pod != gone)


def test_a_pod_that_has_its_share_is_passed_over() -> None:
    order, own = ranked(PODS, b"k", {})
    assert own
    # Of 8 and this one over five pods, 1.8 each: a quarter above that is 2.25, and so 3.
    loads = {order[0]: 3, order[1]: 2, order[2]: 3}
    again, own = ranked(PODS, b"k", loads)
    assert not own
    assert again == [order[1], order[3], order[4], order[0], order[2]]


def test_without_a_key_the_least_loaded_pod_is_first() -> None:
    loads = {PODS[0]: 2, PODS[1]: 1, PODS[2]: 0, PODS[3]: 5, PODS[4]: 3}
    assert ranked(PODS, None, loads)[0] == [PODS[2], PODS[1], PODS[0], PODS[4], PODS[3]]


def test_a_breaker_opens_for_longer_each_time_and_lets_one_request_decide() -> None:
    clock = Clock()
    breakers = Breakers(3, 1, 4, clock)
    assert [breakers.failed("a") for _ in range(3)] == [False, False, True]
    assert breakers.is_open("a")
    assert not breakers.is_open("b")
    assert not breakers.failed("a")  # it began before that
    clock.now += 1
    for seconds in (2, 4, 4):
        assert not breakers.is_open("a")
        breakers.begin("a")
        assert breakers.is_open("a")
        assert not breakers.failed("a")
        clock.now += seconds - 0.01
        assert breakers.is_open("a")
        clock.now += 0.01
    breakers.begin("a")
    breakers.succeeded("a")
    assert not breakers.is_open("a")
    assert [breakers.failed("a") for _ in range(3)] == [False, False, True]


def test_a_success_between_failures_keeps_a_breaker_closed() -> None:
    breakers = Breakers(2, 1, 4, Clock())
    assert not breakers.failed("a")
    breakers.succeeded("a")
    assert not breakers.failed("a")
    assert breakers.failed("a")


def test_a_pod_that_is_gone_is_forgotten() -> None:
    breakers = Breakers(1, 1, 4, Clock())
    for address in ("a", "b"):
        assert breakers.failed(address)
    breakers.forget_others(frozenset({"a"}))
    assert breakers.is_open("a")
    assert not breakers.is_open("b")


def test_retries_are_a_part_of_the_requests_and_a_few_with_time() -> None:
    clock = Clock()
    budget = RetryBudget(20, 2, clock, burst=3)
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    for _ in range(10):
        budget.requested()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    clock.now += 0.5
    assert [budget.take() for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [budget.take() for _ in range(4)] == [True, True, True, False]


class Cluster:
    """Pods of one model, each at an address of its own, and what DNS says of them."""

    def __init__(self) -> None:
        self.models = {address: FakeModel() for address in (*ADDRESSES, SERVICE)}
        self.known: list[str] = list(ADDRESSES)
        self.error: int = 0
        self.port = 0
        self.runners: dict[str, web.ServerRunner] = {}

    def lookup(self, original: Any) -> Any:
        def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host != HOST:
                return original(host, port, *args, **kwargs)
            if self.error or not self.known:
                raise socket.gaierror(self.error or socket.EAI_NONAME, "no answer")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.known]

        return getaddrinfo

    async def start(self) -> None:
        for address, model in self.models.items():
            runner = web.ServerRunner(web.Server(model, handler_cancellation=True), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, address, self.port).start()
            self.port = self.port or runner.addresses[0][1]
            self.runners[address] = runner

    async def stop(self, address: str) -> None:
        if runner := self.runners.pop(address, None):
            await runner.cleanup()

    def config(self, **upstream: Any) -> dict[str, Any]:
        url = f"http://{SERVICE}:{self.port}"
        route = {"url": url, "pods_url": f"http://{HOST}:{self.port}"}
        return {"models": {"m": route}, "upstream": {"backoff_seconds": 0.001, **upstream}}

    def calls(self) -> dict[str, int]:
        return {address: model.calls for address, model in self.models.items() if model.calls}


@asynccontextmanager
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Cluster]:
    made = Cluster()
    monkeypatch.setattr(socket, "getaddrinfo", made.lookup(socket.getaddrinfo))
    await made.start()
    try:
        yield made
    finally:
        for address in list(made.runners):
            await made.stop(address)


def question(system: str = LONG, user: str = "What is new?") -> dict[str, Any]:
    return {"model": "m", "messages": chat(system, user), "temperature": 0}


async def known(client: Any) -> None:
    """Waits until the gateway knows the pods; the requests before that take the Service."""
    await client.post(CHAT, question("", "hello"))
    directory = client.gateway.backend.upstream.pods
    url = client.gateway.backend.config.models["m"].pods_url
    await eventually(lambda: directory.of(url) != ())


async def test_requests_that_begin_alike_go_to_one_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(monkeypatch) as made, gateway_for(made.config()) as client:
        await known(client)
        for model in made.models.values():
            model.bodies.clear()
        for number in range(12):
            assert (await client.post(CHAT, question(user=f"Question {number}")))[0] == 200
        assert list(made.calls().values()) == [12]
        for number in range(30):
            assert (await client.post(CHAT, question(system=f"{number} " * 300)))[0] == 200
        assert len(made.calls()) == 3
        choices = {
            how: client.metric("llm_gateway_pod_choices_total", model="m", version="stable", result=how)
            for how in ("own", "spilled", "any", "service")
        }
    assert choices == {"own": 42, "spilled": 0, "any": 0, "service": 1}


async def test_many_at_once_that_begin_alike_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def handle(_: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.json_response(chat_answer())

    async with cluster(monkeypatch) as made, gateway_for(made.config()) as client:
        await known(client)
        for model in made.models.values():
            model.bodies.clear()
            model.handler = handle
        calls = [asyncio.create_task(client.post(CHAT, question())) for _ in range(12)]
        await eventually(lambda: sum(made.calls().values()) == 12)
        go_on.set()
        assert [status for status, _, _ in await asyncio.gather(*calls)] == [200] * 12
        # A quarter above 12 / 3 is 5.
        assert max(made.calls().values()) <= 5
        assert client.metric("llm_gateway_pod_choices_total", result="spilled") >= 6
        assert not client.gateway.backend.upstream.loads


async def test_a_pod_that_is_gone_costs_no_request_and_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(monkeypatch) as made, gateway_for(made.config()) as client:
        await known(client)
        for model in made.models.values():
            model.bodies.clear()
        assert (await client.post(CHAT, question()))[0] == 200
        (own,) = made.calls()
        await made.stop(own)
        for _ in range(10):
            assert (await client.post(CHAT, question()))[0] == 200
        assert made.models[own].calls == 1
        assert client.metric("llm_gateway_pod_ejections_total", model="m") == 1
        failures = client.metric("llm_gateway_upstream_errors_total", model="m")
    assert failures == 3  # then it is left out


async def test_new_pods_are_found_and_the_last_ones_used_while_dns_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "FRESH_SECONDS", 0.0)
    async with cluster(monkeypatch) as made, gateway_for(made.config()) as client:
        made.known = [ADDRESSES[1]]
        await known(client)
        directory = client.gateway.backend.upstream.pods
        url = made.config()["models"]["m"]["pods_url"]
        made.known = [ADDRESSES[2]]
        await client.post(CHAT, question())
        await eventually(lambda: directory.of(url) == (f"http://{ADDRESSES[2]}:{made.port}",))
        made.error = socket.EAI_AGAIN
        made.models[ADDRESSES[2]].bodies.clear()
        for _ in range(3):
            assert (await client.post(CHAT, question()))[0] == 200
        assert made.models[ADDRESSES[2]].calls == 3
        made.error = 0
        made.known = []
        await eventually(lambda: directory.of(url) == ())
        before = made.models[SERVICE].calls
        assert (await client.post(CHAT, question()))[0] == 200
        assert made.models[SERVICE].calls == before + 1


async def test_where_every_pod_fails_the_service_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(monkeypatch) as made:
        config = made.config(eject_seconds=30)
        async with gateway_for(config) as client:
            made.known = [ADDRESSES[1], ADDRESSES[2]]
            await known(client)
            await made.stop(ADDRESSES[1])
            await made.stop(ADDRESSES[2])
            for number in range(10):
                assert (await client.post(CHAT, question(user=str(number))))[0] == 200
            assert client.metric("llm_gateway_pod_ejections_total", model="m") == 2
            assert client.metric("llm_gateway_upstream_errors_total", model="m") == 6


async def test_a_pod_that_is_a_bad_gateway_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bad(_: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=502)

    async with cluster(monkeypatch) as made, gateway_for(made.config(eject_seconds=30)) as client:
        await known(client)
        for model in made.models.values():
            model.bodies.clear()
        assert (await client.post(CHAT, question()))[0] == 200
        (own,) = made.calls()
        made.models[own].handler = bad
        # One that has begun to answer is not asked again; after three the others get them.
        statuses = [(await client.post(CHAT, question(user=str(number))))[0] for number in range(6)]
        assert statuses == [502, 502, 502, 200, 200, 200]
        assert client.metric("llm_gateway_pod_ejections_total", model="m") == 1


async def test_waiting_for_a_first_pod_spends_no_retries() -> None:
    port = ports.free()
    route = {"url": f"http://127.0.0.1:{port}", "hold": True}
    upstream = {"backoff_seconds": 0.001, "retry_percent": 0, "retries_per_second": 0}
    async with gateway_for({"models": {"m": route}, "upstream": upstream}) as client:
        # More tries than the 100 retries that a service begins with.
        calls = [asyncio.create_task(client.post(CHAT, question(user=str(number)))) for number in range(60)]
        await eventually(lambda: client.metric("llm_gateway_model_requests_in_flight", model="m") == 60)
        await asyncio.sleep(0.6)
        model = FakeModel()
        runner = web.ServerRunner(web.Server(model), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        assert {status for status, _, _ in await asyncio.gather(*calls)} == {200}
        assert client.metric("llm_gateway_upstream_retries_refused_total", model="m") == 0
        await runner.cleanup()


async def test_a_service_that_answers_nobody_is_asked_once_in_a_while() -> None:
    port = ports.free()
    config = {"models": {"m": {"url": f"http://127.0.0.1:{port}"}}, "upstream": {"backoff_seconds": 0.001}}
    async with gateway_for(config) as client:
        for _ in range(5):
            assert (await client.post(CHAT, question()))[0] == 503
        assert client.metric("llm_gateway_upstream_errors_total", model="m", kind="connect") == 15
        status, headers, body = await client.post(CHAT, question())
        assert (status, headers["retry-after"]) == (503, "1")
        assert orjson.loads(body)["error"]["code"] == "model_unavailable"
        assert client.metric("llm_gateway_upstream_errors_total", model="m", kind="connect") == 15
        assert client.metric("llm_gateway_upstream_errors_total", model="m", kind="circuit_open") == 1
        model = FakeModel()
        runner = web.ServerRunner(web.Server(model), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.sleep(1.05)
        assert (await client.post(CHAT, question()))[0] == 200
        assert (await client.post(CHAT, question()))[0] == 200
        await runner.cleanup()
    assert model.calls == 2


async def test_retries_end_with_their_budget() -> None:
    async def busy(_: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=503)

    model = FakeModel(busy)
    runner = web.ServerRunner(web.Server(model), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    upstream = {"backoff_seconds": 0.0001, "retry_percent": 0, "retries_per_second": 0}
    async with gateway_for({"models": {"m": {"url": url}}, "upstream": upstream}) as client:
        for _ in range(60):
            assert (await client.post(CHAT, question()))[0] == 503
        refused = client.metric("llm_gateway_upstream_retries_refused_total", model="m", version="stable")
    await runner.cleanup()
    assert model.calls == 160  # each of the 60, and the 100 retries that a service begins with
    assert refused == 10


def test_pods_are_asked_without_tls() -> None:
    with pytest.raises(ValueError, match=r"must be http://HOST\[:PORT\]"):
        GatewayConfig.model_validate({"models": {"m": {"url": "https://m", "pods_url": "https://m-pods"}}})


def test_pods_of_a_model_with_versions_are_its_versions(tmp_path: Any) -> None:
    versions = [{"name": "stable", "url": "http://m", "weight": 100}]
    path = tmp_path / "gateway.yaml"
    path.write_bytes(orjson.dumps({"models": {"m": {"versions": versions, "pods_url": "http://m-pods"}}}))
    with pytest.raises(ConfigError, match="has pods_url, which each of its versions has instead"):
        load(path)
