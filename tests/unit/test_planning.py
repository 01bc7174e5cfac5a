"""Planning instead of applying: what stands for AWS's own choices, and which calls reach the real plugin."""

from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from pulumi.runtime.proto import provider_pb2 as proto

from local.planning import CUSTOM_KINDS, SERVICE, Aws, Kubernetes, Planner, Relay, chosen, digest, filled
from local.plugins.aws.shapes import Kind, ListOf, MapOf, ObjectShape, Property, Scalar
from local.plugins.aws.values import UNKNOWN, from_struct, is_secret, secret, to_struct

CHARTS = Path(__file__).parents[2] / "components" / "llm_serving" / "charts"
TEXT = Scalar(Kind.STRING)
SHAPE = ObjectShape("Thing", lambda: {"arn": Property(TEXT), "size": Property(Scalar(Kind.NUMBER))})
SEED = digest("seed")
VPC = "urn:pulumi:s::p::aws:ec2/vpc:Vpc::network"


def test_what_is_known_stays() -> None:
    known = {"name": "a", "size": 1.0, "on": True, "none": None, "list": ["x"], "object": {"a": "b"}}
    assert filled(known, SHAPE, "", SEED, "ec2") == known


@pytest.mark.parametrize(
    ("shape", "kind"),
    [(TEXT, str), (Scalar(Kind.NUMBER), int), (Scalar(Kind.BOOLEAN), bool), (ListOf(TEXT), list),
     (MapOf(TEXT), dict), (SHAPE, dict), (None, str)],
)  # fmt: skip
def test_what_is_unknown_gets_a_value_of_its_type(shape: Any, kind: type) -> None:
    assert type(filled(UNKNOWN, shape, "x", SEED, "ec2")) is kind


def test_forms() -> None:
    assert chosen(TEXT, "roleArn", SEED, "iam").startswith("arn:aws:iam:us-east-1:000000000000:planned/")
    assert chosen(TEXT, "cidrBlock", SEED, "ec2") == "10.0.0.0/16"
    assert set(chosen(SHAPE, "", SEED, "ec2")) == {"arn", "size"}


def test_secrets_stay_secret() -> None:
    value = filled({"token": secret(UNKNOWN)}, None, "", SEED, "ec2")["token"]
    assert is_secret(value)
    assert value["value"].startswith("planned-")


def test_two_unknowns_differ_and_each_is_always_the_same() -> None:
    twice = [filled({"a": UNKNOWN, "b": [UNKNOWN, UNKNOWN]}, None, "", SEED, "ec2") for _ in range(2)]
    assert twice[0] == twice[1]
    assert len({twice[0]["a"], *twice[0]["b"]}) == 3


