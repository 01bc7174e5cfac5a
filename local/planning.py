"""A provider that plans where the real one would act: `pulumi up` with it makes a state, and nothing else.

What a change does to an environment that runs can only be told from that environment's state. This makes such a state
without a cloud or a cluster: it stands between the engine and the real plugin, lets that one check, compare and plan
as always, and answers for it where it would create, change or delete something. What only AWS could have chosen (an
id, an ARN, an address) gets a value that follows from the resource's name and inputs: the same inputs give the same
values, and a resource that is replaced gets others, which those that use it then see.

Started by the engine as `python -m local.planning NAME PROGRAM ENGINE_ADDRESS`.
"""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, cast

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import provider_pb2 as proto

from local.plugins.aws.bridge import MESSAGE_OPTIONS
from local.plugins.aws.messages import type_of
from local.plugins.aws.sdk import Sdk, installed
from local.plugins.aws.shapes import Kind, ListOf, MapOf, ObjectShape, Scalar, Shape
from local.plugins.aws.values import Properties, from_struct, is_secret, to_struct, within
from local.plugins.lifetime import when_orphaned

SERVICE = "/pulumirpc.ResourceProvider/"
WORKERS = 128
UNKNOWN = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
"""What stands for an unknown string, boolean, number, list and object (pulumi/sdk `plugin.Unknown*Value`)."""

CUSTOM_KINDS = (
    ("elbv2.k8s.aws", "TargetGroupBinding"),
    ("monitoring.coreos.com", "ServiceMonitor"),
    ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "Prometheus"),
    ("monitoring.coreos.com", "PrometheusRule"),
    ("keda.sh", "ScaledObject"),
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"),
    ("keda.sh", "TriggerAuthentication"),
)
"""Custom resources of our charts, all of a namespace. A cluster would say so; the Kubernetes provider here has none."""

RELEASE_NAMES = ("name", "namespace")
"""What makes the Kubernetes provider replace a Helm release (its `Release` forces a new one for these)."""

PREFIXES = {
    "aws:ec2/eip:Eip": "eipalloc",
    "aws:ec2/flowLog:FlowLog": "fl",
    "aws:ec2/internetGateway:InternetGateway": "igw",
    "aws:ec2/launchTemplate:LaunchTemplate": "lt",
    "aws:ec2/natGateway:NatGateway": "nat",
    "aws:ec2/routeTable:RouteTable": "rtb",
    "aws:ec2/securityGroup:SecurityGroup": "sg",
    "aws:ec2/subnet:Subnet": "subnet",
    "aws:ec2/vpc:Vpc": "vpc",
    "aws:ec2/vpcEndpoint:VpcEndpoint": "vpce",
}
"""How ids begin where the AWS provider refuses others, or a person expects no other."""


BEYOND_SDK = {"vpc": True}
"""Computed properties of the Terraform provider that the SDK has no longer, and that aren't text."""

READ_BACK: Mapping[str, Properties] = {
    "aws:elasticache/replicationGroup:ReplicationGroup": {"port": 6379},
    "aws:sns/topic:Topic": {"fifoThroughputScope": ""},  # the provider refuses any other where the topic is no FIFO
}
"""What AWS sets where a program doesn't, and the provider reads but doesn't plan: a preview would not know it."""

ARN_SERVICES = {"lb": "elasticloadbalancing", "cloudwatch": "logs", "vpc": "ec2"}
"""What ARNs call a service that the SDK's modules call otherwise."""


PLANNED = re.compile(r"\bplanned[-/][0-9a-f]{12}\b|\b[a-z]+-0[0-9a-f]{16}\b")
"""What an id or ARN of something planned looks like."""


