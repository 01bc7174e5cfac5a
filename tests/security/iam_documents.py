"""Turns calls into the least policy that allows them: every action by name, every resource as narrowly as it was named.

ACCOUNT, REGION and STACK stand for those of an environment. What AWS gives a resource to be known by (ids, the random
end of a name) becomes `*`; the rest of a name stays, so that a policy reaches what this program makes and little else.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Call = tuple[str, str]
"""An IAM action, and the ARN that it was for; `*` where AWS knows none."""

ACCOUNT, REGION, STACK = "ACCOUNT", "REGION", "STACK"

READS = ("Describe", "Get", "List", "Head", "BatchGet", "Lookup", "Simulate")
"""How the names of actions begin that change nothing."""

WITHOUT_REGION = ("iam", "sts", "s3")
"""Services of the account, not of a region in it."""

_RANDOM: Sequence[tuple[str, str]] = (
    # Ids of the kind vpc-0123456789abcdef0.
    (r"\b[a-z]{2,9}-[0-9a-f]{8,17}\b", "*"),
    # UUIDs, of keys and of what EKS makes.
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "*"),
    # The random end that Pulumi gives a name, and what Secrets Manager puts behind it.
    (r"-[0-9a-f]{7}(-[A-Za-z0-9]{6})?(?=$|[:/*-])", "-*"),
    # Load balancers and what belongs to them.
    (r"(?<=/)[0-9a-f]{16}(?=$|/)", "*"),
    # API Gateway's ids.
    (r"(?<=/)(?=[a-z]*[0-9])[a-z0-9]{8,10}(?=$|/)", "*"),
)


@dataclass(frozen=True)
class Implied:
    """What AWS checks besides a call's own action, or what only a later change calls; the emulator shows neither."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    reason: str
    condition: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict[str, Any])


