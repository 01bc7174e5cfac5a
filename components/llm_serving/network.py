"""The network of an environment: a VPC of our own, or the one that the caller has."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _checks, _cidr, _iam
from llm_serving._keys import encryption_key

NAT_MODES = ("none", "single", "per-zone")


class ExistingNetworkArgs(TypedDict):
    """A VPC that exists already. It must route its private subnets to the AWS services that nodes need."""

    vpc_id: pulumi.Input[str]
    """Id of the VPC."""
    private_subnet_ids: Sequence[pulumi.Input[str]]
    """Subnets for nodes, pods and the internal load balancer, in two zones at least."""
    public_subnet_ids: NotRequired[Sequence[pulumi.Input[str]]]
    """Subnets for load balancers that face the internet. Default: none."""


class NetworkArgs(TypedDict):
    """Arguments of `Network`."""

    availability_zones: NotRequired[Sequence[str]]
    """Zones by name, one private and one public subnet each; 2 to 6. Append to the list, never reorder it."""
    cidr: NotRequired[str]
    """IPv4 range of the VPC, /16 to /20. Default: 10.0.0.0/16."""
    cluster_name: NotRequired[str]
    """Name of the EKS cluster that uses the subnets; tags them for its load balancers. Default: no tag."""
    existing: NotRequired[ExistingNetworkArgs]
    """Use this VPC and create nothing. Excludes every other argument."""
    flow_logs: NotRequired[bool]
    """Whether the VPC's flow logs are kept, encrypted, in CloudWatch. Default: true."""
    flow_log_retention_days: NotRequired[int]
    """Days that flow logs are kept, one of the periods that CloudWatch offers. Default: 90."""
    interface_endpoints: NotRequired[Sequence[str]]
    """AWS services reached without NAT, as in `ecr.api`; each costs per zone and hour. Default: none."""
    nat_gateways: NotRequired[str]
    """`none`, `single` (one for all zones) or `per-zone`. Default: per-zone."""


