from pathlib import Path

import pytest

from local.plugins.aws.naming import camel, plain, plural, snake
from local.plugins.aws.schema import package_schema
from local.plugins.aws.sdk import UnknownTokenError
from local.plugins.aws.shapes import ANY, BOOLEAN, NUMBER, STRING, ListOf, MapOf, ObjectShape, Shape
from local.plugins.aws.terraform import FUNCTIONS, RESOURCES, bridge_name
from local.plugins.aws.tokens import NoCounterpartError, Tokens
from tests import aws_bridge_samples as samples


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("subnet_id", "subnet_ids"),
        ("certificate_authority", "certificate_authorities"),
        ("policy", "policies"),
        ("key", "keys"),
        ("ingress", "ingresses"),
        ("egress", "egresses"),
        ("alias", "aliases"),
        ("status", "statuses"),
        ("index", "indices"),
        ("tags", "tags"),
        ("person", "people"),
        ("cache", "caches"),
        ("target_cache", "target_caches"),
        ("media", "media"),
        ("analysis", "analyses"),
    ],
)
def test_plural_of_an_attribute_name(word: str, expected: str) -> None:
    assert plural(word) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vpc_config", "vpcConfig"), ("s3_use_path_style", "s3UsePathStyle"), ("ipv6_cidr_block", "ipv6CidrBlock")],
)
def test_camel_case_of_an_attribute_name(name: str, expected: str) -> None:
    assert camel(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("RestApi", "rest_api"), ("fargateProfile", "fargate_profile"), ("IPSet", "ip_set")]
)
def test_snake_case_of_a_name(name: str, expected: str) -> None:
    assert snake(name) == expected


def test_plain_spelling_ignores_case_and_underscores() -> None:
    assert plain("Eks_nodeGroup") == "eksnodegroup"


def test_the_bridge_pluralizes_lists_unless_they_hold_one_or_a_sibling_has_the_name() -> None:
    listed = {"type": samples.LIST}
    assert bridge_name("rule", listed, {"rule": listed}) == "rules"
    assert bridge_name("rule", {**listed, "maxItems": 1}, {}) == "rule"
    assert bridge_name("rule", listed, {"rule": listed, "rules": {"type": samples.STRING}}) == "rule"
    assert bridge_name("rule", {"type": samples.MAP}, {}) == "rule"


def described(shape: Shape) -> object:
    match shape:
        case ObjectShape():
            return {name: described(found.shape) for name, found in shape.properties.items()}
        case ListOf(element=element):
            return [described(element)]
        case MapOf(element=element):
            return {"*": described(element)}
        case scalar:
            return scalar.kind.value


def test_the_bridge_shapes_of_a_resource(tmp_path: Path) -> None:
    resource = samples.terraform(tmp_path).read(RESOURCES, "aws_eks_cluster")
    assert resource.token == "aws:index/eksCluster:EksCluster"
    assert resource.autonamed == {"name"}
    assert described(resource.shape) == {
        "eksClusterId": "string",
        "name": "string",
        "roleArn": "string",
        "vpcConfig": {"subnetIds": ["string"], "vpcId": "string"},
        "certificateAuthorities": [{"data": "string"}],
        "identities": [{"issuer": "string"}],
        "atRestEncryption": "string",
        "delay": "string",
        "policy": "string",
        "logGroupName": "string",
        "endpointTypes": ["string"],
        "rules": [{"filters": [{"prefix": "string"}], "aliases": [{}]}],
        "target": {"port": "number"},
        "empty": {},
        "tags": {"*": "string"},
        "tagsAll": {"*": "string"},
    }
    properties = resource.shape.properties
    assert properties["roleArn"].attribute == "role_arn"
    assert properties["roleArn"].is_required
    assert not properties["certificateAuthorities"].is_input


def test_the_types_are_listed_by_kind_and_read_once(tmp_path: Path) -> None:
    terraform = samples.terraform(tmp_path)
    assert terraform.names(FUNCTIONS) == ["aws_availability_zones"]
    assert terraform.read(RESOURCES, "aws_lb") is terraform.read(RESOURCES, "aws_lb")
    assert list(terraform.configuration.properties) == ["region", "defaultTags", "allowedAccountIds", "s3UsePathStyle"]
    with pytest.raises(KeyError):
        terraform.read(RESOURCES, "aws_nothing")


