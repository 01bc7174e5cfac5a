"""`python -m local_runtime.tensorrt_llm [serve] MODEL [OPTIONS]`: trtllm-serve. Loads the model, then serves.

On SIGTERM its web server closes the port and waits for what runs, without an end of its own: that is the pod's grace
period.
"""

import asyncio
import logging
import os
import socket
import sys

from aiohttp import web

from local_runtime import process
from local_runtime.engine import Engine
from local_runtime.generation import DEFAULT_CONTEXT_TOKENS
from local_runtime.llama import NoModelError
from local_runtime.tensorrt_llm import VERSION
from local_runtime.tensorrt_llm.arguments import Arguments, ConfigurationError, parse
from local_runtime.tensorrt_llm.server import Server, slots

FOREVER_SECONDS = 10**8
_log = logging.getLogger("TRT-LLM")


def main() -> int:
    """Runs the server; returns its exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s] [%(name)s] [%(levelname).1s] %(message)s",
        datefmt="%m/%d/%Y-%H:%M:%S",
        stream=sys.stdout,
    )
    try:
        return asyncio.run(_serve(parse(sys.argv[1:])))
    except (ConfigurationError, NoModelError) as error:
        _log.error("%s", error)
        return 1


async def _serve(arguments: Arguments) -> int:
    stop = process.stop_event()
    _log.info("TensorRT-LLM version: %s", VERSION)
    # Bound before the model loads, and not listening until it has.
    with _bound(arguments) as listener:
        engine, server = await _loaded(arguments)
        # Cancelled with their client: what nobody reads any more frees its slot.
        runner = web.AppRunner(
            server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=FOREVER_SECONDS
        )
        await runner.setup()
        await web.SockSite(runner, listener, backlog=2048).start()
        _log.info("Uvicorn running on http://%s:%d", arguments.host, arguments.port)
        await stop.wait()
        _log.info("Shutting down")
        await runner.cleanup()
        await engine.close()
    return 0


async def _loaded(arguments: Arguments) -> tuple[Engine, Server]:
    settings = arguments.engine
    kv_tokens = settings.kv_cache_config.max_tokens or max(DEFAULT_CONTEXT_TOKENS, settings.max_seq_len or 0)
    engine = await process.load_engine(
        settings.model, os.environ, slots=slots(settings), context_tokens=kv_tokens, log=_log
    )
    length = min(settings.max_seq_len or engine.trained_tokens or kv_tokens, kv_tokens)
    return engine, Server(arguments, engine, max_seq_len=length, kv_tokens=kv_tokens)


def _bound(arguments: Arguments) -> socket.socket:
    """The server's socket: of IPv4 only, as trtllm-serve's. Raises ConfigurationError where it can't be had."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((arguments.host, arguments.port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"RuntimeError: Failed to bind socket to {arguments.host}:{arguments.port}: {error}"
        ) from None
    return listener


if __name__ == "__main__":
    process.end(main())