class Network(pulumi.ComponentResource):
    """A VPC with a private and a public subnet in each zone, an S3 endpoint, NAT, and flow logs.

    Raises ValueError at construction for a range, zone list or NAT mode that cannot work.
    """

    vpc_id: pulumi.Output[str]
    """Id of the VPC."""
    private_subnet_ids: pulumi.Output[Sequence[str]]
    """Subnets for nodes, pods and internal load balancers, in the order of the zones."""
    public_subnet_ids: pulumi.Output[Sequence[str]]
    """Subnets for what faces the internet, in the order of the zones; empty where a given VPC has none."""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:Network", name, {}, opts)
        self._name = name
        existing = args.get("existing")
        if existing:
            others = sorted(set(args) - {"existing"})
            if others:
                raise ValueError(f"existing: cannot be combined with {', '.join(others)}; remove one of the two")
            self.vpc_id = pulumi.Output.from_input(existing["vpc_id"])
            self.private_subnet_ids = pulumi.Output.all(*existing["private_subnet_ids"])
            self.public_subnet_ids = pulumi.Output.all(*existing.get("public_subnet_ids", []))
        else:
            self._create(args)
        self.register_outputs(
            {
                "vpcId": self.vpc_id,
                "privateSubnetIds": self.private_subnet_ids,
                "publicSubnetIds": self.public_subnet_ids,
            }
        )

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on))

    def _create(self, args: NetworkArgs) -> None:
        zones = list(args.get("availability_zones", []))
        if not 2 <= len(zones) <= _cidr.MOST_ZONES or len(set(zones)) != len(zones):
            raise ValueError(
                f"availability_zones: {zones} is not a list of 2 to {_cidr.MOST_ZONES} different zones;"
                " EKS needs subnets in two zones"
            )
        cidr = args.get("cidr", "10.0.0.0/16")
        nat = _checks.one_of("nat_gateways", args.get("nat_gateways", "per-zone"), NAT_MODES)
        plan = dict(zip(zones, _cidr.zone_subnets(cidr, len(zones)), strict=True))

        vpc = aws.ec2.Vpc(
            f"{self._name}-vpc",
            cidr_block=cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": self._name},
            opts=self._child(),
        )
        self.vpc_id = vpc.id
        # Nothing of ours uses the default security group: empty, it cannot be used by mistake (control EC2.2).
        aws.ec2.DefaultSecurityGroup(f"{self._name}-default", vpc_id=vpc.id, opts=self._child())
        owner = {f"kubernetes.io/cluster/{args['cluster_name']}": "shared"} if "cluster_name" in args else {}
        public = self._subnets(
            vpc, "public", {z: s.public for z, s in plan.items()}, {**owner, "kubernetes.io/role/elb": "1"}
        )
        private = self._subnets(
            vpc,
            "private",
            {z: s.private for z, s in plan.items()},
            {**owner, "kubernetes.io/role/internal-elb": "1"},
        )
        tables = self._routes(vpc, public, private, nat)
        self._endpoints(vpc, private, tables, args.get("interface_endpoints", []))
        if args.get("flow_logs", True):
            self._flow_logs(
                vpc, _checks.retention_days("flow_log_retention_days", args.get("flow_log_retention_days", 90))
            )
        self.public_subnet_ids = pulumi.Output.all(*[subnet.id for subnet in public.values()])
        self.private_subnet_ids = pulumi.Output.all(*[subnet.id for subnet in private.values()])

    def _subnets(
        self, vpc: aws.ec2.Vpc, tier: str, cidrs: Mapping[str, str], tags: Mapping[str, str]
    ) -> dict[str, aws.ec2.Subnet]:
        return {
            zone: aws.ec2.Subnet(
                f"{self._name}-{tier}-{zone}",
                vpc_id=vpc.id,
                availability_zone=zone,
                cidr_block=cidr,
                map_public_ip_on_launch=False,
                tags={**tags, "Name": f"{self._name}-{tier}-{zone}"},
                opts=self._child(),
            )
            for zone, cidr in cidrs.items()
        }

    def _routes(
        self,
        vpc: aws.ec2.Vpc,
        public: Mapping[str, aws.ec2.Subnet],
        private: Mapping[str, aws.ec2.Subnet],
        nat: str,
    ) -> list[aws.ec2.RouteTable]:
        """Route public subnets to the internet, private ones to a NAT gateway; return the private tables."""
        gateway = aws.ec2.InternetGateway(
            f"{self._name}-internet", vpc_id=vpc.id, tags={"Name": self._name}, opts=self._child()
        )
        table = self._table(vpc, "public", public)
        outward = aws.ec2.Route(
            f"{self._name}-public-internet",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=self._child(),
        )
        nat_zones = {"none": [], "single": list(public)[:1], "per-zone": list(public)}[nat]
        nats = {zone: self._nat(zone, public[zone], outward) for zone in nat_zones}
        tables: list[aws.ec2.RouteTable] = []
        for zone, subnet in private.items():
            # A table a zone even with one NAT gateway or none, so that the mode can change without new tables.
            zone_table = self._table(vpc, f"private-{zone}", {zone: subnet}, tier="private")
            if nats:
                aws.ec2.Route(
                    f"{self._name}-private-{zone}-nat",
                    route_table_id=zone_table.id,
                    destination_cidr_block="0.0.0.0/0",
                    nat_gateway_id=nats.get(zone, next(iter(nats.values()))).id,
                    opts=self._child(),
                )
            tables.append(zone_table)
        return tables

    def _table(
        self, vpc: aws.ec2.Vpc, suffix: str, subnets: Mapping[str, aws.ec2.Subnet], tier: str = "public"
    ) -> aws.ec2.RouteTable:
        table = aws.ec2.RouteTable(
            f"{self._name}-{suffix}",
            vpc_id=vpc.id,
            tags={"Name": f"{self._name}-{suffix}"},
            opts=self._child(),
        )
        for zone, subnet in subnets.items():
            aws.ec2.RouteTableAssociation(
                f"{self._name}-{tier}-{zone}",
                route_table_id=table.id,
                subnet_id=subnet.id,
                opts=self._child(),
            )
        return table

    def _nat(self, zone: str, subnet: aws.ec2.Subnet, outward: aws.ec2.Route) -> aws.ec2.NatGateway:
        tags = {"Name": f"{self._name}-{zone}"}
        address = aws.ec2.Eip(f"{self._name}-nat-{zone}", domain="vpc", tags=tags, opts=self._child())
        # The gateway is of no use, and may fail to start, before its subnet reaches the internet.
        return aws.ec2.NatGateway(
            f"{self._name}-nat-{zone}",
            allocation_id=address.id,
            subnet_id=subnet.id,
            tags=tags,
            opts=self._child(outward),
        )

    def _endpoints(
        self,
        vpc: aws.ec2.Vpc,
        private: Mapping[str, aws.ec2.Subnet],
        tables: Sequence[aws.ec2.RouteTable],
        services: Sequence[str],
    ) -> None:
        """Reach S3 through the route tables, at no cost, and each of `services` through private addresses."""
        region = aws.get_region_output(opts=pulumi.InvokeOptions(parent=self)).region
        aws.ec2.VpcEndpoint(
            f"{self._name}-s3",
            vpc_id=vpc.id,
            service_name=pulumi.Output.concat("com.amazonaws.", region, ".s3"),
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables],
            tags={"Name": f"{self._name}-s3"},
            opts=self._child(),
        )
        if not services:
            return
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            description="HTTPS from this VPC to the AWS service endpoints in it",
            vpc_id=vpc.id,
            tags={"Name": f"{self._name}-endpoints"},
            opts=self._child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-endpoints-https",
            description="HTTPS from this VPC",
            security_group_id=group.id,
            cidr_ipv4=vpc.cidr_block,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            opts=self._child(),
        )
        for service in services:
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service}",
                vpc_id=vpc.id,
                service_name=pulumi.Output.concat("com.amazonaws.", region, ".", service),
                vpc_endpoint_type="Interface",
                subnet_ids=[subnet.id for subnet in private.values()],
                security_group_ids=[group.id],
                private_dns_enabled=True,
                tags={"Name": f"{self._name}-{service}"},
                opts=self._child(),
            )

    def _flow_logs(self, vpc: aws.ec2.Vpc, retention_days: int) -> None:
        key = encryption_key(f"{self._name}-flow-logs", f"Flow logs of {self._name}", parent=self, log_groups=True)
        group = aws.cloudwatch.LogGroup(
            f"{self._name}-flow-logs",
            retention_in_days=retention_days,
            kms_key_id=key.arn,
            opts=self._child(),
        )
        account = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(parent=self)).account_id
        role = aws.iam.Role(
            f"{self._name}-flow-logs",
            description=f"Writes the flow logs of {self._name}",
            assume_role_policy=account.apply(lambda own: _iam.service_trust("vpc-flow-logs.amazonaws.com", own)),
            opts=self._child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-flow-logs",
            role=role.name,
            policy=group.arn.apply(_iam.write_logs),
            opts=self._child(),
        )
        aws.ec2.FlowLog(
            f"{self._name}-flow-logs",
            vpc_id=vpc.id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=600,
            tags={"Name": f"{self._name}-flow-logs"},
            opts=self._child(policy),
        )
