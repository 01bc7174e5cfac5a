"""`pulumi-resource-aws`: prints its port and serves until the engine is gone or says so with SIGINT or SIGTERM."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from importlib.metadata import version
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc
from pulumi.runtime.proto import provider_pb2 as proto

from local.errors import LocalError
from local.plugins.aws.bridge import MESSAGE_OPTIONS, Bridge
from local.plugins.aws.provider import CallError, Provider
from local.plugins.aws.sdk import installed
from local.plugins.aws.tokens import NoCounterpartError
from local.plugins.aws.warm import taken
from local.plugins.lifetime import begin

WORKERS = 128
"""Calls served at once. The engine makes as many as `--parallel` says."""

Engine = Callable[[engine_pb2.LogRequest], None]


def provider_handler(provider: Provider) -> grpc.GenericRpcHandler:
    """The provider's gRPC service. A call that it doesn't name is answered as unimplemented."""
    methods: dict[str, tuple[Callable[[Any], Message], type[Message]]] = {
        "GetPluginInfo": (provider.get_plugin_info, Empty),
        "GetSchema": (provider.get_schema, proto.GetSchemaRequest),
        "CheckConfig": (provider.check_config, proto.CheckRequest),
        "DiffConfig": (provider.diff_config, proto.DiffRequest),
        "Configure": (provider.configure, proto.ConfigureRequest),
        "Cancel": (provider.cancel, Empty),
        "Check": (provider.check, proto.CheckRequest),
        "Diff": (provider.diff, proto.DiffRequest),
        "Create": (provider.create, proto.CreateRequest),
        "Read": (provider.read, proto.ReadRequest),
        "Update": (provider.update, proto.UpdateRequest),
        "Delete": (provider.delete, proto.DeleteRequest),
        "Invoke": (provider.invoke, proto.InvokeRequest),
    }
    handlers = {name: _unary(answer, request) for name, (answer, request) in methods.items()}
    return grpc.method_handlers_generic_handler("pulumirpc.ResourceProvider", handlers)


def engine_handler(provider: Provider, log: Engine) -> grpc.GenericRpcHandler:
    """What stands for the engine towards the bridge: its messages go on with the SDK's names in them."""

    def forward(request: engine_pb2.LogRequest) -> Empty:
        request.urn = provider.names.restore(request.urn)
        request.message = provider.names.restore(request.message)
        log(request)
        return Empty()

    handlers = {"Log": _unary(forward, engine_pb2.LogRequest)}
    return grpc.method_handlers_generic_handler("pulumirpc.Engine", handlers)


def _server(workers: int) -> tuple[grpc.Server, int]:
    """A server on this machine and its port."""
    server = grpc.server(futures.ThreadPoolExecutor(workers), options=MESSAGE_OPTIONS)
    return server, server.add_insecure_port("127.0.0.1:0")


def _unary(answer: Callable[[Any], Message], request: type[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
    def call(message: Any, context: grpc.ServicerContext) -> Message:
        try:
            return answer(message)
        except CallError as error:
            if error.details is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", error.details),))
            return context.abort(error.code, str(error))
        except (NoCounterpartError, LocalError) as error:
            return context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return grpc.unary_unary_rpc_method_handler(call, request.FromString, lambda reply: reply.SerializeToString())


def _engine(address: str) -> Engine:
    """Tells the engine at an address; says it on standard error where there is none."""
    if not address:
        return lambda request: print(request.message, file=sys.stderr)
    stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))
    send: Callable[[engine_pb2.LogRequest], Empty] = stub.Log  # type: ignore[reportUnknownMemberType]

    def log(request: engine_pb2.LogRequest) -> None:
        with contextlib.suppress(grpc.RpcError):  # the engine is gone, and with it whoever reads its messages
            send(request)

    return log


def _prepare(bridge: Bridge) -> None:
    """Starts the bridge while the engine has other things to do. Where it fails, the first call says so."""
    with contextlib.suppress(LocalError):
        bridge.prepare()


def main() -> None:
    """Serves one engine."""
    engine, stop = begin("Pulumi resource provider for AWS on the Terraform AWS provider")

    server, port = _server(WORKERS)
    messages, messages_port = _server(4)  # of its own: the bridge may say something while every worker waits for it
    log = _engine(engine)
    warm = taken()
    if warm:
        messages.add_insecure_port(warm.messages)
    bridge = Bridge(f"127.0.0.1:{messages_port}", warm=warm.port if warm else None)
    try:
        provider = Provider(installed(), bridge, version("pulumi-aws"), log)
    except LocalError as error:
        sys.exit(str(error))
    server.add_generic_rpc_handlers((provider_handler(provider),))
    messages.add_generic_rpc_handlers((engine_handler(provider, log),))
    server.start()
    messages.start()
    print(port, flush=True)
    threading.Thread(target=_prepare, args=(bridge,), daemon=True).start()
    stop.wait()
    bridge.end()
    server.stop(grace=None)
    os._exit(0)  # calls under way wait for a bridge that is gone


if __name__ == "__main__":
    main()
