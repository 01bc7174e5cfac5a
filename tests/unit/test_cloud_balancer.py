"""The balancer's parts: health checks, the choice of a target, and the TCP proxy."""

import asyncio
import os
from typing import Any

import pytest

from local import ports
from local.cloud.checks import Check, matches
from local.cloud.proxy import Listener
from local.cloud.targets import Target, TargetGroup

CHECK = {
    "protocol": "TCP", "port": "traffic-port", "path": "", "matcher": "", "interval": 5, "timeout": 1,
    "healthy_after": 2, "unhealthy_after": 2,
}  # fmt: skip


def wanted(*targets: tuple[str, int], registration: str = "first", **changes: Any) -> dict[str, Any]:
    registered = [[host, port, f"{host}:{port} {registration}"] for host, port in targets]
    return {"targets": registered, "check": CHECK, "drain_seconds": 0.1, "cut_after_drain": False, **changes}


@pytest.mark.parametrize(
    ("matcher", "code", "expected"),
    [
        ("200", 200, True),
        ("200", 204, False),
        ("200-399", 302, True),
        ("200,204", 204, True),
        ("200-299,404", 404, True),
    ],
)
def test_matcher(matcher: str, code: int, expected: bool) -> None:
    assert matches(matcher, code) is expected


def test_the_first_check_decides_and_later_ones_take_their_thresholds() -> None:
    target, check = Target(("127.0.0.1", 1)), Check(healthy_after=3, unhealthy_after=2)
    states: list[bool | None] = []
    for problem in ("", "x", "", "x", "x", "", "", "x", "", "", ""):
        target.note(problem, check)
        states.append(target.healthy)
    assert states == [True, True, True, True, False, False, False, False, False, False, True]
    target.note("broken", check)
    target.note("broken", check)
    assert target.told() == {
        "State": "unhealthy",
        "Reason": "Target.FailedHealthChecks",
        "Description": "broken",
    }


async def test_healthy_targets_take_turns_and_without_any_all_do() -> None:
    group = TargetGroup()
    addresses = [("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)]
    group.follow(wanted(*addresses))
    targets = {target.address: target for target in group.candidates()}
    for address in addresses:
        targets[address].healthy = address != addresses[1]
    firsts = [next(group.candidates()).address for _ in range(4)]
    assert set(firsts) == {addresses[0], addresses[2]}
    assert firsts[0] != firsts[1]
    for target in targets.values():
        target.healthy = False
    assert len(list(group.candidates())) == 3
    group.close()


async def test_a_target_that_left_and_came_back_is_checked_anew() -> None:
    group, address = TargetGroup(), ("127.0.0.1", 1)
    group.follow(wanted(address))
    (before,) = group.candidates()
    before.healthy = True
    assert group.health() == {"127.0.0.1:1 first": {"State": "healthy"}}
    group.follow(wanted(address, registration="second"))
    (after,) = group.candidates()
    assert after is not before
    assert {name: told["State"] for name, told in group.health().items()} == {"127.0.0.1:1 second": "initial"}
    group.close()


async def echo_server() -> tuple[asyncio.Server, int]:
    """Answers each connection with what came, once all of it has."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def open_listener(*targets: int, **changes: Any) -> tuple[Listener, TargetGroup]:
    listener = await Listener.open("127.0.0.1", ports.free())
    listener.group = TargetGroup()
    listener.group.follow(wanted(*(("127.0.0.1", port) for port in targets), **changes))
    return listener, listener.group


async def test_the_proxy_passes_on_half_closes_and_large_bodies() -> None:
    server, port = await echo_server()
    listener, group = await open_listener(port)
    sent = os.urandom(8_000_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(sent)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 10) == sent
    writer.close()
    group.close()
    await listener.close()
    server.close()


async def test_a_refused_connection_goes_to_the_next_target() -> None:
    server, port = await echo_server()
    dead, dead_port = await echo_server()
    dead.close()
    await dead.wait_closed()
    listener, group = await open_listener(dead_port, port)
    for target in group.candidates():
        target.healthy = True
    for _ in range(4):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"hello")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"hello"
        writer.close()
    group.close()
    await listener.close()
    server.close()


async def test_without_targets_a_connection_ends() -> None:
    listener, _ = await open_listener()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    writer.close()
    await listener.close()


@pytest.mark.parametrize("cut", [False, True])
async def test_a_target_that_leaves_keeps_its_connections_unless_told_to_cut_them(cut: bool) -> None:
    server, port = await echo_server()
    listener, group = await open_listener(port)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"one ")
    (target,) = group.candidates()
    async with asyncio.timeout(5):
        while not target.connections:  # noqa: ASYNC110 - the proxy tells of it nowhere else
            await asyncio.sleep(0.01)
    group.follow(wanted(cut_after_drain=cut))
    assert list(group.candidates()) == []
    await asyncio.sleep(0.3)
    if cut:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
    else:
        writer.write(b"two")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"one two"
    writer.close()
    group.close()
    await listener.close()
    server.close()


async def test_an_http_check_reads_the_status() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        status = b"200 OK" if asked.startswith(b"GET /live ") else b"503 Service Unavailable"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = ("127.0.0.1", server.sockets[0].getsockname()[1])
    assert await Check(protocol="HTTP", path="/live").run(address) == ""
    assert await Check(protocol="HTTP", path="/ready").run(address) == "Health checks failed with these codes: [503]"
    assert await Check(protocol="TCP").run(address) == ""
    server.close()
    await server.wait_closed()
    assert "Errno 111" in await Check(protocol="TCP").run(address)
