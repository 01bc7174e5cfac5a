"""A Pulumi provider that creates nothing: every resource comes back as it was asked for.

It stands in for `aws` and `kubernetes` where a test is about the engine, the language host or a component provider.
Started by the engine as `echo_provider.py VERSION ENGINE_ADDRESS`. What AWS would add to a resource is in `COMPUTED`.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from types import FrameType
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import plugin_pb2
from pulumi.runtime.proto import provider_pb2 as proto

from local.plugins.lifetime import when_orphaned

COMPUTED: dict[str, dict[str, Any]] = {
    "aws:eks/cluster:Cluster": {
        "arn": "arn:aws:eks:us-east-1:000000000000:cluster/echo",
        "name": "echo",
        "endpoint": "https://echo.invalid",
        "certificateAuthority": {"data": "Q0E="},
        "identities": [{"oidcs": [{"issuer": "https://oidc.invalid/id/1"}]}],
    },
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 3},
    "aws:iam/role:Role": {"arn": "arn:aws:iam::000000000000:role/echo", "name": "echo"},
    "aws:ec2/securityGroupRule:SecurityGroupRule": {"securityGroupRuleId": "sgr-1"},
}

ANSWERS: dict[str, dict[str, Any]] = {
    "aws:index/getPartition:getPartition": {"partition": "aws", "dnsSuffix": "amazonaws.com"},
    "aws:eks/getAddonVersion:getAddonVersion": {"version": "v1.2.3-eksbuild.1"},
}

BEHAVIOUR = "echo"
"""A resource's tag by this name makes it `refused`, or `slow` to create (8 s)."""


def struct(values: dict[str, Any]) -> Struct:
    message = Struct()
    message.update(values)
    return message


def created(request: proto.CreateRequest) -> Message:
    kind = request.urn.split("::")[2].split("$")[-1]
    asked: dict[str, Any] = MessageToDict(request.properties)
    if request.preview:
        return proto.CreateResponse(id="", properties=request.properties)
    tags: dict[str, str] = asked.get("tags") or {}
    behaviour = tags.get(BEHAVIOUR)
    if behaviour == "refused":
        raise ValueError("this resource is refused")
    if behaviour == "slow":
        time.sleep(8)
    return proto.CreateResponse(id=f"id-{request.name}", properties=struct({**COMPUTED.get(kind, {}), **asked}))


def updated(request: proto.UpdateRequest) -> Message:
    kind = request.urn.split("::")[2].split("$")[-1]
    return proto.UpdateResponse(properties=struct({**COMPUTED.get(kind, {}), **MessageToDict(request.news)}))


def diffed(request: proto.DiffRequest) -> Message:
    changed = MessageToDict(request.old_inputs) != MessageToDict(request.news)
    return proto.DiffResponse(changes=proto.DiffResponse.DIFF_SOME if changed else proto.DiffResponse.DIFF_NONE)


def invoked(request: proto.InvokeRequest) -> Message:
    response = proto.InvokeResponse()
    getattr(response, "return").update(ANSWERS[request.tok])
    return response


def read(request: proto.ReadRequest) -> Message:
    return proto.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)


def methods(version: str) -> dict[str, tuple[type[Message], Callable[[Any], Message]]]:
    handshake = proto.ProviderHandshakeResponse(accept_secrets=False, accept_resources=False, accept_outputs=False)
    configured = proto.ConfigureResponse(acceptSecrets=False, supportsPreview=True)
    unchanged = proto.DiffResponse(changes=proto.DiffResponse.DIFF_NONE)
    return {
        "GetPluginInfo": (Empty, lambda _: plugin_pb2.PluginInfo(version=version)),
        "Handshake": (proto.ProviderHandshakeRequest, lambda _: handshake),
        "CheckConfig": (proto.CheckRequest, lambda request: proto.CheckResponse(inputs=request.news)),
        "DiffConfig": (proto.DiffRequest, lambda _: unchanged),
        "Configure": (proto.ConfigureRequest, lambda _: configured),
        "Check": (proto.CheckRequest, lambda request: proto.CheckResponse(inputs=request.news)),
        "Diff": (proto.DiffRequest, diffed),
        "Create": (proto.CreateRequest, created),
        "Update": (proto.UpdateRequest, updated),
        "Read": (proto.ReadRequest, read),
        "Delete": (proto.DeleteRequest, lambda _: Empty()),
        "Invoke": (proto.InvokeRequest, invoked),
        "Cancel": (Empty, lambda _: Empty()),
    }


def handler(answer: Callable[[Any], Message], request: type[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
    def call(message: Any, context: grpc.ServicerContext) -> Message:
        try:
            return answer(message)
        except ValueError as error:
            return context.abort(grpc.StatusCode.UNKNOWN, str(error))

    return grpc.unary_unary_rpc_method_handler(call, request.FromString, lambda response: response.SerializeToString())


def main() -> None:
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    when_orphaned(stop.set)
    server = grpc.server(futures.ThreadPoolExecutor(16))
    handlers = {name: handler(answer, request) for name, (request, answer) in methods(sys.argv[1]).items()}
    service = grpc.method_handlers_generic_handler("pulumirpc.ResourceProvider", handlers)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    stop.wait()
    server.stop(grace=None)


if __name__ == "__main__":
    main()
