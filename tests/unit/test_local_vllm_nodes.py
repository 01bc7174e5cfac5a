"""A local vLLM over two nodes: what the chart gives its pods, who waits for whom, and what the loss of one does."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from local_runtime.vllm.arguments import ConfigurationError, parse
from local_runtime.vllm.nodes import Leader, Nodes, NodesError, follow

from llm_serving.runtimes import vllm
from llm_serving.runtimes.launch import ServiceSpec
from local import ports
from tests.unit.local_runtime_harness import launch, serving, written

MODULE = "local_runtime.vllm"
READY = b"Starting vLLM server"
PACE = {"LOCAL_ECHO_TOKENS": "40", "LOCAL_ECHO_SECONDS_PER_TOKEN": "0.05"}


def test_arguments_of_the_charts_pods() -> None:
    spec = ServiceSpec(
        model="m",
        weight_gb=0.2,
        gpus=1,
        nodes=2,
        max_input_tokens=1024,
        max_total_tokens=2048,
        max_concurrent_requests=16,
    )
    launched = vllm.launch(spec)
    leader, worker = (
        parse([*(word.replace("$(LWS_WORKER_INDEX)", rank) for word in launched.args), *more])
        for rank, more in (("0", []), ("1", launched.worker_args))
    )
    assert (leader.nodes.count, leader.nodes.rank, leader.headless) == (2, 0, False)
    assert (worker.nodes.count, worker.nodes.rank, worker.headless) == (2, 1, True)
    assert (worker.nodes.address, worker.nodes.port) == ("$(LWS_LEADER_ADDRESS)", vllm.MASTER_PORT)


def test_alone_by_default() -> None:
    known = parse(["m"])
    assert (known.nodes, known.headless) == (Nodes(1, 0, "127.0.0.1", 29501, 600), False)
    assert parse(["m", "--distributed-timeout-seconds", "5"]).nodes.timeout_seconds == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nnodes", "2"], "world_size=1 must be divisible by nnodes=2."),
        (["--nnodes", "2", "-tp", "3"], "world_size=3 must be divisible by nnodes=2."),
        (["--nnodes", "2", "-pp", "2", "-r", "2", "--headless"], "node_rank=2 must be less than nnodes=2."),
        (["--nnodes", "2", "-pp", "2", "-r", "1"], "collective_rpc should not be called on follower node"),
        (["--nnodes", "2", "-pp", "2", "--headless"], "not served by the local runtime: --headless"),
        (["--headless"], "not served by the local runtime: --headless"),
        (["--nnodes", "0"], "for ParallelConfig\nnnodes\n  Input should be greater than or equal to 1"),
        (["--node-rank", "-1"], "for ParallelConfig\nnode_rank\n  Input should be greater than or equal to 0"),
    ],
)
def test_the_configuration_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(["m", *arguments])
    assert message in str(caught.value)


def nodes(port: int, rank: int = 0, *, count: int = 3, seconds: float = 5) -> Nodes:
    return Nodes(count, rank, "127.0.0.1", port, seconds)


async def test_the_leader_goes_on_once_all_have_joined_and_then_loaded() -> None:
    port = ports.free()
    loading = {rank: asyncio.Event() for rank in (1, 2)}
    begun: list[int] = []

    async def load(rank: int) -> None:
        begun.append(rank)
        await loading[rank].wait()

    def started(rank: int) -> asyncio.Task[None]:
        return asyncio.create_task(follow(nodes(port, rank), lambda: load(rank)))

    first = started(1)  # before there is anyone to join
    async with Leader(nodes(port)) as leader:
        joining = asyncio.create_task(leader.all_joined())
        await asyncio.sleep(0.3)
        assert not joining.done()
        assert not begun
        second = started(2)
        await asyncio.wait_for(joining, 5)
        loaded = asyncio.create_task(leader.all_loaded())
        loading[1].set()
        await asyncio.sleep(0.1)
        assert sorted(begun) == [1, 2]
        assert not loaded.done()
        loading[2].set()
        await asyncio.wait_for(loaded, 5)
        assert not leader.lost.is_set()
        assert not first.done()
        second.cancel()
        await asyncio.wait_for(leader.lost.wait(), 5)
    await asyncio.wait_for(first, 5)


async def test_alone_there_is_nobody_to_wait_for() -> None:
    async with Leader(Nodes()) as leader:
        await leader.all_joined()
        await leader.all_loaded()
        assert not leader.lost.is_set()


async def test_a_node_that_goes_while_others_are_awaited() -> None:
    port = ports.free()
    async with Leader(nodes(port)) as leader:
        joining = asyncio.create_task(leader.all_joined())
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"1\n")
        writer.close()
        with pytest.raises(NodesError, match="a node has gone before all had joined"):
            await asyncio.wait_for(joining, 5)


@pytest.mark.parametrize("said", [b"0\n", b"3\n", b"GET / HTTP/1.1\n"])
async def test_what_is_no_node_is_refused(said: bytes) -> None:
    port = ports.free()
    async with Leader(nodes(port)) as leader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert not leader.lost.is_set()


async def test_nodes_wait_for_so_long() -> None:
    port = ports.free()
    with pytest.raises(NodesError, match=rf"the first node can't be reached at 127.0.0.1:{port}: "):
        await follow(nodes(port, 1, seconds=0.1), lambda: asyncio.sleep(0))
    async with Leader(nodes(port, seconds=0.1)) as leader:
        with pytest.raises(NodesError, match="0 of 2 nodes have joined within 0 s"):
            await leader.all_joined()


def arguments(http: int, master: int, rank: int) -> tuple[str, ...]:
    shared = ("m", "--host", "127.0.0.1", "--port", str(http), "--shutdown-timeout", "30")
    spanning = ("-pp", "2", "--nnodes", "2", "--node-rank", str(rank), "--master-port", str(master))
    return ("serve", *shared, *spanning, *(("--headless",) if rank else ()))


@asynccontextmanager
async def replica() -> AsyncGenerator[tuple[Process, Process, str]]:
    """The two processes of a replica that serves, and its address."""
    http, master = ports.free(), ports.free()
    worker = await launch(MODULE, *arguments(http, master, 1), LOCAL_ENGINE="echo")
    try:
        async with serving(MODULE, *arguments(http, master, 0), ready=READY, **PACE) as leader:
            yield leader, worker, f"http://127.0.0.1:{http}"
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()


async def test_a_worker_serves_nothing_and_ends_with_its_leader() -> None:
    async with replica() as (leader, worker, url), aiohttp.ClientSession() as http:
        async with http.get(f"{url}/health") as answer:  # of the leader alone: they have one port here
            assert answer.status == 200
        assert worker.returncode is None
        leader.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(leader.wait(), 10) == 0
        assert await asyncio.wait_for(worker.wait(), 10) == 0


async def test_a_leader_ends_with_its_worker_and_aborts_what_runs() -> None:
    body: dict[str, Any] = {"prompt": "a", "max_tokens": 40, "stream": True}
    async with replica() as (leader, worker, url), aiohttp.ClientSession() as http:
        async with http.post(f"{url}/v1/completions", json=body) as answer:
            await answer.content.readline()
            worker.send_signal(signal.SIGTERM)
            await written(leader, b"A node of the replica has gone")
            text = await answer.text()
        assert '"finish_reason":"abort"' in text.replace(" ", "")
        assert await asyncio.wait_for(leader.wait(), 10) == 1
        assert await asyncio.wait_for(worker.wait(), 10) == 0


async def test_a_leader_that_waits_for_nodes_stops_when_it_is_told() -> None:
    leader = await launch(MODULE, *arguments(ports.free(), ports.free(), 0), LOCAL_ENGINE="echo")
    await written(leader, b"vLLM API server version")
    leader.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(leader.communicate(), 10)
    assert leader.returncode == 0
    assert READY not in output
