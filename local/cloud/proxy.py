"""A TCP listener that passes connections on to targets: bytes go through as they come, in both directions.

Each side's end of stream is passed on by itself (half-close), and a side that reads slowly slows the other down.
"""

import asyncio
from typing import cast

from local.cloud.targets import Target, TargetGroup

CONNECT_SECONDS = 3.0
"""How long a target has to accept a connection before the next one is tried."""


class Listener:
    """One port that spreads its connections over the target group that `group` names."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.group: TargetGroup | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Transport] = set()

    @classmethod
    async def open(cls, host: str, port: int) -> "Listener":
        """Listens; raises OSError where the port is taken."""
        listener = cls(port)
        loop = asyncio.get_running_loop()
        listener._server = await loop.create_server(lambda: _Client(listener), host, port, backlog=512)
        return listener

    async def close(self) -> None:
        """Stops listening and ends every connection."""
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.abort()

    def candidates(self) -> list[Target]:
        """The targets to try for a new connection, in order."""
        return [] if self.group is None else list(self.group.candidates())

    def joined(self, client: asyncio.Transport) -> None:
        """A client has connected."""
        self._clients.add(client)

    def left(self, client: asyncio.Transport) -> None:
        """A client's connection is over."""
        self._clients.discard(client)


class _Side(asyncio.Protocol):
    """One end of a proxied connection; `peer` is the transport of the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.write(data)

    def eof_received(self) -> bool:
        if self.peer is not None and self.peer.can_write_eof() and not self.peer.is_closing():
            self.peer.write_eof()
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            if exc is None:
                self.peer.close()
            else:
                self.peer.abort()

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and not self.peer.is_closing():
            self.peer.resume_reading()


class _Client(_Side):
    """The client's end: finds a target when it connects."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self._target: Target | None = None
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        client = cast("asyncio.Transport", transport)
        client.pause_reading()  # until there is somebody to pass it on to
        self._listener.joined(client)
        self._joining = asyncio.ensure_future(self._join(client))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._joining is not None:
            self._joining.cancel()
        if self.transport is not None:
            self._listener.left(self.transport)
            if self._target is not None:
                self._target.connections.discard(self.transport)

    async def _join(self, client: asyncio.Transport) -> None:
        """Connects to the first target that accepts; without any, ends the client's connection."""
        loop = asyncio.get_running_loop()
        for target in self._listener.candidates():
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    transport, side = await loop.create_connection(_Side, *target.address)
            except OSError:  # TimeoutError is one
                target.suspected.set()
                continue
            self._target, self.peer, side.peer = target, transport, client
            target.connections.add(client)
            client.resume_reading()
            return
        client.abort()
