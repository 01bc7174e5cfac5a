"""A front end's process: which engine it gets, and how it learns that it is to stop."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from local_runtime.engine import EchoEngine, Engine
from local_runtime.llama import LlamaEngine, find_model


def stop_event() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Made before anything loads: a pod may be told to stop while it still does.

    To be called in the event loop.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def load_engine(
    model: str,
    environment: Mapping[str, str],
    *,
    slots: int,
    context_tokens: int,
    log: logging.Logger,
    adapters: Mapping[str, Path] | None = None,
) -> Engine:
    """The engine of a model's folder; that of constant answers where LOCAL_ENGINE is `echo`, for load tests.

    `adapters` are folders of LoRA adapters by name. Raises NoModelError where the folder has no model that can be
    loaded, lora.AdapterError where one of an adapter has none.
    """
    if environment.get("LOCAL_ENGINE") == "echo":
        return EchoEngine(
            int(environment.get("LOCAL_ECHO_TOKENS", "16")),
            float(environment.get("LOCAL_ECHO_SECONDS_PER_TOKEN", "0")),
        )
    path = find_model(model)
    log.info("Loading %s", path)
    engine = await LlamaEngine.load(path, slots=slots, context_tokens=context_tokens, adapters=adapters)
    log.info("Model ready: %d slots, %d tokens", slots, context_tokens)
    return engine


def end(status: int) -> NoReturn:
    """Ends the process at once: llama.cpp's threads don't end by themselves, and nothing of them is worth the wait."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
