"""Where an environment lives: account, region and VPC."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from infra.section import Section, checked
from llm_serving import _cidr


class AwsSettings(Section):
    """Where the environment lives."""

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", examples=["us-east-1"])]
    """AWS region, as in us-east-1."""
    account_id: Annotated[str, Field(pattern=r"^\d{12}$", examples=["111111111111"])]
    """The 12 digits of the only AWS account that this stack may touch, in quotes."""
    s3_path_style: bool = False
    """Whether buckets are named in the path of S3 addresses, as an S3 endpoint without wildcard DNS needs."""


class ExistingNetworkSettings(Section):
    """A VPC that exists already."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]+$", examples=["vpc-0123456789abcdef0"])]
    """Id of the VPC."""
    private_subnet_ids: Annotated[list[str], Field(min_length=2)]
    """Private subnets in two zones at least."""
    public_subnet_ids: list[str] = Field(default_factory=list[str])
    """Public subnets."""


class NetworkSettings(Section):
    """The VPC: a new one, or an existing one."""

    availability_zones: list[str] = Field(default_factory=list[str])
    """Zones by name, 2 to 6. Append to the list, never reorder it. Required unless `existing` is set."""
    cidr: Annotated[str, checked(_cidr.vpc_network, "cidr")] = "10.0.0.0/16"
    """IPv4 range of the VPC, /16 to /20."""
    nat_gateways: Literal["none", "single", "per-zone"] = "per-zone"
    """How private subnets reach the internet. `single` is cheaper and fails with its zone."""
    interface_endpoints: list[str] = Field(default_factory=list[str])
    """AWS services that private subnets reach without NAT, as in ecr.api."""
    flow_logs: bool = True
    """Whether the VPC's flow logs are kept."""
    existing: ExistingNetworkSettings | None = None
    """Use this VPC instead; the other keys must then be left out."""

    def problems(self) -> Iterator[str]:
        """Check the zones and the range, or that an existing network stands alone."""
        if self.existing:
            for key in sorted(self.model_fields_set - {"existing"}):
                yield f"{to_camel(key)}: cannot be set beside existing; remove one of the two"
            return
        zones = self.availability_zones
        if not 2 <= len(zones) <= _cidr.MOST_ZONES or len(set(zones)) != len(zones):
            yield f"availabilityZones: {zones} is not a list of 2 to {_cidr.MOST_ZONES} different zones"
