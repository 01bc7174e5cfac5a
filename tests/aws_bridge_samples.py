"""A small SDK and what a bridge says of a small Terraform provider, for the tests of the AWS plugin."""

import json
from pathlib import Path
from typing import Any

from local.plugins.aws.sdk import Sdk
from local.plugins.aws.terraform import Terraform, write_database

BOOL, INT, STRING, LIST, MAP, SET = 1, 2, 4, 5, 6, 7


def optional(kind: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "optional": True, **more}


def required(kind: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "required": True, **more}


def computed(kind: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "computed": True, **more}


def of(kind: int) -> dict[str, Any]:
    return {"element": {"schema": {"type": kind}}}


def block(**attributes: Any) -> dict[str, Any]:
    return {"element": {"resource": attributes}}


def computed_objects(**attributes: Any) -> dict[str, Any]:
    """A list of objects that is an attribute, not a block: nothing says how long it is."""
    return {"element": {"schema": {"type": MAP, "element": {"resource": attributes}}}}


CLUSTER = {
    "id": {"type": STRING, "optional": True, "computed": True},
    "name": required(STRING),
    "role_arn": required(STRING),
    "vpc_config": required(LIST, maxItems=1, **block(subnet_ids=required(SET, **of(STRING)), vpc_id=computed(STRING))),
    "certificate_authority": computed(LIST, **computed_objects(data={"type": STRING})),
    "identity": computed(LIST, **computed_objects(issuer={"type": STRING})),
    "at_rest_encryption": optional(STRING),
    "delay": optional(STRING),
    "policy": optional(STRING),
    "log_group_name": optional(STRING),
    "endpoint_types": optional(LIST, **of(STRING)),
    "rule": optional(LIST, **block(filter=optional(LIST, **block(prefix=optional(STRING))), alias=optional(LIST))),
    "target": optional(LIST, maxItems=1, **block(port=optional(INT))),
    "empty": optional(LIST, maxItems=1, element={}),
    "tags": optional(MAP, **of(STRING)),
    "tags_all": computed(MAP, **of(STRING)),
}

MAPPING: dict[str, Any] = {
    "provider": {
        "schema": {
            "region": optional(STRING),
            "default_tags": optional(LIST, **block(tags=optional(MAP, **of(STRING)))),
            "allowed_account_ids": optional(SET, **of(STRING)),
            "s3_use_path_style": optional(BOOL),
        },
        "resources": {
            "aws_eks_cluster": CLUSTER,
            "aws_instance": {"ami": optional(STRING), "instance_type": optional(STRING), "subnet_id": optional(STRING)},
            "aws_lb": {"name": optional(STRING)},
            "aws_config_aggregate_authorization": {"account_id": required(STRING), "region": optional(STRING)},
        },
        "dataSources": {
            "aws_availability_zones": {
                "id": computed(STRING),
                "state": optional(STRING),
                "filter": optional(SET, **block(name=required(STRING), values=required(SET, **of(STRING)))),
                "names": computed(LIST, **of(STRING)),
            },
        },
    },
    "resources": {
        "aws_eks_cluster": {
            "tok": "aws:index/eksCluster:EksCluster",
            "fields": {"id": {"name": "eksClusterId"}, "name": {"name": "name", "default": {"autonamed": True}}},
        },
        "aws_instance": {"tok": "aws:index/instance:Instance"},
        "aws_lb": {"tok": "aws:index/lb:Lb", "fields": {"name": {"name": "name", "default": {"autonamed": True}}}},
        "aws_config_aggregate_authorization": {"tok": "aws:index/authorization:Authorization"},
    },
    "dataSources": {"aws_availability_zones": {"tok": "aws:index/getAvailabilityZones:getAvailabilityZones"}},
}  # fmt: skip


def getters(kind: str, properties: dict[str, str], *, wrap: str = "{}") -> str:
    """A class as the SDK's generator writes it."""
    lines = [f"class {kind}:"]
    for name, annotation in properties.items():
        lines += [
            "    @_builtins.property",
            f'    @pulumi.getter(name="{name}")',
            f"    def x_{name.lower()}(self) -> {wrap.format(annotation)}:",
            '        """Text."""',
            "",
        ]
    return "\n".join([*lines, "", ""])


