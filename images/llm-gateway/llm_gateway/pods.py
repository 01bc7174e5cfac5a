"""The addresses of a model's pods: what the cluster's DNS says of its headless Service, looked up beside the requests.

A request takes what is known. Where that is older than a moment it has it looked up, for the requests that follow.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

_log = logging.getLogger("llm_gateway")

FRESH_SECONDS = 2.0
"""Less than the 5 s for which the cluster's DNS has its answers kept, which decides how soon a new pod is known."""
STALE_SECONDS = 30.0
"""For how long the pods are used that were known last, while DNS does not answer."""
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)


@dataclass(slots=True)
class _Known:
    pods: tuple[str, ...] = ()
    at: float = 0.0
    """When it was looked up last with an answer."""
    asked_at: float = 0.0
    looking: asyncio.Task[None] | None = None


class Pods:
    """The pods of any number of headless Services, by their base URL. To be used inside a running event loop."""

    def __init__(self, changed: Callable[[frozenset[str]], None] | None = None) -> None:
        """`changed` is told of all pods that are known whenever they have changed."""
        self._known: dict[str, _Known] = {}
        self._changed = changed

    def of(self, url: str) -> tuple[str, ...]:
        """Base URLs of the pods behind `url`; empty where none is known, and a request then takes the Service."""
        known = self._known.setdefault(url, _Known())
        now = time.monotonic()
        if known.looking is None and now - known.asked_at >= FRESH_SECONDS:
            known.asked_at = now
            known.looking = asyncio.get_running_loop().create_task(self._look(url, known))
        return known.pods if now - known.at < STALE_SECONDS else ()

    async def close(self) -> None:
        """Ends the look-ups."""
        tasks = [known.looking for known in self._known.values() if known.looking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, url: str, known: _Known) -> None:
        parts = urlsplit(url)
        port = parts.port or 80
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        except socket.gaierror as error:
            if error.errno not in _NO_SUCH_NAME:
                _log.warning("pods not found", extra={"fields": {"host": parts.hostname, "error": str(error)}})
                return
            found = []
        finally:
            known.looking = None
        addresses = {str(entry[4][0]) for entry in found}
        pods = tuple(sorted(f"http://{f'[{host}]' if ':' in host else host}:{port}" for host in addresses))
        known.at = time.monotonic()
        if pods != known.pods:
            known.pods = pods
            if self._changed:
                self._changed(frozenset(pod for each in self._known.values() for pod in each.pods))
