"""Network: exact subnets, routes and endpoints for each mode, and the same outputs from a VPC that exists."""

import json

import pytest

from llm_serving import Network
from llm_serving.network import NetworkArgs
from tests.recording import Recording, record

ZONES = ["us-east-1a", "us-east-1b"]


def network(**args: object) -> Recording:
    return record(lambda: Network("net", NetworkArgs(**{"availability_zones": ZONES, **args})))  # type: ignore[typeddict-item]


def test_every_resource() -> None:
    assert network().types() == {
        "llm-serving:index:Network": 1,
        "aws:ec2/vpc:Vpc": 1,
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": 1,
        "aws:ec2/subnet:Subnet": 4,
        "aws:ec2/internetGateway:InternetGateway": 1,
        "aws:ec2/routeTable:RouteTable": 3,
        "aws:ec2/routeTableAssociation:RouteTableAssociation": 4,
        "aws:ec2/route:Route": 3,
        "aws:ec2/eip:Eip": 2,
        "aws:ec2/natGateway:NatGateway": 2,
        "aws:ec2/vpcEndpoint:VpcEndpoint": 1,
        "aws:kms/key:Key": 1,
        "aws:cloudwatch/logGroup:LogGroup": 1,
        "aws:iam/role:Role": 1,
        "aws:iam/rolePolicy:RolePolicy": 1,
        "aws:ec2/flowLog:FlowLog": 1,
    }


def test_subnets() -> None:
    made = network(cidr="10.1.0.0/16", cluster_name="llm")
    assert made.inputs("aws:ec2/subnet:Subnet", "net-private-us-east-1b") == {
        "vpcId": "net-vpc-id",
        "availabilityZone": "us-east-1b",
        "cidrBlock": "10.1.32.0/19",
        "mapPublicIpOnLaunch": False,
        "tags": {
            "Name": "net-private-us-east-1b",
            "kubernetes.io/cluster/llm": "shared",
            "kubernetes.io/role/internal-elb": "1",
        },
    }
    assert made.inputs("aws:ec2/subnet:Subnet", "net-public-us-east-1a") == {
        "vpcId": "net-vpc-id",
        "availabilityZone": "us-east-1a",
        "cidrBlock": "10.1.224.0/22",
        "mapPublicIpOnLaunch": False,
        "tags": {
            "Name": "net-public-us-east-1a",
            "kubernetes.io/cluster/llm": "shared",
            "kubernetes.io/role/elb": "1",
        },
    }


@pytest.mark.parametrize(
    ("mode", "gateways"),
    [
        ("none", {}),
        ("single", {"us-east-1a": "net-nat-us-east-1a-id", "us-east-1b": "net-nat-us-east-1a-id"}),
        ("per-zone", {"us-east-1a": "net-nat-us-east-1a-id", "us-east-1b": "net-nat-us-east-1b-id"}),
    ],
)
def test_nat(mode: str, gateways: dict[str, str]) -> None:
    made = network(nat_gateways=mode)
    routes = {zone: made.inputs("aws:ec2/route:Route", f"net-private-{zone}-nat")["natGatewayId"] for zone in gateways}
    assert routes == gateways
    assert len(made.names("aws:ec2/natGateway:NatGateway")) == len(set(gateways.values()))
    assert len(made.names("aws:ec2/route:Route")) == 1 + len(gateways)


def test_nat_waits_for_the_way_out() -> None:
    made = network()
    assert "net-public-internet" in made.one("aws:ec2/natGateway:NatGateway", "net-nat-us-east-1a").depends_on


def test_endpoints() -> None:
    made = network(interface_endpoints=["ecr.api"])
    assert made.inputs("aws:ec2/vpcEndpoint:VpcEndpoint", "net-s3") == {
        "vpcId": "net-vpc-id",
        "serviceName": "com.amazonaws.us-east-1.s3",
        "vpcEndpointType": "Gateway",
        "routeTableIds": ["net-private-us-east-1a-id", "net-private-us-east-1b-id"],
        "tags": {"Name": "net-s3"},
    }
    assert made.inputs("aws:ec2/vpcEndpoint:VpcEndpoint", "net-ecr.api") == {
        "vpcId": "net-vpc-id",
        "serviceName": "com.amazonaws.us-east-1.ecr.api",
        "vpcEndpointType": "Interface",
        "subnetIds": ["net-private-us-east-1a-id", "net-private-us-east-1b-id"],
        "securityGroupIds": ["net-endpoints-id"],
        "privateDnsEnabled": True,
        "tags": {"Name": "net-ecr.api"},
    }
    rule = made.inputs("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "net-endpoints-https")
    assert (rule["fromPort"], rule["toPort"], rule["cidrIpv4"]) == (443, 443, "10.0.0.0/16")


def test_flow_logs_are_encrypted_and_kept() -> None:
    made = network(flow_log_retention_days=30)
    assert made.inputs("aws:cloudwatch/logGroup:LogGroup", "net-flow-logs") == {
        "retentionInDays": 30,
        "kmsKeyId": "arn:aws:test:us-east-1:123456789012:key/net-flow-logs",
    }
    key = made.inputs("aws:kms/key:Key", "net-flow-logs")
    assert (key["enableKeyRotation"], key["deletionWindowInDays"]) == (True, 30)
    assert json.loads(key["policy"])["Statement"][1]["Principal"] == {"Service": "logs.us-east-1.amazonaws.com"}
    trust = json.loads(made.inputs("aws:iam/role:Role", "net-flow-logs")["assumeRolePolicy"])
    assert trust["Statement"][0]["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert "aws:ec2/flowLog:FlowLog" not in network(flow_logs=False).types()


def test_existing_network_creates_nothing_and_has_the_same_outputs() -> None:
    made = record(
        lambda: Network(
            "net",
            {"existing": {"vpc_id": "vpc-1", "private_subnet_ids": ["subnet-1", "subnet-2"]}},
        )
    )
    assert made.types() == {"llm-serving:index:Network": 1}
    assert made.outputs["net"] == {
        "vpcId": "vpc-1",
        "privateSubnetIds": ["subnet-1", "subnet-2"],
        "publicSubnetIds": [],
    }
    assert made.outputs["net"].keys() == network().outputs["net"].keys()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"nat_gateways": "perzone"},
            "nat_gateways: 'perzone' is not one of none, single, per-zone; nearest valid value: per-zone",
        ),
        ({"cidr": "10.0.0.0/8"}, "cidr: 10.0.0.0/8 is outside /16 to /20; nearest valid value: 10.0.0.0/16"),
        ({"cidr": "10.0.0.1/16"}, "cidr: 10.0.0.1/16 has host bits set; nearest valid value: 10.0.0.0/16"),
        ({"cidr": "here"}, "cidr: 'here' is not an IPv4 range; nearest valid value: 10.0.0.0/16"),
        (
            {"availability_zones": ["us-east-1a"]},
            (
                "availability_zones: ['us-east-1a'] is not a list of 2 to 6 different zones;"
                " EKS needs subnets in two zones"
            ),
        ),
        (
            {"existing": {"vpc_id": "vpc-1", "private_subnet_ids": []}},
            "existing: cannot be combined with availability_zones; remove one of the two",
        ),
    ],
)
def test_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        network(**args)
    assert str(caught.value) == message