DEPLOY = (
    Implied(("iam:PassRole",), (f"arn:aws:iam::{ACCOUNT}:role/*",), "Roles are handed to the services that take them.",
            {"StringEquals": {"iam:PassedToService": [
                "apigateway.amazonaws.com", "ec2.amazonaws.com", "eks.amazonaws.com", "pods.eks.amazonaws.com",
                "vpc-flow-logs.amazonaws.com",
            ]}}),
    Implied(("iam:CreateServiceLinkedRole",), (f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/*",),
            "A service makes its own role when an account first uses it.",
            {"StringEquals": {"iam:AWSServiceName": [
                "autoscaling.amazonaws.com", "eks.amazonaws.com", "eks-nodegroup.amazonaws.com",
                "elasticache.amazonaws.com", "elasticloadbalancing.amazonaws.com", "ops.apigateway.amazonaws.com",
            ]}}),
    Implied(("kms:CreateGrant",), (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/*",), "EKS and ElastiCache use a key by grant.",
            {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
    Implied(("kms:Decrypt", "kms:GenerateDataKey"), (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/*",),
            "Secrets Manager encrypts as its caller.",
            {"StringEquals": {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}}),
    Implied(("ec2:RunInstances",), (f"arn:aws:ec2:{REGION}:{ACCOUNT}:*/*", f"arn:aws:ec2:{REGION}::image/*"),
            "EKS checks that who makes a node group could start instances by its launch template."),
    Implied(("ec2:CreateVpcEndpointServiceConfiguration", "ec2:DeleteVpcEndpointServiceConfigurations",
             "ec2:ModifyVpcEndpointServicePermissions"), (f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc-endpoint-service/*",),
            "API Gateway makes an endpoint service for a VPC link, as its caller."),
    Implied(("ec2:DescribeVpcEndpointServiceConfigurations", "logs:CreateLogDelivery", "logs:DeleteLogDelivery",
             "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:UpdateLogDelivery"), ("*",),
            "The same for the VPC link, and for the access log of a stage: AWS knows no resource for these."),
    Implied(("eks:UpdateClusterVersion", "eks:UpdateNodegroupVersion", "eks:UpdateAddon", "eks:DescribeUpdate"),
            (f"arn:aws:eks:{REGION}:{ACCOUNT}:*/llm-serving-{STACK}*",), "A newer version, in place."),
    *(
        Implied(actions, (f"arn:aws:{resource}",), "Every resource is made with tags, and follows when they change.")
        for actions, resource in (
            (("ec2:CreateTags", "ec2:DeleteTags"), f"ec2:{REGION}:{ACCOUNT}:*/*"),
            (("eks:TagResource", "eks:UntagResource"), f"eks:{REGION}:{ACCOUNT}:*/llm-serving-{STACK}*"),
            (("elasticache:AddTagsToResource", "elasticache:RemoveTagsFromResource"),
             f"elasticache:{REGION}:{ACCOUNT}:*:*"),
            (("elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags"),
             f"elasticloadbalancing:{REGION}:{ACCOUNT}:*/*"),
            (("iam:TagRole", "iam:UntagRole"), f"iam::{ACCOUNT}:role/*"),
            (("kms:TagResource", "kms:UntagResource"), f"kms:{REGION}:{ACCOUNT}:key/*"),
            (("logs:TagResource", "logs:UntagResource"), f"logs:{REGION}:{ACCOUNT}:log-group:*"),
            (("s3:PutBucketTagging",), "s3:::models-*"),
            (("secretsmanager:TagResource", "secretsmanager:UntagResource"),
             f"secretsmanager:{REGION}:{ACCOUNT}:secret:cache-*"),
            (("sns:TagResource", "sns:UntagResource"), f"sns:{REGION}:{ACCOUNT}:monitoring-*"),
            (("apigateway:PUT", "apigateway:DELETE"), f"apigateway:{REGION}::/tags/*"),
        )
    ),
)  # fmt: skip
"""What a deployment needs besides what it was seen to call."""


def generalised(arn: str, *, account: str, region: str, stack: str) -> str:
    """Return an ARN as a pattern for every environment of this program."""
    if arn == "*":
        return arn
    head, _, rest = arn.partition(":::") if ":::" in arn else ("", "", arn)
    for pattern, replacement in _RANDOM:
        rest = re.sub(pattern, replacement, rest)
    rest = rest.replace(account, ACCOUNT).replace(f":{region}:", f":{REGION}:")
    rest = re.sub(rf"\bllm-serving-{re.escape(stack)}\b", f"llm-serving-{STACK}", rest)
    return f"{head}:::{rest}" if head else rest


def policy(calls: Iterable[Call], implied: Sequence[Implied] = ()) -> dict[str, Any]:
    """Return the policy that allows these calls, already generalised, and what they imply."""
    resources: dict[str, set[str]] = defaultdict(set)
    for action, resource in calls:
        resources[action].add(resource)
    groups: dict[tuple[str, tuple[str, ...], bool], list[str]] = defaultdict(list)
    for action, patterns in sorted(resources.items()):
        service, _, name = action.partition(":")
        in_region = "*" in patterns and not name.startswith(READS) and service not in WITHOUT_REGION
        groups[service, tuple(narrowest(patterns)), in_region].append(action)
    statements = [*_grouped(groups), *(_implied(each) for each in implied)]
    return {"Version": "2012-10-17", "Statement": statements}


def _grouped(groups: Mapping[tuple[str, tuple[str, ...], bool], list[str]]) -> Iterator[dict[str, Any]]:
    for (_, patterns, in_region), actions in sorted(groups.items()):
        statement: dict[str, Any] = {"Effect": "Allow", "Action": _one(actions), "Resource": _one(patterns)}
        if in_region:
            statement["Condition"] = {"StringEquals": {"aws:RequestedRegion": REGION}}
        yield statement


def _implied(each: Implied) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": _one(each.actions), "Resource": _one(each.resources)}
    return {**statement, "Condition": each.condition} if each.condition else statement


def _one(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def narrowest(patterns: Iterable[str]) -> list[str]:
    """Return the patterns without those that another one covers."""
    given = sorted(set(patterns))
    return [
        pattern for pattern in given if not any(pattern != other and fnmatchcase(pattern, other) for other in given)
    ]


def filled(document: Mapping[str, Any], *, account: str, region: str, stack: str) -> str:
    """Return a policy as JSON, for one environment."""
    text = json.dumps(document)
    return text.replace(ACCOUNT, account).replace(REGION, region).replace(STACK, stack)