def test_every_custom_kind_of_our_charts_is_known() -> None:
    """Helm renders only kinds that the provider knows to be of a namespace or not."""
    used: set[tuple[str, str]] = set()
    for path in CHARTS.glob("*/templates/*.yaml"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        version = ""
        for line in lines:
            if line.startswith("apiVersion: "):
                version = line.removeprefix("apiVersion: ")
            elif line.startswith("kind: ") and "." in version.partition("/")[0]:
                group = version.partition("/")[0]
                if not group.endswith(".k8s.io"):
                    used.add((group, line.removeprefix("kind: ")))
    assert ("elbv2.k8s.aws", "TargetGroupBinding") in used
    assert used <= set(CUSTOM_KINDS)


def serialized(message: Message) -> bytes:
    return message.SerializeToString()


class Real:
    """A plugin that remembers what it was asked, and plans as AWS's does: the outputs are unknown."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Message]] = []
        self.unknown: tuple[str, ...] = ("id", "arn", "mainRouteTableId")

    def handler(self) -> grpc.GenericRpcHandler:
        answers: dict[str, tuple[type[Message], Callable[[Any], Message]]] = {
            "Configure": (proto.ConfigureRequest, lambda _: proto.ConfigureResponse(acceptSecrets=True)),
            "Check": (proto.CheckRequest, lambda request: proto.CheckResponse(inputs=request.news)),
            "Create": (proto.CreateRequest, self._created),
            "Update": (proto.UpdateRequest, lambda request: proto.UpdateResponse(properties=request.news)),
            "Diff": (proto.DiffRequest, self._refused),
            "Invoke": (proto.InvokeRequest, self._looked_up),
        }

        def method(name: str, kind: type[Message], answer: Callable[[Any], Message]) -> Any:
            def call(request: Message, context: grpc.ServicerContext) -> Message:
                self.asked.append((name, request))
                if name == "Diff":
                    context.set_trailing_metadata((("key", "value"),))
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such property")
                return answer(request)

            return grpc.unary_unary_rpc_method_handler(call, kind.FromString, serialized)

        handlers = {name: method(name, kind, answer) for name, (kind, answer) in answers.items()}
        return grpc.method_handlers_generic_handler(SERVICE.strip("/"), handlers)

    def _created(self, request: Any) -> Message:
        outputs = {**from_struct(request.properties), **dict.fromkeys(self.unknown, UNKNOWN)}
        return proto.CreateResponse(properties=to_struct(outputs))

    def _looked_up(self, _request: Any) -> Message:
        response = proto.InvokeResponse()
        getattr(response, "return").CopyFrom(to_struct({"real": True}))
        return response

    def _refused(self, _request: Any) -> Message:
        return Empty()


@pytest.fixture
def real() -> Real:
    return Real()


@pytest.fixture
def relay(real: Real) -> Iterator[Callable[[Planner], Callable[[str, Message, Any], Any]]]:
    """Starts a relay for a planner. Returns what calls one of its methods."""
    servers: list[grpc.Server] = []

    def serve(handler: grpc.GenericRpcHandler) -> grpc.Channel:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return grpc.insecure_channel(f"127.0.0.1:{port}")

    def start(planner: Planner) -> Callable[[str, Message, Any], Any]:
        channel = serve(Relay(serve(real.handler()), planner))

        def call(name: str, request: Message, answer: Any) -> Any:
            return answer.FromString(channel.unary_unary(SERVICE + name)(request.SerializeToString()))

        return call

    yield start
    for server in servers:
        server.stop(grace=None)


def test_nothing_is_created_in_aws(relay: Any, real: Real) -> None:
    call = relay(Aws())
    request = proto.CreateRequest(urn=VPC, properties=to_struct({"cidrBlock": "10.0.0.0/16"}))
    made = [call("Create", request, proto.CreateResponse) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].id.startswith("vpc-0")
    outputs = from_struct(made[0].properties)
    assert outputs["id"] == made[0].id
    assert outputs["cidrBlock"] == "10.0.0.0/16"
    assert outputs["arn"].startswith("arn:aws:ec2:")
    assert [request.preview for _, request in real.asked] == [True, True]  # type: ignore[attr-defined]


def test_what_the_provider_only_reads_back_is_there(relay: Any) -> None:
    urn = "urn:pulumi:s::p::aws:elasticache/replicationGroup:ReplicationGroup::cache"
    request = proto.CreateRequest(urn=urn, properties=to_struct({"engine": "valkey"}))
    assert from_struct(relay(Aws())("Create", request, proto.CreateResponse).properties)["port"] == 6379


def test_the_bridges_own_name_of_an_id_is_the_id(relay: Any, real: Real) -> None:
    real.unknown = ("id", "vpcId", "vpc")
    answer = relay(Aws())("Create", proto.CreateRequest(urn=VPC), proto.CreateResponse)
    assert from_struct(answer.properties) == {"id": answer.id, "vpcId": answer.id, "vpc": True}


def test_a_resource_with_other_inputs_is_another(relay: Any) -> None:
    call = relay(Aws())
    ids = {
        call("Create", proto.CreateRequest(urn=VPC, properties=to_struct({"cidrBlock": cidr})), proto.CreateResponse).id
        for cidr in ("10.0.0.0/16", "10.1.0.0/16")
    }
    assert len(ids) == 2


def test_nothing_is_changed_or_deleted(relay: Any, real: Real) -> None:
    call = relay(Aws())
    news = to_struct({"id": UNKNOWN, "cidrBlock": "10.0.0.0/16"})
    answer = call("Update", proto.UpdateRequest(urn=VPC, id="vpc-1", news=news), proto.UpdateResponse)
    assert from_struct(answer.properties) == {"id": "vpc-1", "cidrBlock": "10.0.0.0/16"}
    call("Delete", proto.DeleteRequest(urn=VPC, id="vpc-1"), Empty)
    assert [name for name, _ in real.asked] == ["Update"]


def test_a_lookup_of_something_planned_finds_it(relay: Any, real: Real) -> None:
    call = relay(Aws())
    vpc = call("Create", proto.CreateRequest(urn=VPC), proto.CreateResponse).id
    request = proto.InvokeRequest(tok="aws:ec2/getVpc:getVpc", args=to_struct({"id": vpc}))
    result = from_struct(getattr(call("Invoke", request, proto.InvokeResponse), "return"))
    assert result["id"] == vpc
    assert result["cidrBlock"] == "10.0.0.0/16"
    assert [name for name, _ in real.asked] == ["Create"]


def test_any_other_lookup_is_the_plugins(relay: Any, real: Real) -> None:
    request = proto.InvokeRequest(tok="aws:ec2/getVpc:getVpc", args=to_struct({"id": "vpc-1"}))
    result = from_struct(getattr(relay(Aws())("Invoke", request, proto.InvokeResponse), "return"))
    assert result == {"real": True}
    assert [name for name, _ in real.asked] == ["Invoke"]


def test_names_follow_from_the_inputs(relay: Any, real: Real) -> None:
    call = relay(Aws())
    for name in ("a", "a", "b"):
        call("Check", proto.CheckRequest(urn=VPC, news=to_struct({"name": name})), proto.CheckResponse)
    seeds = [request.randomSeed for _, request in real.asked]  # type: ignore[attr-defined]
    assert seeds[0] == seeds[1] != seeds[2]


def test_what_the_plugin_refuses_is_told_as_it_is(relay: Any) -> None:
    call = relay(Aws())
    with pytest.raises(grpc.RpcError) as caught:
        call("Diff", proto.DiffRequest(urn=VPC), proto.DiffResponse)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "no such property"
    assert ("key", "value") in [tuple(pair) for pair in error.trailing_metadata()]


def test_kubernetes_renders_instead_of_reaching_a_cluster(relay: Any, real: Real, tmp_path: Path) -> None:
    call = relay(Kubernetes(tmp_path))
    variables = {"kubernetes:config:kubeconfig": "secret"}
    answer = call("Configure", proto.ConfigureRequest(variables=variables), proto.ConfigureResponse)
    assert answer.acceptSecrets
    (_, configured), *kinds = real.asked
    assert configured.variables["kubernetes:config:renderYamlToDirectory"] == str(tmp_path)  # type: ignore[attr-defined]
    assert configured.variables["kubernetes:config:kubeconfig"] != "secret"  # type: ignore[attr-defined]
    assert len(kinds) == len(CUSTOM_KINDS)
    urn = "urn:pulumi:s::p::kubernetes:core/v1:Namespace::x"
    call("Create", proto.CreateRequest(urn=urn, preview=True), proto.CreateResponse)
    call("Update", proto.UpdateRequest(urn=urn, preview=True), proto.UpdateResponse)
    asked = [request.preview for name, request in real.asked if name in ("Create", "Update")]  # type: ignore[attr-defined]
    assert asked == [False, False]


def test_a_helm_release_is_planned_without_its_chart(relay: Any, real: Real, tmp_path: Path) -> None:
    call = relay(Kubernetes(tmp_path))
    urn = "urn:pulumi:s::p::kubernetes:helm.sh/v3:Release::x"
    inputs = to_struct({"name": "stack", "chart": "kube-prometheus-stack", "version": "1"})
    checked = call("Check", proto.CheckRequest(urn=urn, news=inputs), proto.CheckResponse)
    made = call("Create", proto.CreateRequest(urn=urn, properties=checked.inputs), proto.CreateResponse)
    assert made.properties == inputs
    assert made.id

    def differ(**more: str) -> proto.DiffResponse:
        news = to_struct({**from_struct(inputs), **more})
        return call("Diff", proto.DiffRequest(urn=urn, old_inputs=inputs, news=news), proto.DiffResponse)

    assert differ().changes == proto.DiffResponse.DIFF_NONE
    assert (list(differ(version="2").diffs), list(differ(version="2").replaces)) == (["version"], [])
    assert list(differ(name="other").replaces) == ["name"]
    assert real.asked == []
