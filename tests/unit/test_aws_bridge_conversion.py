from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from local.plugins.aws import paths, states
from local.plugins.aws.conversion import Converter, Direction
from local.plugins.aws.pairing import Pairing, Pairings
from local.plugins.aws.shapes import ObjectShape
from local.plugins.aws.terraform import RESOURCES, object_shape
from local.plugins.aws.translation import Translation
from local.plugins.aws.values import UNKNOWN, Properties, from_struct, secret, to_struct
from tests import aws_bridge_samples as samples


@pytest.fixture
def cluster(tmp_path: Path) -> Translation:
    sdk = samples.sdk(tmp_path).resource("aws:eks/cluster:Cluster")
    bridge = samples.terraform(tmp_path).read(RESOURCES, "aws_eks_cluster").shape
    return Translation(Pairings(), sdk, bridge)


def test_properties_are_paired_by_the_attribute_behind_them(cluster: Translation) -> None:
    pairs = {pair.sdk_name: pair.bridge_name for pair in Pairing(cluster.sdk, cluster.bridge).by_sdk_name.values()}
    assert pairs == {
        "name": "name",
        "roleArn": "roleArn",
        "vpcConfig": "vpcConfig",
        "atRestEncryption": "atRestEncryption",
        "delay": "delay",
        "policy": "policy",
        "logGroup": "logGroupName",
        "endpointTypes": "endpointTypes",
        "rules": "rules",
        "targets": "target",
        "tags": "tags",
        "tagsAll": "tagsAll",
        "certificateAuthority": "certificateAuthorities",
        "identities": "identities",
    }


def test_names_given_by_hand_come_first() -> None:
    alarm = object_shape("aws_cloudwatch_metric_alarm", {"alarm_name": samples.required(samples.STRING)})
    sdk = object_shape("Alarm", {"name": samples.required(samples.STRING)})
    assert Pairing(sdk, alarm).by_sdk_name["name"].bridge_name == "alarmName"


