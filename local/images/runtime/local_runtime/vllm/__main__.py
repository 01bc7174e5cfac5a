"""`python -m local_runtime.vllm serve [MODEL] [OPTIONS]`: loads the model, then serves; stops as vLLM does."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from local_runtime import lora, process
from local_runtime.engine import Engine
from local_runtime.generation import DEFAULT_CONTEXT_TOKENS, Generation
from local_runtime.llama import NoModelError, find_model
from local_runtime.vllm import VERSION, environment, storage
from local_runtime.vllm.arguments import Arguments, ConfigurationError, parse
from local_runtime.vllm.nodes import Leader, NodesError, follow
from local_runtime.vllm.server import Server

_log = logging.getLogger("vllm")


def main() -> int:
    """Runs the server; returns its exit status."""
    logging.basicConfig(
        level=os.environ.get("VLLM_LOGGING_LEVEL", "INFO").upper(),
        format="%(levelname)s %(asctime)s [%(name)s] %(message)s",
        datefmt="%m-%d %H:%M:%S",
        stream=sys.stderr,
    )
    words = sys.argv[1:]
    try:
        arguments = parse(words[1:] if words[:1] == ["serve"] else words)
        _check_environment(arguments)
        return asyncio.run(_follow(arguments) if arguments.headless else _lead(arguments))
    except (
        ConfigurationError,
        environment.EnvironmentRefusedError,
        NoModelError,
        storage.StorageError,
        lora.AdapterError,
        NodesError,
    ) as error:
        _log.error("%s", error)
        return 1


def _check_environment(arguments: Arguments) -> None:
    for name in environment.unknown(os.environ):
        if arguments.fail_on_unknown_environment:
            raise ConfigurationError(f"ValueError: Unknown vLLM environment variable detected: {name}")
        _log.warning("Unknown vLLM environment variable detected: %s", name)
    environment.check(os.environ)


def _check_ranks(adapters: Mapping[str, Path], most: int) -> None:
    """Raises ConfigurationError for an adapter of a rank above --max-lora-rank, AdapterError for a folder without."""
    for folder in adapters.values():
        if (found := lora.rank(folder)) > most:
            raise ConfigurationError(f"ValueError: LoRA rank {found} is greater than max_lora_rank {most}.")


async def _follow(arguments: Arguments) -> int:
    """Ends with the first node, or when it is told to."""
    stop = process.stop_event()
    _log.info("Launching vLLM (v%s) headless multiproc executor", VERSION)

    async def load() -> None:
        if os.environ.get("LOCAL_ENGINE") != "echo":
            find_model(await _weights(arguments.model))

    await _unless(stop, follow(arguments.nodes, load))
    return 0


async def _lead(arguments: Arguments) -> int:
    """Serves, with the other nodes of the replica where there are any."""
    stop = process.stop_event()
    _log.info("vLLM API server version %s, model %s", VERSION, arguments.model)
    async with Leader(arguments.nodes) as leader:
        await _unless(stop, leader.all_joined())
        return 0 if stop.is_set() else await _serve(arguments, leader, stop)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
    """Waits for the end of some work, or until it is time to stop. Raises what the work does."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
    else:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _weights(model: str) -> str:
    """The folder of a model's weights, which are got first where they are in S3."""
    if not storage.is_remote(model):
        return model
    _log.info("Detected Run:ai model config. Overriding `load_format` to 'runai_streamer'")
    return str(await asyncio.to_thread(storage.download, model, os.environ))


async def _serve(arguments: Arguments, leader: Leader, stop: asyncio.Event) -> int:
    model = arguments.model if os.environ.get("LOCAL_ENGINE") == "echo" else await _weights(arguments.model)
    kv_tokens = arguments.kv_tokens or max(DEFAULT_CONTEXT_TOKENS, arguments.max_model_len or 0)
    adapters = {name: Path(folder) for name, folder in arguments.adapters.items()}
    _check_ranks(adapters, arguments.max_lora_rank)
    engine = await process.load_engine(
        model, os.environ, slots=arguments.slots, context_tokens=kv_tokens, log=_log, adapters=adapters
    )
    await _unless(stop, leader.all_loaded())
    server = Server(arguments, engine, max_model_len=_length(arguments, engine, kv_tokens), kv_tokens=kv_tokens)
    # Cancelled with their client: what nobody reads any more frees its slot.
    runner = web.AppRunner(server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, arguments.host, arguments.port, backlog=2048).start()
    _log.info("Starting vLLM server on http://%s:%d", arguments.host or "0.0.0.0", arguments.port)  # noqa: S104
    failing = asyncio.create_task(_fail(leader, server.generation, stop))
    await stop.wait()
    await _stop(server.generation, arguments.shutdown_timeout)
    failing.cancel()
    await runner.cleanup()
    await engine.close()
    return int(leader.lost.is_set())


async def _fail(leader: Leader, generation: Generation, stop: asyncio.Event) -> None:
    """Ends everything once a node is gone: what it held is needed for every token."""
    await leader.lost.wait()
    _log.error("A node of the replica has gone, shutting down")
    generation.abort()
    stop.set()


def _length(arguments: Arguments, engine: Engine, kv_tokens: int) -> int:
    """The longest sequence. Raises ConfigurationError where the model or the KV cache doesn't allow it."""
    trained = engine.trained_tokens
    asked = arguments.max_model_len
    if asked is not None and trained is not None and asked > trained:
        problem = (
            f"User-specified max_model_len ({asked}) is greater than the derived max_model_len"
            f" (max_position_embeddings={trained} or model_max_length=None in model's config.json)."
        )
        if os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0") not in ("1", "true"):
            raise ConfigurationError(
                f"ValueError: {problem} To allow overriding this maximum, set the env var"
                " VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."
            )
        _log.warning("%s", problem)
    length = asked or min(trained or kv_tokens, kv_tokens)
    if length > kv_tokens:
        raise ConfigurationError(
            f"ValueError: the KV cache has {kv_tokens} tokens and one sequence of max_model_len ({length}) needs more."
            " Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
        )
    return length


async def _stop(generation: Generation, timeout_seconds: int) -> None:
    """Ends what runs, as --shutdown-timeout says: at once, or after so long; the port stays open until then."""
    mode = "drain" if timeout_seconds else "abort"
    _log.info("[shutdown] API server: stopping engine client mode=%s timeout=%ss", mode, timeout_seconds)
    generation.refuse()
    if timeout_seconds:
        await generation.drain(timeout_seconds)
    generation.abort()
    await generation.drain(1)
    _log.info("[shutdown] API server: engine client stopped")


if __name__ == "__main__":
    process.end(main())