def test_the_sdk_shapes_of_a_resource(tmp_path: Path) -> None:
    shape = samples.sdk(tmp_path).resource("aws:eks/cluster:Cluster")
    assert described(shape) == {
        "name": "string",
        "roleArn": "string",
        "vpcConfig": {"subnetIds": ["string"], "vpcId": "string"},
        "atRestEncryption": "boolean",
        "delay": "number",
        "policy": "string",
        "logGroup": "string",
        "endpointTypes": "string",
        "rules": [{"filter": {"prefix": "string"}}],
        "targets": [{"port": "number"}],
        "amiType": "string",
        "deletionProtection": "boolean",
        "region": "string",
        "tags": {"*": "string"},
        "certificateAuthority": {"data": "string"},
        "identities": [{"issuer": "string"}],
        "tagsAll": {"*": "string"},
    }
    properties = shape.properties
    assert (properties["roleArn"].is_input, properties["roleArn"].is_required) == (True, True)
    assert (properties["name"].is_input, properties["name"].is_required) == (True, False)
    assert not properties["certificateAuthority"].is_input


def test_the_sdk_shapes_of_a_function_are_its_arguments_and_its_result(tmp_path: Path) -> None:
    shape = samples.sdk(tmp_path).function("aws:index/getAvailabilityZones:getAvailabilityZones")
    assert described(shape) == {
        "filters": [{"name": "string", "values": ["string"]}],
        "region": "string",
        "state": "string",
        "id": "string",
        "names": ["string"],
    }
    assert [name for name, found in shape.properties.items() if found.is_input] == ["filters", "region", "state"]


def test_a_token_that_the_sdk_lacks(tmp_path: Path) -> None:
    with pytest.raises(UnknownTokenError):
        samples.sdk(tmp_path).resource("aws:eks/nothing:Nothing")


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(samples.sdk(tmp_path), samples.terraform(tmp_path))


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("aws:eks/cluster:Cluster", "aws_eks_cluster"),  # its module and its name
        ("aws:ec2/instance:Instance", "aws_instance"),  # its name alone
        ("aws:lb/loadBalancer:LoadBalancer", "aws_lb"),  # named anew
    ],
)
def test_the_counterpart_of_a_token(tokens: Tokens, token: str, expected: str) -> None:
    shape, terraform = tokens.resource(token)
    assert terraform.name == expected
    assert shape is tokens.resource(token)[0]


def test_the_counterpart_of_a_function(tokens: Tokens) -> None:
    assert tokens.function("aws:index/getAvailabilityZones:getAvailabilityZones")[1].name == "aws_availability_zones"


@pytest.mark.parametrize("token", ["aws:rds/instance:Instance", "aws:eks/nothing:Nothing"])
def test_what_shares_only_a_name_is_no_counterpart(tokens: Tokens, token: str) -> None:
    with pytest.raises(NoCounterpartError, match=f"{token} is not served locally"):
        tokens.resource(token)


def test_the_schema_holds_what_is_served(tmp_path: Path, tokens: Tokens) -> None:
    schema = package_schema(samples.sdk(tmp_path), tokens, "7.0.0")
    assert list(schema["resources"]) == [
        "aws:ec2/instance:Instance", "aws:eks/cluster:Cluster", "aws:lb/loadBalancer:LoadBalancer",
    ]  # fmt: skip
    cluster = schema["resources"]["aws:eks/cluster:Cluster"]
    assert cluster["requiredInputs"] == ["roleArn", "vpcConfig"]
    assert "certificateAuthority" not in cluster["inputProperties"]
    assert cluster["properties"]["tags"] == {"type": "object", "additionalProperties": {"type": "string"}}
    reference = cluster["properties"]["vpcConfig"]["$ref"]
    assert reference == "#/types/aws:eks/ClusterVpcConfig:ClusterVpcConfig"
    assert schema["types"]["aws:eks/ClusterVpcConfig:ClusterVpcConfig"] == {
        "type": "object",
        "properties": {"subnetIds": {"type": "array", "items": {"type": "string"}}, "vpcId": {"type": "string"}},
        "required": ["subnetIds"],
    }
    zones = schema["functions"]["aws:index/getAvailabilityZones:getAvailabilityZones"]
    assert list(zones["inputs"]["properties"]) == ["filters", "region", "state"]
    assert "names" in zones["outputs"]["properties"]


def test_scalars_are_told_apart() -> None:
    assert len({ANY, BOOLEAN, NUMBER, STRING}) == 4
