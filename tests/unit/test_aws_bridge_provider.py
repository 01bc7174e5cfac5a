"""The AWS provider over a bridge that only records what it is asked and answers what the test says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import engine_pb2, status_pb2
from pulumi.runtime.proto import provider_pb2 as proto

from local.plugins.aws import autonaming
from local.plugins.aws.autonaming import Request, Rule
from local.plugins.aws.bridge import Bridge
from local.plugins.aws.messages import type_of, with_type
from local.plugins.aws.provider import CallError, Provider
from local.plugins.aws.tokens import NoCounterpartError
from local.plugins.aws.values import Properties, from_struct, to_struct
from tests import aws_bridge_samples as samples

URN = "urn:pulumi:dev::p::eks:index:Cluster$aws:eks/cluster:Cluster::main"
BRIDGE_URN = "urn:pulumi:dev::p::eks:index:Cluster$aws:index/eksCluster:EksCluster::main"
PROVIDER_URN = "urn:pulumi:dev::p::pulumi:providers:aws::main"
EVERYTHING = proto.ConfigureResponse(acceptSecrets=True, acceptResources=True, acceptOutputs=True)
ZONES = "aws:index/getAvailabilityZones:getAvailabilityZones"


class FakeBridge:
    def __init__(self, folder: Path) -> None:
        self.terraform = samples.terraform(folder)
        self.asked: list[tuple[str, Any]] = []
        self.answer: Callable[[Any], Any] = lambda _: Empty()

    def call(self, method: str, request: Any) -> Any:
        self.asked.append((method, request))
        return self.answer(request)


class Refusal(grpc.RpcError, grpc.Call):
    """A failed call as gRPC raises it."""

    def __init__(self, message: str, details: bytes) -> None:
        super().__init__()
        self._message, self._details = message, details

    def initial_metadata(self) -> Any:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any:
        return None

    def cancel(self) -> Any:
        return False

    def add_callback(self, callback: Any) -> bool:
        return False

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> Any:
        return (("content-type", "application/grpc"), ("grpc-status-details-bin", self._details))


class Setting:
    def __init__(self, folder: Path) -> None:
        self.bridge = FakeBridge(folder)
        self.said: list[engine_pb2.LogRequest] = []
        sdk = samples.sdk(folder)
        self.provider = Provider(sdk, cast("Bridge", self.bridge), "7.0.0", self.said.append)

    @property
    def asked(self) -> Any:
        return self.bridge.asked[-1][1]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    made = Setting(tmp_path)
    made.bridge.answer = lambda _: EVERYTHING
    made.provider.configure(proto.ConfigureRequest(args=to_struct({"region": "us-east-1"})))
    return made


def test_the_engine_is_told_to_send_plain_values(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.bridge.answer = lambda _: proto.ConfigureResponse(
        acceptSecrets=True, acceptResources=True, acceptOutputs=True
    )
    args = to_struct({"region": "us-east-1", "defaultTags": '{"tags":{"a":"b"}}', "version": "7.0.0"})
    answer = setting.provider.configure(proto.ConfigureRequest(args=args, variables={"aws:config:region": "us-east-1"}))
    assert answer == proto.ConfigureResponse(acceptSecrets=True)
    assert from_struct(setting.asked.args) == {
        "region": "us-east-1", "defaultTags": '[{"tags": {"a": "b"}}]', "version": "7.0.0",
    }  # fmt: skip
    assert setting.asked.variables["aws:config:defaultTags"] == '[{"tags": {"a": "b"}}]'


def test_the_version_is_the_one_that_the_sdk_asks_for(setting: Setting) -> None:
    assert setting.provider.get_plugin_info(Empty()).version == "7.0.0"


def test_a_configuration_that_is_checked_stays_as_it_was_written(setting: Setting) -> None:
    failure = proto.CheckFailure(property="defaultTags[0].tags", reason="no")
    setting.bridge.answer = lambda request: proto.CheckResponse(inputs=request.news, failures=[failure])
    news = to_struct({"region": "us-east-1", "defaultTags": '{"tags":{"a":"b"}}', "tagPolicyCompliance": "x"})
    answer = setting.provider.check_config(proto.CheckRequest(urn=PROVIDER_URN, news=news))
    assert answer.inputs == news
    assert [failed.property for failed in answer.failures] == ["defaultTags.tags"]
    assert [said.message.split()[0] for said in setting.said] == ["pulumi:providers:aws.tagPolicyCompliance"]


def check(setting: Setting, news: dict[str, Any], olds: dict[str, Any] | None = None, urn: str = URN) -> dict[str, Any]:
    setting.bridge.answer = lambda request: proto.CheckResponse(inputs=request.news)
    request = proto.CheckRequest(
        urn=urn, news=to_struct(news), olds=to_struct(olds or {}), randomSeed=b"seed", name="main", type=type_of(urn)
    )
    return from_struct(setting.provider.check(request).inputs)


def test_a_check_goes_on_under_the_bridges_names(setting: Setting) -> None:
    inputs = check(setting, {"name": "c", "roleArn": "r", "logGroup": "g", "targets": [{"port": 1}]})
    assert (setting.asked.urn, setting.asked.type) == (BRIDGE_URN, "aws:index/eksCluster:EksCluster")
    assert from_struct(setting.asked.news) == {
        "name": "c", "roleArn": "r", "logGroupName": "g", "target": {"port": 1.0},
    }  # fmt: skip
    assert inputs == {"name": "c", "roleArn": "r", "logGroup": "g", "targets": [{"port": 1.0}]}


def test_what_has_no_effect_is_said_once(setting: Setting) -> None:
    for _ in range(2):
        assert check(setting, {"name": "c", "deletionProtection": True}) == {"name": "c"}
    (said,) = setting.said
    assert said.severity == engine_pb2.WARNING
    assert said.urn == URN
    assert said.message == (
        "aws:eks/cluster:Cluster.deletionProtection has no effect here: "
        "the Terraform AWS provider on this machine doesn't know it"
    )


@pytest.mark.parametrize(
    ("region", "warnings"), [("us-east-1", 0), ("04da6b54-80e4-46f7-96ec-b56ff0331ba9", 0), ("eu-west-1", 1)]
)
def test_a_resource_in_the_providers_region_is_nothing_to_speak_of(
    setting: Setting, region: str, warnings: int
) -> None:
    assert check(setting, {"name": "c", "region": region}) == {"name": "c"}
    assert len(setting.said) == warnings


def test_a_resource_without_a_name_gets_one_and_keeps_it(setting: Setting) -> None:
    first = check(setting, {"roleArn": "r"})
    assert first["name"].startswith("main-")
    assert len(first["name"]) == len("main-1234567")
    assert first["__defaults"] == ["name"]
    assert check(setting, {"roleArn": "s"}, olds=first)["name"] == first["name"]


def test_a_failure_is_about_the_sdks_property(setting: Setting) -> None:
    failure = proto.CheckFailure(
        property="certificateAuthorities[0].data", reason="aws:index/eksCluster:EksCluster refuses this"
    )
    setting.bridge.answer = lambda request: proto.CheckResponse(inputs=request.news, failures=[failure])
    answer = setting.provider.check(proto.CheckRequest(urn=URN, news=to_struct({"name": "c"})))
    assert list(answer.failures) == [
        proto.CheckFailure(property="certificateAuthority.data", reason="aws:eks/cluster:Cluster refuses this")
    ]


STATE: Properties = {
    "id": "c", "eksClusterId": "c", "certificateAuthorities": [], "identities": [{"issuer": "i"}], "logGroupName": "g",
}  # fmt: skip
SDK_STATE: Properties = {
    "id": "c", "eksClusterId": "c", "identities": [{"issuer": "i"}], "logGroup": "g", "region": "us-east-1",
    "__bridge": {"certificateAuthorities": []},
}  # fmt: skip


def test_a_created_resource_is_in_the_providers_region(setting: Setting) -> None:
    setting.bridge.answer = lambda _: proto.CreateResponse(id="c", properties=to_struct(STATE))
    answer = setting.provider.create(proto.CreateRequest(urn=URN, properties=to_struct({"delay": 5}), timeout=9))
    assert from_struct(setting.asked.properties) == {"delay": "5"}
    assert setting.asked.timeout == 9
    assert (answer.id, from_struct(answer.properties)) == ("c", SDK_STATE)


def test_a_state_goes_back_as_the_bridge_gave_it(setting: Setting) -> None:
    state = to_struct(SDK_STATE)
    setting.bridge.answer = lambda _: proto.UpdateResponse(properties=to_struct(STATE))
    setting.provider.update(proto.UpdateRequest(urn=URN, olds=state, news=to_struct({"logGroup": "h"})))
    assert from_struct(setting.asked.olds) == STATE
    assert from_struct(setting.asked.news) == {"logGroupName": "h"}
    setting.bridge.answer = lambda _: Empty()
    setting.provider.delete(proto.DeleteRequest(urn=URN, id="c", properties=state))
    assert from_struct(setting.asked.properties) == STATE


def test_a_difference_is_told_in_the_sdks_names(setting: Setting) -> None:
    kinds = proto.PropertyDiff
    setting.bridge.answer = lambda _: proto.DiffResponse(
        changes=proto.DiffResponse.DIFF_SOME,
        replaces=["logGroupName"],
        diffs=["logGroupName", "rules", "certificateAuthorities"],
        hasDetailedDiff=True,
        detailedDiff={
            "__meta": kinds(kind=kinds.UPDATE_REPLACE),
            "logGroupName": kinds(kind=kinds.UPDATE),
            "rules[0].filters[0].prefix": kinds(kind=kinds.ADD, inputDiff=True),
        },
    )
    answer = setting.provider.diff(
        proto.DiffRequest(urn=URN, olds=to_struct(SDK_STATE), ignoreChanges=["rules[0].filter.prefix"])
    )
    assert list(setting.asked.ignoreChanges) == ["rules[0].filters[0].prefix"]
    assert list(answer.replaces) == ["logGroup"]
    assert list(answer.diffs) == ["logGroup", "rules", "certificateAuthority"]
    assert dict(answer.detailedDiff) == {
        "logGroup": kinds(kind=kinds.UPDATE_REPLACE),
        "rules[0].filter.prefix": kinds(kind=kinds.ADD, inputDiff=True),
    }


def test_an_imported_resource_has_inputs_that_a_program_can_write(setting: Setting) -> None:
    inputs = {"logGroupName": "g", "eksClusterId": "c"}
    setting.bridge.answer = lambda _: proto.ReadResponse(id="c", properties=to_struct(STATE), inputs=to_struct(inputs))
    answer = setting.provider.read(proto.ReadRequest(urn=URN, id="c"))
    assert from_struct(answer.inputs) == {"logGroup": "g"}
    assert from_struct(answer.properties) == SDK_STATE


def test_a_refreshed_resource_is_still_known_to_have_been_named_here(setting: Setting) -> None:
    setting.bridge.answer = lambda request: proto.ReadResponse(
        id="c", inputs=to_struct({"name": "c", "__defaults": []})
    )
    olds = to_struct({"name": "c", "__defaults": ["name"]})
    answer = setting.provider.read(proto.ReadRequest(urn=URN, id="c", inputs=olds, properties=to_struct(SDK_STATE)))
    assert from_struct(answer.inputs) == {"name": "c", "__defaults": ["name"]}


def test_a_resource_that_is_gone_has_no_state(setting: Setting) -> None:
    setting.bridge.answer = lambda _: proto.ReadResponse()
    assert setting.provider.read(proto.ReadRequest(urn=URN, id="c")) == proto.ReadResponse(
        properties=to_struct({}), inputs=to_struct({})
    )


def test_a_function_is_called_under_the_bridges_names(setting: Setting) -> None:
    result = to_struct({"names": ["a"], "id": "us-east-1"})
    answer = proto.InvokeResponse()
    getattr(answer, "return").CopyFrom(result)
    setting.bridge.answer = lambda _: answer
    arguments = to_struct({"state": "available", "filters": [{"name": "n", "values": ["v"]}], "region": "us-east-1"})
    got = setting.provider.invoke(proto.InvokeRequest(tok=ZONES, args=arguments))
    assert from_struct(setting.asked.args) == {"state": "available", "filters": [{"name": "n", "values": ["v"]}]}
    assert from_struct(getattr(got, "return")) == {"names": ["a"], "id": "us-east-1", "region": "us-east-1"}
    assert setting.said == []


def test_a_type_without_counterpart_is_one_clear_error(setting: Setting) -> None:
    with pytest.raises(NoCounterpartError, match="aws:rds/instance:Instance is not served locally"):
        setting.provider.create(proto.CreateRequest(urn="urn:pulumi:dev::p::aws:rds/instance:Instance::db"))


def test_a_refusal_keeps_the_state_of_what_was_made_in_part(setting: Setting) -> None:
    failed = proto.ErrorResourceInitFailed(
        id="c", properties=to_struct(STATE), inputs=to_struct({"logGroupName": "g"}), reasons=[f"{BRIDGE_URN} is late"]
    )
    packed = AnyMessage()
    packed.Pack(failed)
    details = status_pb2.Status(code=2, message="aws:index/eksCluster:EksCluster", details=[packed]).SerializeToString()

    def refuse(_request: Any) -> Any:
        raise Refusal(f"creating {BRIDGE_URN}", details)

    setting.bridge.answer = refuse
    with pytest.raises(CallError) as raised:
        setting.provider.create(proto.CreateRequest(urn=URN))
    assert str(raised.value) == f"creating {URN}"
    assert raised.value.details is not None
    status = status_pb2.Status.FromString(raised.value.details)
    assert status.message == "aws:eks/cluster:Cluster"
    status.details[0].Unpack(failed)
    assert from_struct(failed.properties) == SDK_STATE
    assert from_struct(failed.inputs) == {"logGroup": "g"}
    assert list(failed.reasons) == [f"{URN} is late"]


def test_only_the_resources_own_type_is_exchanged() -> None:
    assert type_of(URN) == "aws:eks/cluster:Cluster"
    assert with_type(URN, "aws:index/eksCluster:EksCluster") == BRIDGE_URN
    assert with_type("urn:pulumi:dev::p::a:b:C::x::y", "d:e:F") == "urn:pulumi:dev::p::d:e:F::x::y"


BUCKET = Rule("bucket", 20, lower_case=True)


@pytest.mark.parametrize(
    ("rule", "request_", "expected"),
    [
        (BUCKET, Request("Models", b"s"), "models-043a718"),
        (BUCKET, Request("a-very-long-name-indeed", b"s"), "a-very-long--043a718"),
        (Rule("name", 256, prefix="alias/"), Request("key", b"s"), "alias/key-043a718"),
        (BUCKET, Request("Models", b"s", proposed="models-dev"), "models-dev"),
        (BUCKET, Request("Models", b"s", proposed="p" * 21), "models-043a718"),
        (BUCKET, Request("Models", b"s", proposed="p" * 21, is_enforced=True), "p" * 21),
    ],
)
def test_names_keep_to_the_limits_of_aws(rule: Rule, request_: Request, expected: str) -> None:
    assert autonaming.name(rule, request_, "bucket", {}, {"a": 1}) == {"a": 1, "bucket": expected}


def test_a_name_of_the_programs_own_stays() -> None:
    news = {"bucket": "mine"}
    assert autonaming.name(BUCKET, Request("x"), "bucket", {"bucket": "old", "__defaults": ["bucket"]}, news) is news


def test_no_name_is_given_where_the_stack_says_so() -> None:
    news: dict[str, Any] = {}
    assert autonaming.name(BUCKET, Request("x", is_disabled=True), "bucket", {}, news) is news


def test_a_prefix_gives_way_to_a_name_that_starts_with_it() -> None:
    named = autonaming.name(BUCKET, Request("x", b"s"), "bucket", {}, {"bucketPrefix": "pre-"})
    assert named == {"bucket": "pre-043a718"}
    olds = {**named, "__defaults": ["bucket"]}
    assert autonaming.name(BUCKET, Request("x", b"t"), "bucket", olds, {"bucketPrefix": "pre-"}) == named
    changed = autonaming.name(BUCKET, Request("x", b"s"), "bucket", olds, {"bucketPrefix": "other-"})
    assert changed == {"bucket": "other-043a718"}