def digest(*parts: Any) -> str:
    """A name for some values: 40 hexadecimal digits, always the same for the same values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]


def filled(value: Any, shape: Shape | None, name: str, seed: str, service: str) -> Any:
    """`value` with something plausible wherever it is unknown; `shape` is what it has to look like, where known."""
    if is_secret(value):
        return within(value, lambda inner: filled(inner, shape, name, seed, service))
    if _is_unknown(value):
        return chosen(shape, name, seed, service)
    if isinstance(value, dict):
        inner = cast("Properties", value)
        return {key: filled(part, _of(shape, key), key, digest(seed, key), service) for key, part in inner.items()}
    if isinstance(value, list):
        element = shape.element if isinstance(shape, ListOf) else None
        parts = cast("list[Any]", value)
        return [filled(part, element, name, digest(seed, index), service) for index, part in enumerate(parts)]
    return value


def _is_unknown(value: Any) -> bool:
    return isinstance(value, str) and value in UNKNOWN


def _of(shape: Shape | None, key: str) -> Shape | None:
    if isinstance(shape, ObjectShape):
        found = shape.properties.get(key)
        return found.shape if found else None
    return shape.element if isinstance(shape, MapOf) else None


def chosen(shape: Shape | None, name: str, seed: str, service: str) -> Any:
    """What AWS might have chosen for a property: of the right type and, for an ARN or an address range, form."""
    match shape:
        case Scalar(kind=Kind.BOOLEAN):
            return False
        case Scalar(kind=Kind.NUMBER):
            return int(seed[:6], 16) % 30_000 + 1
        case ListOf(element=element):
            return [chosen(element, name, digest(seed, 0), service)]
        case MapOf():
            return {}
        case ObjectShape(properties=properties):
            return {key: chosen(found.shape, key, digest(seed, key), service) for key, found in properties.items()}
        case _:
            return _text(name, seed, service)


def _text(name: str, seed: str, service: str) -> str:
    lowered = name.lower()
    if lowered.endswith("arn"):
        return f"arn:aws:{ARN_SERVICES.get(service, service)}:us-east-1:000000000000:planned/{seed[:12]}"
    if lowered.endswith(("cidr", "cidrblock")):
        return "10.0.0.0/16"
    return f"planned-{seed[:12]}"


class Aws:
    """Plans AWS resources: the real provider says what it would make, as in a preview."""

    @cached_property
    def _sdk(self) -> Sdk:
        return installed()

    def configured(self, request: proto.ConfigureRequest) -> proto.ConfigureRequest:
        """The configuration as it is."""
        return request

    def kinds(self) -> Sequence[proto.CheckRequest]:
        """Nothing that the provider must be told first."""
        return ()

    plans_in_preview = True
    """Whether the provider plans when it is asked for a preview; else, when it is asked to act."""

    def is_opaque(self, _urn: str) -> bool:
        """Whether the provider can't be asked about a resource here: never."""
        return False

    def answer(self, urn: str, inputs: Struct, planned: Struct) -> tuple[str, Struct]:
        """Returns the id and the outputs that a planned resource would have."""
        token = type_of(urn)
        service = token.split(":")[1].split("/")[0]
        seed = digest(urn, from_struct(inputs))
        identifier = f"{PREFIXES[token]}-0{seed[:16]}" if token in PREFIXES else f"planned-{seed[:12]}"
        shape, told = self._sdk.resource(token), from_struct(planned)
        outputs: Properties = {
            **told,
            **READ_BACK.get(token, {}),
            **{key: value for key, value in told.items() if not _is_unknown(value)},
            **_beyond_sdk(told, shape, identifier),
            "id": identifier,
        }
        return identifier, to_struct(filled(outputs, shape, "", seed, service))

    def found(self, request: proto.InvokeRequest) -> proto.InvokeResponse | None:
        """Returns what a lookup of something planned would find; None for a lookup of anything else."""
        arguments = from_struct(request.args)
        if not PLANNED.search(json.dumps(arguments)):
            return None
        service = request.tok.split(":")[1].split("/")[0]
        result: Properties = chosen(self._sdk.function(request.tok), "", digest(request.tok, arguments), service)
        response = proto.InvokeResponse()
        # `return` is a word of Python's own
        getattr(response, "return").CopyFrom(to_struct({**result, **arguments}))
        return response


