"""Ports of the local environment: chosen where no connection of another program takes them."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import paths, ports


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "STATE", tmp_path)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield made


def test_a_chosen_port_is_no_node_port_and_none_that_the_kernel_gives_to_connections() -> None:
    chosen = {ports.free() for _ in range(200)}
    assert not chosen & set(range(30000, 32768))
    assert not chosen & set(range(32768, 61000))  # where the machine's administrator has not changed it


def test_a_port_is_remembered_and_moves_only_where_another_holds_it(listener: socket.socket) -> None:
    chosen = ports.claim("some-service")
    assert ports.claim("some-service") == chosen
    listener.bind(("127.0.0.1", chosen))
    listener.listen()
    assert ports.port("some-service") == chosen  # its own service may be what listens
    moved = ports.claim("some-service")
    assert moved != chosen
    assert moved in ports.UNASKED
    assert ports.port("some-service") == moved
