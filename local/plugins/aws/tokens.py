"""Which Terraform resource or data source stands behind each token of the SDK.

By rule: `aws:eks/nodeGroup:NodeGroup` is the one whose name, plainly spelled, is its module and name (`eksnodegroup`)
or its name alone (`vpc`). The tables hold what the rule can't know: modules and resources that Pulumi named anew.
"""

import threading

from local.plugins.aws.naming import plain, plural
from local.plugins.aws.sdk import Sdk, UnknownTokenError
from local.plugins.aws.shapes import ObjectShape
from local.plugins.aws.terraform import FUNCTIONS, RESOURCES, Terraform, TerraformType

_MODULES = {
    "alb": ["lb"],
    "amp": ["prometheus"],
    "bcmdata": ["bcmdataexports"],
    "cfg": ["config", "config_configuration"],
    "cloudcontrol": ["cloudcontrolapi"],
    "costexplorer": ["ce"],
    "directconnect": ["dx"],
    "ec2": ["vpc"],
    "ec2transitgateway": ["ec2"],
    "iam": ["iam_user"],
    "macie": ["macie2"],
    "mediaconvert": ["media_convert"],
    "opensearchingest": ["osis"],
    "rds": ["db", "db_instance"],
    "resourceexplorer": ["resourceexplorer2"],
    "route53recoverycontrol": ["route53recoverycontrolconfig"],
    "s3": ["s3_bucket"],
    "serverlessrepository": ["serverlessapplicationrepository"],
    "ses": ["ses_domain"],
    "sns": ["sns_topic"],
    "sqs": ["sqs_queue"],
}
"""What Terraform calls a module of the SDK, beside the module's own name."""

_RENAMED = {
    "aws:alb/loadBalancer:LoadBalancer": "aws_lb",
    "aws:apigateway/response:Response": "aws_api_gateway_gateway_response",
    "aws:autoscaling/tag:Tag": "aws_autoscaling_group_tag",
    "aws:cfg/rule:Rule": "aws_config_config_rule",
    "aws:cloudtrail/trail:Trail": "aws_cloudtrail",
    "aws:codepipeline/pipeline:Pipeline": "aws_codepipeline",
    "aws:cognito/identityPoolRoleAttachment:IdentityPoolRoleAttachment": "aws_cognito_identity_pool_roles_attachment",
    "aws:ec2/dedicatedHost:DedicatedHost": "aws_ec2_host",
    "aws:ec2/networkInterfaceSecurityGroupAttachment:NetworkInterfaceSecurityGroupAttachment": (
        "aws_network_interface_sg_attachment"
    ),
    "aws:ec2/securityGroupAssociation:SecurityGroupAssociation": "aws_vpc_endpoint_security_group_association",
    "aws:ec2/vpcEndpointServiceAllowedPrinciple:VpcEndpointServiceAllowedPrinciple": (
        "aws_vpc_endpoint_service_allowed_principal"
    ),
    "aws:elb/loadBalancer:LoadBalancer": "aws_elb",
    "aws:lb/loadBalancer:LoadBalancer": "aws_lb",
    "aws:s3/bucketObjectv2:BucketObjectv2": "aws_s3_object",
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": "aws_s3_bucket_replication_configuration",
    "aws:alb/getLoadBalancer:getLoadBalancer": "aws_lb",
    "aws:apigateway/getKey:getKey": "aws_api_gateway_api_key",
    "aws:ec2/getDedicatedHost:getDedicatedHost": "aws_ec2_host",
    "aws:ec2/getElasticIp:getElasticIp": "aws_eip",
    "aws:elb/getLoadBalancer:getLoadBalancer": "aws_elb",
    "aws:lb/getLoadBalancer:getLoadBalancer": "aws_lb",
}
"""Resources and functions that share no name with Terraform's."""

_LIKENESS = 0.5
"""The share of properties that two types of one name must share to be the same. The lowest that is right is 0.56 (NAT
gateways, to which the SDK's version added much), the highest that is wrong 0.02 (a database, a virtual machine)."""


class NoCounterpartError(Exception):
    """Nothing stands behind a token. The message says so to the user."""

    def __init__(self, token: str) -> None:
        super().__init__(
            f"{token} is not served locally: the Terraform AWS provider on this machine has no counterpart of it"
        )


class Tokens:
    """Pairs the SDK's tokens with Terraform's names."""

    def __init__(self, sdk: Sdk, terraform: Terraform) -> None:
        self._sdk = sdk
        self._terraform = terraform
        self._plain = {kind: {plain(name.removeprefix("aws_")): name for name in terraform.names(kind)}
                       for kind in (RESOURCES, FUNCTIONS)}  # fmt: skip
        self._lock = threading.RLock()
        self._found: dict[str, tuple[ObjectShape, TerraformType]] = {}

    def resource(self, token: str) -> tuple[ObjectShape, TerraformType]:
        """A resource as the SDK has it and as Terraform has it. Raises NoCounterpartError."""
        return self._pair(token, RESOURCES)

    def function(self, token: str) -> tuple[ObjectShape, TerraformType]:
        """A function as the SDK has it and the data source behind it. Raises NoCounterpartError."""
        return self._pair(token, FUNCTIONS)

    def _pair(self, token: str, kind: str) -> tuple[ObjectShape, TerraformType]:
        with self._lock:
            if token not in self._found:
                try:
                    shape = self._sdk.resource(token) if kind == RESOURCES else self._sdk.function(token)
                except UnknownTokenError:
                    raise NoCounterpartError(token) from None
                self._found[token] = shape, self._counterpart(token, kind, shape)
            return self._found[token]

    def _counterpart(self, token: str, kind: str, shape: ObjectShape) -> TerraformType:
        known = self._plain[kind]
        if renamed := _RENAMED.get(token):
            return self._terraform.read(kind, renamed)
        _, path, name = token.split(":")
        module = path.split("/")[0]
        name = plain(name.removeprefix("get") if kind == FUNCTIONS else name)
        # The older S3 resources are still there under names of their own.
        for spelling in (name, name.removesuffix("v2")) if module == "s3" else (name,):
            for prefix in (module, *_MODULES.get(module, ())):
                if found := known.get(plain(prefix) + spelling):
                    return self._terraform.read(kind, found)
            if found := known.get(spelling):
                candidate = self._terraform.read(kind, found)
                if likeness(shape, candidate) >= _LIKENESS:
                    return candidate
        raise NoCounterpartError(token)


def likeness(shape: ObjectShape, candidate: TerraformType) -> float:
    """The share of a type's properties that a Terraform type has, less those that nearly every type has."""
    names = {plain(name) for name in shape.properties} - {"arn", "id", "name", "region", "tags", "tagsall"}
    attributes = {spelling for name in candidate.attributes for spelling in (plain(name), plain(plural(name)))}
    return len(names & attributes) / len(names) if names else 1.0