class Kubernetes:
    """Plans Kubernetes objects: the real provider renders them to a folder, for which it needs no cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def configured(self, request: proto.ConfigureRequest) -> proto.ConfigureRequest:
        """The configuration without the cluster."""
        request.variables["kubernetes:config:renderYamlToDirectory"] = str(self._folder)
        request.variables["kubernetes:config:kubeconfig"] = "{none"  # "" would be the one of this machine's user
        return request

    def kinds(self) -> Sequence[proto.CheckRequest]:
        """The definitions of custom resources, as the provider would have seen them in the stack's cluster."""
        requests: list[proto.CheckRequest] = []
        for group, kind in CUSTOM_KINDS:
            plural = f"{kind.lower()}s"
            definition: Properties = {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.{group}"},
                "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural}},
            }
            token = "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition"  # noqa: S105  a type
            requests.append(
                proto.CheckRequest(urn=f"urn:pulumi:planning::planning::{token}::{plural}", news=to_struct(definition))
            )
        return requests

    plans_in_preview = False
    """It renders where it would otherwise act, whatever it is asked."""

    def is_opaque(self, urn: str) -> bool:
        """Whether the provider can't be asked about a resource here: a Helm release, for which it needs the cluster."""
        return type_of(urn) == "kubernetes:helm.sh/v3:Release"

    def answer(self, urn: str, inputs: Struct, planned: Struct) -> tuple[str, Struct]:
        """Returns the id and the outputs of a planned object."""
        seed = digest(urn, from_struct(inputs))
        return "", to_struct(filled(from_struct(planned), None, "", seed, "kubernetes"))

    def found(self, _request: proto.InvokeRequest) -> proto.InvokeResponse | None:
        """Nothing: no function of the provider looks for an object."""
        return None


def _beyond_sdk(outputs: Properties, shape: ObjectShape, identifier: str) -> Properties:
    """Values for unknown outputs that the SDK doesn't have, and so no type for: the bridge's name of the id, and more.

    The id is `vpcId` of a VPC there, as Pulumi has an `id` of its own.
    """
    untold = [key for key, value in outputs.items() if key not in shape.properties and _is_unknown(value)]
    return {
        key: identifier if key.endswith("Id") else BEYOND_SDK[key]
        for key in untold
        if key.endswith("Id") or key in BEYOND_SDK
    }


Planner = Aws | Kubernetes


