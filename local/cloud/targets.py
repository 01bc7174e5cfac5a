"""A target group's targets, and what the balancer knows of their health."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local.cloud.checks import Check

Address = tuple[str, int]
Registration = tuple[str, int, str]
"""Address, port, and the registration's own name: a target that left and came back is another one."""


@dataclass
class Target:
    """One target: an address, the state of its checks, and the connections that it has."""

    address: Address
    healthy: bool | None = None
    """None until the first check has ended."""
    streak: int = 0
    """Checks in a row that disagree with `healthy`."""
    problem: str = ""
    connections: set[asyncio.Transport] = field(default_factory=set[asyncio.Transport])
    checking: asyncio.Task[None] | None = None
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection failed: the next check comes at once."""

    def note(self, problem: str, check: Check) -> None:
        """Takes in a check's result (empty: it passed). The first one decides at once, so that pods serve early."""
        passed = not problem
        self.problem = problem
        if self.healthy is None:
            self.healthy, self.streak = passed, 0
        elif passed == self.healthy:
            self.streak = 0
        else:
            self.streak += 1
            if self.streak >= (check.healthy_after if passed else check.unhealthy_after):
                self.healthy, self.streak = passed, 0

    def told(self) -> dict[str, str]:
        """The health as DescribeTargetHealth tells it."""
        if self.healthy is None:
            return {
                "State": "initial",
                "Reason": "Elb.InitialHealthChecking",
                "Description": "Initial health checks in progress",
            }
        if self.healthy:
            return {"State": "healthy"}
        return {"State": "unhealthy", "Reason": "Target.FailedHealthChecks", "Description": self.problem}


class TargetGroup:
    """The targets of one target group; `candidates` says where the next connection goes."""

    def __init__(self) -> None:
        self._targets: dict[Registration, Target] = {}
        self._check = Check()
        self._turn = itertools.count()
        self._drains: set[asyncio.Task[None]] = set()

    def follow(self, wanted: dict[str, Any]) -> None:
        """Takes over what the emulator says: targets, health check and draining."""
        check = Check(**wanted["check"])
        registered: set[Registration] = {(host, port, name) for host, port, name in wanted["targets"]}
        for gone in self._targets.keys() - registered:
            self._drain(self._targets.pop(gone), wanted["drain_seconds"], cut=wanted["cut_after_drain"])
        if check != self._check:
            self._check = check
            for target in self._targets.values():
                target.suspected.set()
        for host, port, name in registered - self._targets.keys():
            target = self._targets[host, port, name] = Target((host, port))
            target.checking = asyncio.ensure_future(self._keep_checking(target))

    def candidates(self) -> Iterator[Target]:
        """The targets to try for a new connection, in order: each healthy one once, starting with the one in turn.

        Where none is healthy, all of them, as on AWS.
        """
        targets = list(self._targets.values())
        usable = [target for target in targets if target.healthy] or targets
        if not usable:
            return
        first = next(self._turn) % len(usable)
        yield from usable[first:] + usable[:first]

    def health(self) -> dict[str, dict[str, str]]:
        """Every target's health, by its registration's name."""
        return {name: target.told() for (_, _, name), target in self._targets.items()}

    def close(self) -> None:
        """Ends the checks; connections are the listener's to end."""
        for target in self._targets.values():
            _stop_checking(target)
        for drain in self._drains:
            drain.cancel()

    def _drain(self, target: Target, seconds: float, *, cut: bool) -> None:
        """Lets a target's connections end by themselves, or cuts them after a while where the group says so."""
        _stop_checking(target)
        if cut and target.connections:
            task = asyncio.ensure_future(_cut(target, seconds))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    async def _keep_checking(self, target: Target) -> None:
        while True:
            target.suspected.clear()
            check = self._check
            target.note(await check.run(target.address), check)
            try:
                await asyncio.wait_for(target.suspected.wait(), check.interval)
            except TimeoutError:
                continue
            await asyncio.sleep(0.2)  # many connections may fail at once; one check a moment later will do


def _stop_checking(target: Target) -> None:
    if target.checking is not None:
        target.checking.cancel()


async def _cut(target: Target, seconds: float) -> None:
    await asyncio.sleep(seconds)
    for connection in list(target.connections):
        connection.abort()