def test_an_id_is_paired_with_nothing_but_an_id() -> None:
    bridge = object_shape("aws_x", {"id": samples.computed(samples.STRING)}, {"id": "xId"})
    assert Pairing(object_shape("X", {"x": samples.optional(samples.STRING)}), bridge).by_sdk_name == {}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"roleArn": "r"}, {"roleArn": "r"}),
        ({"vpcConfig": {"subnetIds": ["a", "b"]}}, {"vpcConfig": {"subnetIds": ["a", "b"]}}),
        ({"rules": [{"filter": {"prefix": "p"}}]}, {"rules": [{"filters": [{"prefix": "p"}]}]}),
        ({"targets": [{"port": 80.0}]}, {"target": {"port": 80.0}}),
        ({"targets": []}, {}),
        ({"endpointTypes": "REGIONAL"}, {"endpointTypes": ["REGIONAL"]}),
        ({"atRestEncryption": True, "delay": 30.0}, {"atRestEncryption": "true", "delay": "30"}),
        ({"logGroup": "g"}, {"logGroupName": "g"}),
        ({"policy": '{"a": 1}'}, {"policy": '{"a": 1}'}),
        ({"policy": {"a": [1.0]}}, {"policy": '{"a":[1]}'}),
        ({"policy": {"a": UNKNOWN}}, {"policy": UNKNOWN}),
        ({"policy": {"a": secret("s")}}, {"policy": secret('{"a":"s"}')}),
        ({"rules": UNKNOWN, "name": None}, {"rules": UNKNOWN, "name": None}),
        ({"rules": [{"filter": UNKNOWN}]}, {"rules": [{"filters": UNKNOWN}]}),
        ({"rules": secret([{"filter": {"prefix": "p"}}])}, {"rules": secret([{"filters": [{"prefix": "p"}]}])}),
        ({"tags": {"a.b/c": "d"}}, {"tags": {"a.b/c": "d"}}),
        ({"__defaults": ["name", "logGroup"]}, {"__defaults": ["name", "logGroupName"]}),
    ],
)
def test_inputs_to_the_bridge(cluster: Translation, inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    assert cluster.inputs_to_bridge(inputs) == expected


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"certificateAuthorities": [{"data": "d"}]}, {"certificateAuthority": {"data": "d"}}),
        ({"certificateAuthorities": []}, {}),
        ({"certificateAuthorities": UNKNOWN}, {"certificateAuthority": UNKNOWN}),
        ({"target": {"port": 80.0}}, {"targets": [{"port": 80.0}]}),
        ({"atRestEncryption": "true", "delay": "30"}, {"atRestEncryption": True, "delay": 30.0}),
        ({"delay": ""}, {"delay": ""}),
        ({"eksClusterId": "c"}, {}),
        ({"__defaults": ["logGroupName"]}, {"__defaults": ["logGroup"]}),
    ],
)
def test_inputs_to_the_sdk(cluster: Translation, inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    assert cluster.inputs_to_sdk(inputs) == expected


def test_what_the_bridge_lacks_is_told_with_its_path(cluster: Translation) -> None:
    told: list[tuple[str, Any]] = []
    inputs = {"deletionProtection": True, "rules": [{}, {"filter": {"prefix": "p", "new": 1.0}}]}
    converted = cluster.inputs_to_bridge(inputs, lambda path, value: told.append((path, value)))
    assert converted == {"rules": [{}, {"filters": [{"prefix": "p"}]}]}
    assert told == [("deletionProtection", True), ("rules[1].filter.new", 1.0)]


def test_a_state_comes_back_as_the_bridge_gave_it(cluster: Translation) -> None:
    state: Properties = {
        "id": "c",
        "eksClusterId": "c",
        "name": "c",
        "certificateAuthorities": [],
        "rules": [{"filters": [], "aliases": []}, {"filters": [{"prefix": ""}], "aliases": []}],
        "identities": [{"issuer": "i"}],
        "delay": "030",
        "atRestEncryption": "true",
        "target": None,
        "__meta": '{"schema_version":"1"}',
        "__pulumi_raw_state_delta": {"obj": {"renamed": {"eksClusterId": "id"}}},
    }
    converted = states.to_sdk(state, cluster.sdk, cluster.bridge, cluster.pairings)
    assert converted["rules"] == [{"aliases": []}, {"filter": {"prefix": ""}, "aliases": []}]
    assert converted["delay"] == 30.0
    assert converted["eksClusterId"] == "c"
    assert converted[states.LOST] == {
        "certificateAuthorities": [],
        "delay": "030",
        "rules": [{"filters": [], "aliases": []}, {"filters": [{"prefix": ""}], "aliases": []}],
    }
    assert states.to_bridge(converted, cluster.sdk, cluster.bridge, cluster.pairings) == state


def test_a_state_that_loses_nothing_has_nothing_beside_it(cluster: Translation) -> None:
    state = {"certificateAuthorities": [{"data": "d"}], "vpcConfig": {"subnetIds": ["a"], "vpcId": "v"}}
    converted = states.to_sdk(state, cluster.sdk, cluster.bridge, cluster.pairings)
    assert converted == {"certificateAuthority": {"data": "d"}, "vpcConfig": {"subnetIds": ["a"], "vpcId": "v"}}


TEXT = st.text(max_size=8) | st.just(UNKNOWN)
FILTERS = st.lists(st.fixed_dictionaries({"prefix": TEXT}), max_size=2)
STATES = st.fixed_dictionaries(
    {},
    optional={
        "certificateAuthorities": st.lists(st.fixed_dictionaries({"data": TEXT}), max_size=3),
        "rules": st.lists(
            st.fixed_dictionaries({}, optional={"filters": FILTERS}), max_size=3,
        ),
        "target": st.none() | st.fixed_dictionaries({"port": st.floats(allow_nan=False)}),
        "endpointTypes": st.lists(TEXT, max_size=2),
        "delay": st.none() | TEXT | st.integers().map(str),
        "atRestEncryption": st.sampled_from(["true", "false", "", "yes"]),
        "policy": TEXT.map(secret),
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectShape, ObjectShape, Pairings]:
    folder = tmp_path_factory.mktemp("shapes")
    sdk = samples.sdk(folder).resource("aws:eks/cluster:Cluster")
    return sdk, samples.terraform(folder).read(RESOURCES, "aws_eks_cluster").shape, Pairings()


@given(state=STATES)
def test_any_state_comes_back(shapes: tuple[ObjectShape, ObjectShape, Pairings], state: dict[str, Any]) -> None:
    assert states.to_bridge(states.to_sdk(state, *shapes), *shapes) == state


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name", "name"),
        ("certificateAuthorities[0].data", "certificateAuthority.data"),
        ("rules[1].filters[0].prefix", "rules[1].filter.prefix"),
        ("rules[1].filters[0]", "rules[1].filter"),
        ("target.port", "targets[0].port"),
        ("logGroupName", "logGroup"),
        ('tags["a.b/c"]', 'tags["a.b/c"]'),
        ("tags.a", "tags.a"),
        ("eksClusterId", "eksClusterId"),
    ],
)
def test_paths_to_the_sdk(cluster: Translation, path: str, expected: str) -> None:
    assert cluster.path_to_sdk(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("certificateAuthority.data", "certificateAuthorities[0].data"),
        ("rules[*].filter.prefix", "rules[*].filters[0].prefix"),
        ("targets[0].port", "target.port"),
        ("logGroup", "logGroupName"),
        ("tags", "tags"),
    ],
)
def test_paths_to_the_bridge(cluster: Translation, path: str, expected: str) -> None:
    assert cluster.paths_to_bridge([path]) == [expected]