class Relay(grpc.GenericRpcHandler):
    """Hands every call on to the real plugin, but those that would make, change or delete something."""

    def __init__(self, channel: grpc.Channel, planner: Planner) -> None:
        self._channel = channel
        self._planner = planner
        self._own: Mapping[str, Callable[[bytes], Message]] = {
            "Configure": self._configure,
            "Check": self._check,
            "Diff": self._diff,
            "Create": self._create,
            "Update": self._update,
            "Delete": lambda _request: Empty(),
            "Invoke": self._invoke,
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Answers any unary call."""
        method = str(handler_call_details.method)
        own = self._own.get(method.removeprefix(SERVICE))

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return own(request).SerializeToString() if own else self._raw(method, request)
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call):
                    raise
                context.set_trailing_metadata(cast("Any", error.trailing_metadata() or ()))
                return context.abort(error.code(), error.details() or "")

        return grpc.unary_unary_rpc_method_handler(call)

    def _raw(self, method: str, request: bytes) -> bytes:
        call = cast("Callable[[bytes], bytes]", self._channel.unary_unary(method))  # type: ignore[reportUnknownMemberType]
        return call(request)

    def _ask(self, method: str, request: Message, answer: Any) -> Any:
        return answer.FromString(self._raw(SERVICE + method, request.SerializeToString()))

    def _configure(self, raw: bytes) -> Message:
        request = self._planner.configured(proto.ConfigureRequest.FromString(raw))
        response: proto.ConfigureResponse = self._ask("Configure", request, proto.ConfigureResponse)
        for kind in self._planner.kinds():
            self._ask("Check", kind, proto.CheckResponse)
        return response

    def _check(self, raw: bytes) -> Message:
        """Lets the provider choose names by the inputs, not by chance: two plans of one program are the same."""
        request = proto.CheckRequest.FromString(raw)
        if self._planner.is_opaque(request.urn):
            return proto.CheckResponse(inputs=request.news)
        request.randomSeed = bytes.fromhex(digest(request.urn, from_struct(request.news)))[:32]
        return self._ask("Check", request, proto.CheckResponse)

    def _diff(self, raw: bytes) -> Message:
        request = proto.DiffRequest.FromString(raw)
        if not self._planner.is_opaque(request.urn):
            return self._ask("Diff", request, proto.DiffResponse)
        old, new = from_struct(request.old_inputs), from_struct(request.news)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        kind = proto.DiffResponse.DIFF_SOME if changed else proto.DiffResponse.DIFF_NONE
        return proto.DiffResponse(
            changes=kind, diffs=changed, replaces=[key for key in changed if key in RELEASE_NAMES]
        )

    def _create(self, raw: bytes) -> Message:
        request = proto.CreateRequest.FromString(raw)
        request.preview = self._planner.plans_in_preview
        response = proto.CreateResponse(properties=request.properties)
        if not self._planner.is_opaque(request.urn):
            response = self._ask("Create", request, proto.CreateResponse)
        identifier, outputs = self._planner.answer(request.urn, request.properties, response.properties)
        response.id = identifier or response.id or f"planned-{digest(request.urn)[:12]}"
        response.properties.CopyFrom(outputs)
        return response

    def _update(self, raw: bytes) -> Message:
        request = proto.UpdateRequest.FromString(raw)
        request.preview = self._planner.plans_in_preview
        response = proto.UpdateResponse(properties=request.news)
        if not self._planner.is_opaque(request.urn):
            response = self._ask("Update", request, proto.UpdateResponse)
        _, outputs = self._planner.answer(request.urn, request.news, response.properties)
        if "id" in outputs.fields:  # an update never changes it
            outputs.fields["id"].string_value = request.id
        response.properties.CopyFrom(outputs)
        return response

    def _invoke(self, raw: bytes) -> Message:
        request = proto.InvokeRequest.FromString(raw)
        return self._planner.found(request) or self._ask("Invoke", request, proto.InvokeResponse)


def _start(program: str, engine: Sequence[str]) -> tuple["subprocess.Popen[bytes]", int]:
    """Starts the real plugin, which ends with this process. Returns it and its port."""
    tie = shutil.which("setpriv")
    command = [*([tie, "--pdeathsig", "TERM"] if tie else []), program, *engine]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=0)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line.isdigit():
        sys.exit(f"{program} does not start")
    return process, int(line)


def main() -> None:
    """Serves one engine."""
    name, program, *engine = sys.argv[1:]
    planners: dict[str, Callable[[], Planner]] = {
        "aws": Aws,
        "kubernetes": lambda: Kubernetes(Path(program).parent / "rendered"),
    }
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    when_orphaned(stop.set)
    process, real = _start(program, engine)
    channel = grpc.insecure_channel(f"127.0.0.1:{real}", options=MESSAGE_OPTIONS)
    server = grpc.server(futures.ThreadPoolExecutor(WORKERS), options=MESSAGE_OPTIONS)
    server.add_generic_rpc_handlers((Relay(channel, planners[name]()),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    stop.wait()
    process.terminate()
    process.wait()
    server.stop(grace=None)


if __name__ == "__main__":
    main()
