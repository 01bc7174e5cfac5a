"""`python -m local_runtime.tgi [OPTIONS]`: the launcher. Loads the model, serves; on SIGTERM finishes what runs."""

import asyncio
import ipaddress
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from local_runtime import process
from local_runtime.llama import NoModelError
from local_runtime.lora import AdapterError
from local_runtime.tgi.arguments import Arguments, ArgumentValidationError, UsageError, parse
from local_runtime.tgi.options import OPTIONS
from local_runtime.tgi.router import Router
from local_runtime.tgi.server import application

_log = logging.getLogger("text_generation_router")


class _JsonFormatter(logging.Formatter):
    """The log lines of --json-output."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        return json.dumps(
            {
                "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
                "level": record.levelname,
                "message": message,
                "target": record.name,
            }
        )


def main() -> int:
    """Runs the launcher; returns its exit status."""
    if "--help" in sys.argv[1:]:
        print("Usage: text-generation-launcher [OPTIONS]\n\nOptions:")
        print("\n".join(f"      {option.usage}" for option in OPTIONS))
        return 0
    try:
        arguments = parse(sys.argv[1:], os.environ)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except ArgumentValidationError as error:
        print(error, file=sys.stderr)
        return 1
    _configure_log(arguments)
    try:
        return asyncio.run(_serve(arguments))
    except (NoModelError, AdapterError) as error:
        _log.error("%s", error)
        return 1


def _configure_log(arguments: Arguments) -> None:
    handler = logging.StreamHandler(sys.stdout)
    plain = logging.Formatter("%(asctime)s  %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    handler.setFormatter(_JsonFormatter() if arguments.json_output else plain)
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "info").upper(), handlers=[handler])


async def _serve(arguments: Arguments) -> int:
    stop = process.stop_event()
    engine = await process.load_engine(
        arguments.model_id,
        os.environ,
        slots=arguments.max_batch_size,
        context_tokens=arguments.max_batch_total_tokens,
        log=_log,
        adapters={name: Path(folder) for name, folder in arguments.adapters.items()},
    )
    # Cancelled with their client: what nobody reads any more frees its slot.
    runner = web.AppRunner(
        application(Router(arguments, engine)),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=arguments.graceful_termination_timeout,
    )
    await runner.setup()
    await web.TCPSite(runner, _address(arguments.hostname), arguments.port, backlog=1024).start()
    _log.info("Connected on port %d", arguments.port)
    await stop.wait()
    _log.info("signal received, starting graceful shutdown")
    # Closes the port and idle connections, and waits for the requests that run.
    await runner.cleanup()
    await engine.close()
    return 0


def _address(hostname: str) -> str:
    try:
        return str(ipaddress.ip_address(hostname))
    except ValueError:
        # In a pod HOSTNAME is the pod's name unless --hostname is given.
        _log.warning("Invalid hostname, defaulting to 0.0.0.0")
        return "0.0.0.0"  # noqa: S104  a pod's own network namespace


if __name__ == "__main__":
    process.end(main())
