"""Starts the gateway: `python -m llm_gateway`."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from aiohttp import web
from http_service.drain import until_drained
from http_service.logs import configure_logging

from llm_gateway.app import application
from llm_gateway.config_watcher import ConfigWatcher
from llm_gateway.gateway import Gateway

_KEEPALIVE_SECONDS = 400
"""Longer than the 350 s after which a Network Load Balancer drops an idle connection: the gateway must not be the one
that closes a connection on which its caller is about to send."""
_CLOSE_SECONDS = 1
_BACKLOG = 1024
_HEADER_BYTES = 10_240
"""What API Gateway takes of all headers together: a token that got so far is not too long here."""


async def serve(gateway: Gateway, config: Path, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        application(gateway),
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_CLOSE_SECONDS,
        max_field_size=_HEADER_BYTES,
    )
    await runner.setup()
    watcher = ConfigWatcher(config, gateway.configure, gateway.metrics)
    watching = loop.create_task(watcher.run())
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        logging.getLogger("llm_gateway").info("listening", extra={"fields": {"host": host, "port": port}})
        await stop.wait()
        limits = gateway.limits
        await until_drained(
            gateway,
            quiet_seconds=limits.drain_quiet_seconds,
            deadline_seconds=limits.drain_deadline_seconds,
        )
    finally:
        watching.cancel()
        await runner.cleanup()
        await gateway.close()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="llm-gateway", description="One address for every model.")
    parser.add_argument("--config", type=Path, default=Path("/etc/llm-gateway/gateway.yaml"))
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all of the pod's)")  # noqa: S104
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args(arguments)
    configure_logging(options.log_level)
    asyncio.run(serve(Gateway(), options.config, options.host, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
