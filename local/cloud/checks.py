"""Health checks of a target group: a TCP connection, or an HTTP request with an answer that counts as healthy."""

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A target group's health check; times in seconds."""

    protocol: str = "TCP"
    port: str = "traffic-port"
    path: str = "/"
    matcher: str = "200-399"
    interval: float = 30
    timeout: float = 10
    healthy_after: int = 5
    unhealthy_after: int = 2

    async def run(self, address: tuple[str, int]) -> str:
        """Checks one target; returns what is wrong with it, empty where nothing is."""
        host, port = address
        if self.port != "traffic-port":
            port = int(self.port)
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    return await self._ask(reader, writer, host) if self.protocol.startswith("HTTP") else ""
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except TimeoutError:
            return "Request timed out"
        except (OSError, EOFError, ValueError) as error:
            return f"Health checks failed: {error}"

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> str:
        head = f"GET {self.path or '/'} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ELB-HealthChecker/2.0\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        await writer.drain()
        code = int((await reader.readline()).split(b" ", 2)[1])
        return "" if matches(self.matcher, code) else f"Health checks failed with these codes: [{code}]"


def matches(matcher: str, code: int) -> bool:
    """Whether a status code is among a matcher's, as `200`, `200,204` or `200-399`."""
    for part in matcher.split(","):
        low, _, high = part.partition("-")
        if int(low) <= code <= int(high or low):
            return True
    return False