CLUSTER_INPUTS = {
    "name": "Optional[_builtins.str]",
    "roleArn": "_builtins.str",
    "vpcConfig": "'ClusterVpcConfigArgs'",
    "atRestEncryption": "Optional[_builtins.bool]",
    "delay": "Optional[_builtins.int]",
    "policy": "Optional[Union[_builtins.str, 'PolicyArgs']]",
    "logGroup": "Optional[_builtins.str]",
    "endpointTypes": "Optional[_builtins.str]",
    "rules": "Optional[Sequence[pulumi.Input['ClusterRuleArgs']]]",
    "targets": "Optional[Sequence[pulumi.Input['ClusterTargetArgs']]]",
    "amiType": "Optional[Union[_builtins.str, 'AmiType']]",
    "deletionProtection": "Optional[_builtins.bool]",
    "region": "Optional[_builtins.str]",
    "tags": "Optional[Mapping[str, pulumi.Input[_builtins.str]]]",
}
CLUSTER_OUTPUTS = {
    **CLUSTER_INPUTS,
    "vpcConfig": "'outputs.ClusterVpcConfig'",
    "rules": "Optional[Sequence['outputs.ClusterRule']]",
    "targets": "Optional[Sequence['outputs.ClusterTarget']]",
    "certificateAuthority": "'outputs.ClusterCertificateAuthority'",
    "identities": "Sequence['outputs.ClusterIdentity']",
    "tagsAll": "Mapping[str, _builtins.str]",
}
ZONES = """
def get_availability_zones(filters: Optional[Sequence[Union['ZoneFilterArgs', 'ZoneFilterArgsDict']]] = None,
                           region: Optional[_builtins.str] = None,
                           state: Optional[_builtins.str] = None,
                           opts: Optional[pulumi.InvokeOptions] = None) -> AwaitableGetAvailabilityZonesResult:
    __args__ = dict()
    __args__['filters'] = filters
    __args__['region'] = region
    __args__['state'] = state
    __ret__ = pulumi.runtime.invoke('aws:index/getAvailabilityZones:getAvailabilityZones', __args__, opts=opts).value
"""


def resource(token: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    name = token.rpartition(":")[2]
    return (
        getters(f"{name}Args", inputs, wrap="pulumi.Input[{}]")
        + getters(name, outputs, wrap="pulumi.Output[{}]")
        + f"        super().__init__(\n            '{token}',\n            resource_name)\n"
    )


def sdk(folder: Path) -> Sdk:
    """The small SDK, written below a folder."""
    plain = {"ami": "Optional[_builtins.str]", "instanceType": "Optional[_builtins.str]"}
    database = {"allocatedStorage": "Optional[_builtins.int]", "dbName": "Optional[_builtins.str]"}
    files = {
        "provider.py": getters(
            "ProviderArgs",
            {
                "region": "Optional[_builtins.str]",
                "defaultTags": "Optional['ProviderDefaultTagsArgs']",
                "allowedAccountIds": "Optional[Sequence[pulumi.Input[_builtins.str]]]",
                "s3UsePathStyle": "Optional[_builtins.bool]",
                "tagPolicyCompliance": "Optional[_builtins.str]",
            },
            wrap="pulumi.Input[{}]",
        ),
        "_inputs.py": getters("ProviderDefaultTagsArgs", {"tags": "Optional[Mapping[str, _builtins.str]]"})
        + getters("ZoneFilterArgs", {"name": "_builtins.str", "values": "Sequence[_builtins.str]"}),
        "outputs.py": getters("ZoneFilterResult", {"name": "_builtins.str", "values": "Sequence[_builtins.str]"}),
        "get_availability_zones.py": getters(
            "GetAvailabilityZonesResult",
            {
                "filters": "Optional[Sequence['outputs.ZoneFilterResult']]",
                "id": "_builtins.str",
                "names": "Sequence[_builtins.str]",
                "region": "_builtins.str",
                "state": "Optional[_builtins.str]",
            },
        )
        + ZONES,
        "eks/cluster.py": resource("aws:eks/cluster:Cluster", CLUSTER_INPUTS, CLUSTER_OUTPUTS),
        "eks/_inputs.py": getters("ClusterVpcConfigArgs", {"subnetIds": "Sequence[pulumi.Input[_builtins.str]]"})
        + getters("ClusterRuleArgs", {"filter": "Optional['ClusterRuleFilterArgs']"})
        + getters("ClusterRuleFilterArgs", {"prefix": "Optional[_builtins.str]"})
        + getters("ClusterTargetArgs", {"port": "Optional[_builtins.int]"}),
        "eks/outputs.py": getters(
            "ClusterVpcConfig", {"subnetIds": "Sequence[_builtins.str]", "vpcId": "Optional[_builtins.str]"}
        )
        + getters("ClusterRule", {"filter": "Optional['outputs.ClusterRuleFilter']"})
        + getters("ClusterRuleFilter", {"prefix": "Optional[_builtins.str]"})
        + getters("ClusterTarget", {"port": "Optional[_builtins.int]"})
        + getters("ClusterCertificateAuthority", {"data": "Optional[_builtins.str]"})
        + getters("ClusterIdentity", {"issuer": "Optional[_builtins.str]"}),
        "ec2/instance.py": resource("aws:ec2/instance:Instance", plain, plain),
        "rds/instance.py": resource("aws:rds/instance:Instance", database, database),
        "lb/load_balancer.py": resource(
            "aws:lb/loadBalancer:LoadBalancer", {"name": "Optional[_builtins.str]"}, {"name": "_builtins.str"}
        ),
    }  # fmt: skip
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sdk(folder)


def terraform(folder: Path) -> Terraform:
    """The small Terraform provider, as the bridge described it."""
    database = folder / "types.sqlite"
    write_database(database, json.dumps(MAPPING).encode())
    return Terraform(database)
