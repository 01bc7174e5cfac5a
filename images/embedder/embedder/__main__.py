"""Starts the embedder: `python -m embedder`."""

import argparse
import asyncio
import logging
import os
import signal
import sys

from aiohttp import web
from http_service.drain import until_drained
from http_service.logs import configure_logging

from embedder import config, driver, gpu
from embedder.app import application
from embedder.backend import Backend
from embedder.config import ConfigError, Settings
from embedder.model import ModelError, Tokenizer, read_shape
from embedder.onnx_backend import OnnxBackend
from embedder.service import Embedder
from embedder.torch_backend import TorchBackend

_log = logging.getLogger("embedder")
_KEEPALIVE_SECONDS = 75
"""Longer than the gateway keeps an idle connection: the embedder must not be the one that closes a connection on which
its caller is about to send."""
_CLOSE_SECONDS = 1
_BACKLOG = 1024


class StartError(Exception):
    """A reason not to start: one line that says what is wrong and what to do."""


def load(settings: Settings) -> tuple[Tokenizer, Backend]:
    """The tokenizer and the backend that the settings name; raises StartError or ModelError."""
    if settings.device == "cuda":
        verdict = driver.judge(gpu.read())
        if not verdict.fits:
            raise StartError(verdict.line)
        _log.info(verdict.line)
    folder = settings.model_dir
    tokenizer = Tokenizer(folder, read_shape(folder).max_tokens)
    if settings.backend == "onnx":
        return tokenizer, OnnxBackend(folder, settings.threads)
    try:
        return tokenizer, TorchBackend(folder, settings.device, settings.threads)
    except ImportError as error:
        raise StartError(f"the image has no {error.name}: use the CUDA image, or set EMBEDDER_BACKEND=onnx") from error


async def serve(settings: Settings, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    embedder = Embedder(settings, *load(settings))
    runner = web.AppRunner(
        application(embedder),
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_CLOSE_SECONDS,
    )
    await runner.setup()
    try:
        # No port is open before the backend has computed once, so a pod that answers is one that is ready.
        embedder.warm_up()
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        _log.info("listening", extra={"fields": {"host": host, "port": port, "dimensions": embedder.dimensions}})
        await stop.wait()
        await until_drained(
            embedder,
            quiet_seconds=settings.drain_quiet_seconds,
            deadline_seconds=settings.drain_deadline_seconds,
        )
    finally:
        await runner.cleanup()
        await embedder.close()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="embedder", description="Texts in, vectors out.")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all of the pod's)")  # noqa: S104
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args(arguments)
    configure_logging(options.log_level)
    try:
        asyncio.run(serve(config.load(os.environ), options.host, options.port))
    except (ConfigError, ModelError, StartError) as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