def test_a_path_is_read_and_written_alike() -> None:
    path = 'a.b[0].c["d.e"][*]'
    assert paths.parse(path) == ["a", "b", 0, "c", "d.e", "*"]
    assert paths.render(paths.parse(path)) == path


def test_messages_hold_every_kind_of_value() -> None:
    values: Properties = {
        "text": "a",
        "number": 1.5,
        "yes": True,
        "no": False,
        "none": None,
        "list": [],
        "deep": {"a": [{}, None]},
    }
    assert from_struct(to_struct(values)) == values
    assert from_struct(Struct()) == {}


def test_a_provider_configuration_is_json_in_strings(tmp_path: Path) -> None:
    translation = Translation(
        Pairings(), samples.sdk(tmp_path).configuration, samples.terraform(tmp_path).configuration
    )
    told: list[str] = []
    converted = translation.configuration_to_bridge(
        {
            "region": "us-east-1",
            "s3UsePathStyle": "true",
            "defaultTags": '{"tags":{"a":"b"}}',
            "allowedAccountIds": secret('["1"]'),
            "tagPolicyCompliance": "x",
            "version": "7.0.0",
        },
        lambda path, _: told.append(path),
    )
    assert converted == {
        "region": "us-east-1",
        "s3UsePathStyle": "true",
        "defaultTags": '[{"tags": {"a": "b"}}]',
        "allowedAccountIds": secret('["1"]'),
        "version": "7.0.0",
    }
    assert told == ["tagPolicyCompliance"]


def test_an_unknown_configuration_stays_unknown(tmp_path: Path) -> None:
    translation = Translation(
        Pairings(), samples.sdk(tmp_path).configuration, samples.terraform(tmp_path).configuration
    )
    assert translation.configuration_to_bridge({"defaultTags": UNKNOWN}) == {"defaultTags": UNKNOWN}


def test_a_converter_goes_one_way(cluster: Translation) -> None:
    to_sdk = Converter(cluster.pairings, Direction.TO_SDK)
    assert to_sdk.properties({"logGroupName": "g"}, cluster.bridge, cluster.sdk) == {"logGroup": "g"}
