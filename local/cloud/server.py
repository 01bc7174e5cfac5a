"""The emulated AWS: MiniStack with our handlers, saved as it changes.

python -m local.cloud.server --port 4566 --address 127.0.0.1 --state DIRECTORY --cache HOST:PORT
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import hypercorn.asyncio
from hypercorn.config import Config

from local.cloud import (
    cache,
    dataplane,
    emulator,
    gate,
    handlers,
    load_balancing,
    persistence,
    recording,
    retries,
    user_pools,
)
from local.cloud.dataplane import Application, Receive, Send

KEEP_ALIVE_SECONDS = 75.0
"""As AWS's own endpoints: longer than the clients keep idle connections."""


def build(saver: persistence.Saver, restored: asyncio.Event) -> Application:
    """The ASGI application; MiniStack must be configured by then. Sets `restored` once the saved state is back."""
    handlers.install()
    dataplane.install()
    emulator.watch(saver.changed)
    retries.install()
    recording.install()
    ministack: Application = emulator.application().app

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def started(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.complete":
                restored.set()
            await send(message)

        if scope["type"] == "lifespan":
            await ministack(scope, receive, started)
        elif scope["type"] != "http":
            await ministack(scope, receive, send)
        elif scope["path"] == load_balancing.PATH:
            await _exchange(scope, receive, send)
        elif scope["method"] == "GET" and (document := user_pools.document(scope["path"])) is not None:
            await _answer(send, 200, document)
        elif not gate.admits(scope):
            await _answer(send, 403, gate.REFUSAL, b"application/xml")
        elif dataplane.serves(scope["path"]):
            await dataplane.until_disconnect(ministack, scope, receive, send)
        else:
            await ministack(scope, receive, send)

    return app


async def _exchange(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answers the balancer, and who asks for it, and nobody but a process of this machine."""
    allowed = (scope.get("client") or ("",))[0] == "127.0.0.1"
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    answer = b""
    if allowed:
        found = load_balancing.exchange(json.loads(body)) if scope["method"] == "POST" else load_balancing.status()
        answer = json.dumps(found).encode()
    await _answer(send, 200 if allowed else 403, answer)


async def _answer(send: Send, status: int, body: bytes, media_type: bytes = b"application/json") -> None:
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def configuration(port: int, addresses: Sequence[str]) -> Config:
    """The server's settings, for plain HTTP."""
    config = Config()
    config.bind = [f"{address}:{port}" for address in addresses]
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.graceful_timeout = 2.0  # streams in flight
    config.loglevel = "WARNING"
    config.accesslog = None
    return config


async def serve(config: Config, state: Path, cache_at: tuple[str, int]) -> None:
    """Serves until SIGTERM or SIGINT, then saves and ends."""
    saver = persistence.Saver(state / "services")
    restored = asyncio.Event()
    app = build(saver, restored)
    persistence.restore_additions()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Neither may see the state before it's restored: an empty one would be saved, and Redis closed and emptied.
    followers = [_after(restored, saver.run()), _after(restored, cache.follow_groups(state, *cache_at))]
    tasks = [asyncio.ensure_future(follower) for follower in followers]
    try:
        serving: Any = hypercorn.asyncio
        await serving.serve(app, config, shutdown_trigger=stop.wait)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if restored.is_set():
            await saver.save()


async def _after(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Waits for an event, then does some work."""
    try:
        await event.wait()
    except asyncio.CancelledError:
        work.close()
        raise
    await work


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="local.cloud.server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", action="append", required=True, help="an address to listen on; repeatable")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--cache", required=True, help="HOST:PORT that replication groups report")
    parser.add_argument("--issuer", help="HOST:PORT where user pools are issuers, with the two files of a certificate")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    arguments = parser.parse_args()
    os.umask(0o077)  # the state has secrets in it
    arguments.state.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    damaged = persistence.damaged(arguments.state / "services")
    if damaged:
        raise SystemExit(f"the emulator's state is damaged: {damaged} is no JSON; make reset deletes the state")
    config = configuration(arguments.port, arguments.address)
    if arguments.issuer:
        user_pools.listen(config, _address(arguments.issuer), arguments.certificate, arguments.key)
    host, port = _address(arguments.cache)
    emulator.configure(port=arguments.port, state=arguments.state, cache_host=host, cache_port=port)
    asyncio.run(serve(config, arguments.state, (host, port)))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()
