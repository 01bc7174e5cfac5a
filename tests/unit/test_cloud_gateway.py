"""A request's way through the emulated API Gateway, VPC link and network load balancer to targets on this machine."""

import contextlib
import http.server
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from llm_serving.api_gateway import TOKEN_MARK
from tests.cloud_harness import Cloud, network

PIECES = 5
PAUSE = 0.15


class Backend(http.server.ThreadingHTTPServer):
    """A target: answers at once, in a stream, late, or not at all, as the path says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.cut_off = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/health":
            self.server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if self.path.startswith("/stream"):
            self._stream()
            return
        if self.path.startswith("/late"):
            time.sleep(1.5)
        status = 418 if self.path == "/teapot" else 200
        content = str(self.server.port).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-From", "backend")
        self.end_headers()
        self.wfile.write(content)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for index in range(PIECES if self.path == "/stream" else 100):
                piece = f"data: {index}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(PAUSE)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.cut_off.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@dataclass
class Front:
    """The API, and what is behind it."""

    cloud: Cloud
    url: str
    key: str
    group: str
    backends: list[Backend] = field(default_factory=list[Backend])

    def register(self, backend: Backend) -> None:
        self.elb.register_targets(**self.named(backend))
        wait_until(lambda: self.state(backend) == "healthy")

    def deregister(self, backend: Backend) -> None:
        self.elb.deregister_targets(**self.named(backend))

    def named(self, backend: Backend) -> dict[str, Any]:
        return {"TargetGroupArn": self.group, "Targets": [{"Id": "127.0.0.1", "Port": backend.port}]}

    @property
    def elb(self) -> Any:
        return self.cloud.client("elbv2")

    def state(self, backend: Backend) -> str:
        for found in self.elb.describe_target_health(TargetGroupArn=self.group)["TargetHealthDescriptions"]:
            if found["Target"]["Port"] == backend.port:
                return found["TargetHealth"]["State"]
        return "gone"

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"x-api-key": self.key}, timeout=10, **options)


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it didn't come about in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def front(cloud: Cloud) -> Generator[Front]:
    made = build(cloud)
    backends = [Backend(), Backend()]
    made.backends += backends
    for backend in backends:
        made.register(backend)
    yield made
    for backend in backends:
        with contextlib.suppress(OSError):
            backend.close()


def build(cloud: Cloud) -> Front:
    """API Gateway with a key, VPC link, load balancer and target group: what the stack makes."""
    elb, gateway = cloud.client("elbv2"), cloud.client("apigateway")
    balancer = elb.create_load_balancer(Name="gw", Type="network", Scheme="internal", Subnets=network(cloud))
    balancer = balancer["LoadBalancers"][0]
    group = elb.create_target_group(
        Name="pods", Protocol="TCP", Port=8080, TargetType="ip", HealthCheckProtocol="HTTP", HealthCheckPath="/health",
        HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2, UnhealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="TCP", Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )  # fmt: skip
    link = gateway.create_vpc_link(name="link", targetArns=[balancer["LoadBalancerArn"]])
    api = gateway.create_rest_api(name="llm")["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    proxy = gateway.create_resource(restApiId=api, parentId=root, pathPart="{proxy+}")["id"]
    where = {"restApiId": api, "resourceId": proxy, "httpMethod": "ANY"}
    gateway.put_method(
        **where, authorizationType="NONE", apiKeyRequired=True, requestParameters={"method.request.path.proxy": True}
    )
    gateway.put_integration(
        **where, type="HTTP_PROXY", integrationHttpMethod="ANY", uri=f"http://{balancer['DNSName']}/{{proxy}}",
        connectionType="VPC_LINK", connectionId=link["id"], timeoutInMillis=1000,
        requestParameters={
            "integration.request.path.proxy": "method.request.path.proxy",
            "integration.request.header.x-caller": "context.identity.apiKeyId",
            **TOKEN_MARK,
        },
    )  # fmt: skip
    gateway.create_deployment(restApiId=api, stageName="v1")
    key = gateway.create_api_key(name="team", enabled=True)
    plan = gateway.create_usage_plan(
        name="plan", apiStages=[{"apiId": api, "stage": "v1"}], throttle={"rateLimit": 1000, "burstLimit": 1000}
    )
    gateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    return Front(cloud, f"{cloud.url}/restapis/{api}/v1/_user_request_", key["value"], group)


@pytest.mark.parametrize("name", ["x-llm-authentication", "X-LLM-Authentication"])
def test_a_header_that_the_api_sets_takes_the_place_of_the_callers(front: Front, name: str) -> None:
    answer = httpx.get(f"{front.url}/v1/models", headers={"x-api-key": front.key, name: "none"}, timeout=10)
    backend = next(found for found in front.backends if str(found.port) == answer.text)
    assert backend.seen[-1][2]["x-llm-authentication"] == "TOKEN"


def test_a_request_reaches_a_target_as_it_was_sent(front: Front) -> None:
    answer = httpx.post(
        f"{front.url}/v1/chat/completions",
        params={"a": "1 2"},
        content=b'{"x": "\xc3\xa9"}',
        headers={"x-api-key": front.key, "content-type": "application/json", "authorization": "Bearer a.b.c"},
        timeout=10,
    )
    assert answer.status_code == 200
    assert answer.headers["x-from"] == "backend"
    assert "x-amzn-remapped-server" in answer.headers
    backend = next(found for found in front.backends if str(found.port) == answer.text)
    method, path, headers, body = backend.seen[-1]
    assert (method, path, body) == ("POST", "/v1/chat/completions?a=1%202", b'{"x": "\xc3\xa9"}')
    assert headers["authorization"] == "Bearer a.b.c"
    assert headers["host"].endswith(".elb.us-east-1.amazonaws.com")
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-caller"]


def test_requests_are_spread_over_the_targets(front: Front) -> None:
    with httpx.Client() as client:
        answers = {
            client.get(f"{front.url}/who", headers={"x-api-key": front.key, "connection": "close"}).text
            for _ in range(6)
        }
    assert answers <= {str(backend.port) for backend in front.backends}


def test_a_targets_status_is_passed_on(front: Front) -> None:
    assert front.get("/teapot").status_code == 418


def test_a_stream_comes_piece_by_piece(front: Front) -> None:
    times: list[float] = []
    with httpx.stream("GET", f"{front.url}/stream", headers={"x-api-key": front.key}, timeout=10) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        times += [time.monotonic() for line in answer.iter_lines() if line]
    assert len(times) == PIECES
    assert times[-1] - times[0] > PAUSE  # one that gathers a stream passes on all of it at once


def test_a_client_that_hangs_up_ends_the_targets_work(front: Front) -> None:
    for backend in front.backends:
        backend.cut_off.clear()
    with httpx.stream("GET", f"{front.url}/stream-long", headers={"x-api-key": front.key}, timeout=10) as answer:
        next(answer.iter_lines())
    wait_until(lambda: any(backend.cut_off.is_set() for backend in front.backends), 5)


def test_a_missing_or_wrong_key_is_forbidden(front: Front) -> None:
    assert httpx.get(f"{front.url}/who", timeout=5).status_code == 403
    assert httpx.get(f"{front.url}/who", headers={"x-api-key": "no"}, timeout=5).status_code == 403


def test_a_late_answer_is_a_gateway_timeout(front: Front) -> None:
    assert front.get("/late").status_code == 504  # later than the timeout, it would have been 200


def test_a_usage_plan_throttles(front: Front) -> None:
    gateway = front.cloud.client("apigateway")
    plan = gateway.get_usage_plans()["items"][0]
    api = plan["apiStages"][0]["apiId"]
    slow = gateway.create_usage_plan(
        name="slow", apiStages=[{"apiId": api, "stage": "v1"}], throttle={"rateLimit": 1, "burstLimit": 2}
    )
    key = gateway.create_api_key(name="slow", enabled=True)
    gateway.create_usage_plan_key(usagePlanId=slow["id"], keyId=key["id"], keyType="API_KEY")
    with httpx.Client(headers={"x-api-key": key["value"]}) as client:
        codes = [client.get(f"{front.url}/who").status_code for _ in range(4)]
    assert codes[0] == 200
    assert 429 in codes


def test_a_dead_target_is_passed_over_and_then_unhealthy(front: Front) -> None:
    dead = Backend()
    front.register(dead)
    dead.close()
    for _ in range(12):
        with httpx.Client() as client:
            assert client.get(f"{front.url}/who", headers={"x-api-key": front.key}).status_code == 200
    wait_until(lambda: front.state(dead) == "unhealthy")
    front.deregister(dead)
    wait_until(lambda: front.state(dead) == "gone")


def test_a_deregistered_target_ends_its_streams_in_peace(front: Front) -> None:
    pieces: list[str] = []
    with httpx.stream("GET", f"{front.url}/stream", headers={"x-api-key": front.key}, timeout=10) as answer:
        lines = answer.iter_lines()
        pieces.append(next(lines))
        for backend in front.backends:
            front.deregister(backend)
        pieces += [line for line in lines if line]
    assert len(pieces) == PIECES
    wait_until(lambda: front.get("/who").status_code == 500)
    for backend in front.backends:
        front.register(backend)
    assert front.get("/who").status_code == 200


def test_the_health_of_a_registration_that_ended_is_not_the_next_ones(front: Front) -> None:
    backend = front.backends[0]
    balancer = front.cloud.pid("balancer")
    os.kill(balancer, signal.SIGSTOP)  # what it last said stands
    try:
        assert front.state(backend) == "healthy"
        front.deregister(backend)
        front.elb.register_targets(**front.named(backend))
        assert front.state(backend) == "initial"
    finally:
        os.kill(balancer, signal.SIGCONT)
    wait_until(lambda: front.state(backend) == "healthy")


def test_the_data_plane_comes_back_after_a_kill(front: Front) -> None:
    front.cloud.saved()
    front.cloud.kill("cloud", "balancer")
    front.cloud.start()
    wait_until(lambda: front.get("/who").status_code == 200)


def test_nothing_listens_beyond_this_machine(front: Front) -> None:
    addresses = {
        socket.inet_ntoa(bytes.fromhex(line.split()[1].partition(":")[0])[::-1])
        for daemon in ("cloud", "cache", "balancer")
        for line in front.cloud.listening(daemon)
    }
    assert addresses == {"127.0.0.1"}
