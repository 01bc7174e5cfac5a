"""The data plane of the emulated network load balancers.

    python -m local.cloud.balancer --emulator 127.0.0.1:4566

Each TCP listener has a port of 127.0.0.1 (the load balancer's DNS name resolves nowhere; the emulated API Gateway
looks the port up), and spreads its connections over the healthy targets of its target group.
"""

import argparse
import asyncio
import http.client
import json
import logging
import signal
from typing import Any, cast

from local import ports
from local.cloud.load_balancing import PATH
from local.cloud.proxy import Listener
from local.cloud.targets import TargetGroup

log = logging.getLogger("balancer")

EXCHANGE_SECONDS = 0.5
LOOPBACK = "127.0.0.1"


class Balancer:
    """Keeps listeners and target groups in step with the emulator."""

    def __init__(self, emulator: str) -> None:
        self._emulator = emulator
        self._listeners: dict[str, Listener] = {}
        self._groups: dict[str, TargetGroup] = {}

    async def run(self) -> None:
        """Follows the emulator until cancelled; without it, goes on with what it last said."""
        silent = False
        while True:
            try:
                await self._follow(await asyncio.to_thread(self._exchange, json.dumps(self._report())))
                silent = False
            except (OSError, http.client.HTTPException, ValueError) as error:
                if not silent:  # said once, not twice a second
                    log.warning("the emulator doesn't answer: %s", error)
                silent = True
            await asyncio.sleep(EXCHANGE_SECONDS)

    def _exchange(self, report: str) -> dict[str, Any]:
        """Posts a report and returns the answer; raises OSError, HTTPException or ValueError where there is none."""
        connection = http.client.HTTPConnection(self._emulator, timeout=5)
        try:
            connection.request("POST", PATH, report, {"Content-Type": "application/json"})
            return cast("dict[str, Any]", json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def _report(self) -> dict[str, Any]:
        return {
            "listeners": {arn: listener.port for arn, listener in self._listeners.items()},
            "health": {arn: group.health() for arn, group in self._groups.items()},
        }

    async def _follow(self, desired: dict[str, Any]) -> None:
        groups: dict[str, dict[str, Any]] = desired["target_groups"]
        for arn, wanted in groups.items():
            self._groups.setdefault(arn, TargetGroup()).follow(wanted)
        listeners = {entry["arn"]: entry for entry in desired["listeners"]}
        for arn, entry in listeners.items():
            if arn not in self._listeners:
                port = ports.claim(f"balancer-{entry['balancer']}-{entry['port']}")
                self._listeners[arn] = await Listener.open(LOOPBACK, port)
            self._listeners[arn].group = self._groups[entry["target_group"]]
        for arn in self._listeners.keys() - listeners.keys():
            await self._listeners.pop(arn).close()
        for arn in self._groups.keys() - groups.keys():
            self._groups.pop(arn).close()

    async def close(self) -> None:
        """Ends every connection and check."""
        for listener in self._listeners.values():
            await listener.close()
        for group in self._groups.values():
            group.close()


async def _serve(emulator: str) -> None:
    balancer = Balancer(emulator)
    running = asyncio.ensure_future(balancer.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        await balancer.close()


def main() -> None:
    """Reads the command line and balances until SIGTERM."""
    parser = argparse.ArgumentParser(prog="local.cloud.balancer")
    parser.add_argument("--emulator", required=True, help="HOST:PORT")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    asyncio.run(_serve(parser.parse_args().emulator))


if __name__ == "__main__":
    main()
