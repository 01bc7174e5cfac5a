"""A replica that spans nodes: its first process waits for the others, and none goes on without the rest.

The real one makes a torch.distributed process group at the first node's address, deals the model's layers to the nodes
and passes on what they compute. Here the first node computes alone. The others load nothing; they only join it, say
when they have their weights, and stay: who must be there, and until when, is as it is there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

_log = logging.getLogger("vllm")

DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 29501
DEFAULT_TIMEOUT_SECONDS = 600
"""How long nodes wait for each other: torch.distributed's default for NCCL."""
_RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class Nodes:
    """The nodes of a replica, and which of them this one is."""

    count: int = 1
    rank: int = 0
    address: str = DEFAULT_ADDRESS
    """Host name or IP address of the first node."""
    port: int = DEFAULT_PORT
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS


class NodesError(Exception):
    """Nodes that didn't come, or that have gone while the replica starts."""


class Leader:
    """The first node, while it is entered: listens for the others where there are any. To be made in the event loop."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._joined: dict[int, asyncio.StreamWriter] = {}
        self._loaded: set[int] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()
        self._leaving = False
        self.lost = asyncio.Event()
        """Set once a node that had joined has gone."""

    async def __aenter__(self) -> Self:
        if self._nodes.count > 1:
            self._server = await asyncio.start_server(self._member, None, self._nodes.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leaving = True
        for writer in self._joined.values():
            writer.close()
        if self._server is not None:
            self._server.close()

    async def all_joined(self) -> None:
        """Waits for every node. Raises NodesError where one doesn't come, or goes again."""
        await self._until(lambda: len(self._joined), "joined")
        for writer in self._joined.values():
            writer.write(b"load\n")

    async def all_loaded(self) -> None:
        """Waits until every node has its weights. Raises NodesError as `all_joined` does."""
        await self._until(lambda: len(self._loaded), "loaded")

    async def _until(self, count: Callable[[], int], what: str) -> None:
        others = self._nodes.count - 1
        try:
            async with asyncio.timeout(self._nodes.timeout_seconds), self._changed:
                await self._changed.wait_for(lambda: self.lost.is_set() or count() == others)
        except TimeoutError:
            seconds = self._nodes.timeout_seconds
            raise NodesError(f"{count()} of {others} nodes have {what} within {seconds:.0f} s") from None
        if self.lost.is_set():
            raise NodesError(f"a node has gone before all had {what}")

    async def _member(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rank = await _rank(reader)
        if rank is None or rank not in range(1, self._nodes.count) or rank in self._joined:
            _log.warning("Refused a connection that is no node of this replica, or one that is there already")
            writer.close()
            return
        _log.info("Node %d of %d has joined", rank, self._nodes.count)
        async with self._changed:
            self._joined[rank] = writer
            self._changed.notify_all()
        with suppress(ConnectionError):
            if await reader.readline():
                async with self._changed:
                    self._loaded.add(rank)
                    self._changed.notify_all()
                await reader.read()
        if not self._leaving:
            _log.error("Node %d has gone", rank)
            async with self._changed:
                self.lost.set()
                self._changed.notify_all()


async def _rank(reader: asyncio.StreamReader) -> int | None:
    """Which node says that it is there; None where nobody says a number."""
    try:
        return int(await reader.readline())
    except (ConnectionError, ValueError):
        return None


async def follow(nodes: Nodes, load: Callable[[], Awaitable[object]]) -> None:
    """Joins the first node, gets the weights when all are there, and returns once the first node has gone.

    Raises NodesError where it can't be reached in time, or goes before all were there, and what `load` raises.
    """
    _log.info("Joining the first node at %s:%d", nodes.address, nodes.port)
    reader, writer = await _connected(nodes)
    try:
        writer.write(f"{nodes.rank}\n".encode())
        with suppress(ConnectionError):
            if not await reader.readline():
                raise NodesError("the first node has gone before all had joined")
            await load()
            writer.write(b"loaded\n")
            _log.info("Node %d of %d is ready", nodes.rank, nodes.count)
            await reader.read()
        _log.error("The first node has gone, shutting down")
    finally:
        writer.close()


async def _connected(nodes: Nodes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first node, whose name need not be known yet."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + nodes.timeout_seconds
    while True:
        try:
            return await asyncio.open_connection(nodes.address, nodes.port)
        except OSError as error:
            if loop.time() > deadline:
                problem = f"the first node can't be reached at {nodes.address}:{nodes.port}: {error}"
                raise NodesError(problem) from None
        await asyncio.sleep(_RETRY_SECONDS)
