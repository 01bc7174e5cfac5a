"""Turns calls into the least policy that allows them: every action by name, every resource as narrowly as it was named.

ACCOUNT, REGION and STACK stand for those of an environment, DOMAIN and ZONE for its domain name and that name's hosted
zone. What AWS gives a resource to be known by (ids, the random
end of a name) becomes `*`; the rest of a name stays, so that a policy reaches what this program makes and little else.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

Call = tuple[str, str]
"""An IAM action, and the ARN that it was for; `*` where AWS knows none."""

ACCOUNT, REGION, STACK, DOMAIN, ZONE = "ACCOUNT", "REGION", "STACK", "DOMAIN", "ZONE"

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
    # API Gateway's ids.
    (r"(?<=/)(?=[a-z]*[0-9])[a-z0-9]{8,10}(?=$|/)", "*"),
)

_FAMILIES: Sequence[tuple[str, str]] = (
    # AWS checks every resource that a call is about, where the emulator names one of them: the subnet of a NAT gateway,
    # but not its address. What is left of these names says nothing anyway. Service Authorization Reference,
    # https://docs.aws.amazon.com/service-authorization/latest/reference/ with list_amazonec2.html,
    # list_awselasticloadbalancingv2.html, list_amazonelasticache.html and list_amazonapigatewaymanagement.html.
    (r"(arn:aws:ec2:REGION:ACCOUNT:).*", r"\1*/*"),
    (r"(arn:aws:elasticloadbalancing:REGION:ACCOUNT:)[a-z]+/(?:net/)?gateway-.*", r"\1*/gateway-*"),
    (r"(arn:aws:elasticache:REGION:ACCOUNT:).*", r"\1*:cache-*"),
    # One domain name, by its own name, and what is below it.
    (r"(arn:aws:apigateway:REGION::/domainnames/DOMAIN)", r"\1"),
    (r"(arn:aws:apigateway:REGION::/domainnames/DOMAIN)/.*", r"\1/*"),
    (r"(arn:aws:apigateway:REGION::/[a-z]+)/.*", r"\1/*"),
    (r"(arn:aws:wafv2:REGION:ACCOUNT:regional/)(?:webacl|ipset)/api-.*", r"\1*/api-*"),
    # Models and images have names of their own in every stack.
    (r"(arn:aws:iam::ACCOUNT:role/).*-pods-\*", r"\1*-pods-*"),
    (r"(arn:aws:ecr:REGION:ACCOUNT:repository/).*", r"\1*"),
    (r"(arn:aws:logs:REGION:ACCOUNT:log-group:/aws/)[a-z]+/llm-serving-STACK/.*", r"\1*/llm-serving-STACK/*"),
    (r"(arn:aws:logs:REGION:ACCOUNT:log-group:API-Gateway-Execution-Logs_).*", r"\1*"),
)
"""What stands for a whole family of resources."""

_CLUSTER = f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/llm-serving-{STACK}"
_CLUSTERS_OWN = f"arn:aws:eks:{REGION}:{ACCOUNT}:*/llm-serving-{STACK}/*"
"""AWS names the node group, add-on, access entry or Pod Identity association where the emulator names its cluster
(Service Authorization Reference, list_amazonelastickubernetesservice.html)."""

_DOMAIN = f"arn:aws:apigateway:{REGION}::/domainnames/{DOMAIN}"
_STAGES = f"arn:aws:apigateway:{REGION}::/restapis/*/stages/*"

_UNSCOPED = ("ec2:Describe", "elasticloadbalancing:Describe")
"""How the names of actions begin for which AWS knows no resource: a policy that names one doesn't allow them."""


@dataclass(frozen=True)
class Implied:
    """What AWS checks besides a call's own action, or what only a later change calls; the emulator shows neither."""

    actions: tuple[str, ...]
    resources: Sequence[str]
    reason: str
    condition: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict[str, Any])
    like: str = ""
    """An action: these are allowed on what that one was seen on, and not at all where it wasn't seen."""


_TAGS = "Every resource is made with tags, and follows when they change."

DEPLOY = (
    Implied(("iam:PassRole",), (), "The roles that it makes are handed to the services that take them.",
            {"StringEquals": {"iam:PassedToService": [
                "apigateway.amazonaws.com", "ec2.amazonaws.com", "eks.amazonaws.com", "pods.eks.amazonaws.com",
                "vpc-flow-logs.amazonaws.com",
            ]}}, like="iam:CreateRole"),
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
    Implied(("ec2:DescribeVpcEndpointServiceConfigurations",), ("*",), "The same: AWS knows no resource for it."),
    Implied(("logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:GetLogDelivery", "logs:ListLogDeliveries",
             "logs:UpdateLogDelivery"), ("*",), "The access log of a stage: AWS knows no resource for these."),
    *(
        Implied(actions, (), "What changes in place when a setting or a version does.", like=like)
        for like, actions in (
            ("eks:CreateCluster", (
                "eks:DescribeUpdate", "eks:UpdateAccessEntry", "eks:UpdateAddon", "eks:UpdateClusterConfig",
                "eks:UpdateClusterVersion", "eks:UpdateNodegroupConfig", "eks:UpdateNodegroupVersion",
            )),
            ("elasticache:CreateReplicationGroup", (
                "elasticache:DecreaseReplicaCount", "elasticache:IncreaseReplicaCount",
                "elasticache:ModifyReplicationGroup",
            )),
            ("elasticloadbalancing:CreateListener", ("elasticloadbalancing:ModifyListener",)),
        )
    ),
    Implied(("ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplateVersions", "ec2:ModifyLaunchTemplate"),
            (f"arn:aws:ec2:{REGION}:{ACCOUNT}:*/*",), "A node group's disk or metadata options change."),
    Implied(("apigateway:PUT", "apigateway:DELETE"), (f"arn:aws:apigateway:{REGION}::/tags/*",), _TAGS),
    Implied(("ec2:CreateTags", "ec2:DeleteTags"), (f"arn:aws:ec2:{REGION}:{ACCOUNT}:*/*",), _TAGS),
    Implied(("apigateway:PATCH",), (_DOMAIN, f"{_DOMAIN}/*"), "A domain name gets another certificate or stage."),
    Implied(("apigateway:SetWebACL",), (_STAGES,), "A web ACL is put before a stage as its caller.",
            {"StringEquals": {"aws:RequestedRegion": REGION}}),
    Implied(("wafv2:AssociateWebACL", "wafv2:DisassociateWebACL", "wafv2:GetWebACLForResource"), (_STAGES,),
            "The emulator names the web ACL only, or every API."),
    Implied(("wafv2:CreateWebACL", "wafv2:UpdateWebACL"),
            (f"arn:aws:wafv2:{REGION}:{ACCOUNT}:regional/managedruleset/*/*",),
            "A web ACL takes AWS's rule groups in."),
    Implied(("wafv2:CreateIPSet", "wafv2:DeleteIPSet", "wafv2:GetIPSet", "wafv2:UpdateIPSet", "wafv2:UpdateWebACL"), (),
            "`callerCidrs`, which prod does not set, and what changes in place.", like="wafv2:CreateWebACL"),
    *(
        Implied(actions, (), _TAGS, like=like)
        for like, actions in (
            ("eks:CreateCluster", ("eks:TagResource", "eks:UntagResource")),
            ("elasticache:CreateReplicationGroup",
             ("elasticache:AddTagsToResource", "elasticache:RemoveTagsFromResource")),
            ("elasticloadbalancing:CreateListener",
             ("elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags")),
            ("iam:CreateRole", ("iam:TagRole", "iam:UntagRole")),
            ("kms:DescribeKey", ("kms:TagResource", "kms:UntagResource")),
            ("logs:CreateLogGroup", ("logs:TagResource", "logs:UntagResource")),
            ("s3:CreateBucket", ("s3:PutBucketTagging",)),
            ("secretsmanager:CreateSecret", ("secretsmanager:TagResource", "secretsmanager:UntagResource")),
            ("sns:CreateTopic", ("sns:TagResource", "sns:UntagResource")),
            ("wafv2:CreateWebACL", ("wafv2:ListTagsForResource", "wafv2:TagResource", "wafv2:UntagResource")),
        )
    ),
)  # fmt: skip
"""What a deployment needs besides what it was seen to call."""

NETWORK = ("apigateway", "ec2", "elasticache", "elasticloadbalancing", "logs")
"""The services of `deploy-network.json`, logs too: all that a deployment needs is more than a managed policy holds."""
EDGE = ("route53", "wafv2")
"""The services of `deploy-edge.json`, which also has what the firewall's log and a domain name take of others."""
_EDGE_ACTIONS = (
    "apigateway:SetWebACL", "logs:DeleteResourcePolicy", "logs:DescribeResourcePolicies", "logs:PutResourcePolicy",
)  # fmt: skip


def parts(calls: Iterable[Call]) -> dict[str, dict[str, Any]]:
    """Return the policies of a deployment by name, from what it was seen to call."""
    documents = ("deploy", "deploy-network", "deploy-edge")
    called: dict[str, list[Call]] = {name: [] for name in documents}
    for action, resource in calls:
        called[_document(action, resource)].append((action, resource))
    return {
        name: policy(called[name], [each for each in DEPLOY if _document(each.actions[0], *each.resources[:1]) == name])
        for name in documents
    }


def _document(action: str, resource: str = "") -> str:
    service = action.partition(":")[0]
    if service in EDGE or action in _EDGE_ACTIONS or ":/domainnames" in resource:
        return "deploy-edge"
    return "deploy-network" if service in NETWORK else "deploy"


def generalised(arn: str, *, account: str, region: str, stack: str, domain: str = "", zone: str = "") -> str:
    """Return an ARN as a pattern for every environment of this program."""
    if arn == "*":
        return arn
    head, _, rest = arn.partition(":::") if ":::" in arn else ("", "", arn)
    for pattern, replacement in _RANDOM:
        rest = re.sub(pattern, replacement, rest)
    rest = rest.replace(account, ACCOUNT).replace(f":{region}:", f":{REGION}:")
    for name, known in ((domain, DOMAIN), (zone, ZONE)):
        rest = rest.replace(f"/{name}", f"/{known}") if name else rest
    rest = re.sub(rf"\bllm-serving-{re.escape(stack)}\b", f"llm-serving-{STACK}", rest)
    found = f"{head}:::{rest}" if head else rest
    return next(
        (re.sub(pattern, family, found) for pattern, family in _FAMILIES if re.fullmatch(pattern, found)), found
    )


def policy(calls: Iterable[Call], implied: Sequence[Implied] = ()) -> dict[str, Any]:
    """Return the policy that allows these calls, already generalised, and what they imply."""
    resources: dict[str, set[str]] = defaultdict(set)
    for action, resource in calls:
        resources[action].add("*" if action.startswith(_UNSCOPED) else resource)
        if resource == _CLUSTER:
            resources[action].add(_CLUSTERS_OWN)
    on = [replace(each, resources=each.resources or narrowest(resources.get(each.like, ()))) for each in implied]
    also = [each for each in on if each.resources]
    for each in also:
        for action in each.actions if not each.condition else ():
            resources[action].update(each.resources)
    # An API is changed by the verb of a request, so that none of its parts could be had with less.
    whole = {resource for action in resources if action.startswith("apigateway:") for resource in resources[action]}
    groups: dict[tuple[tuple[str, ...], bool], list[str]] = defaultdict(list)
    for action, patterns in sorted(resources.items()):
        service, _, name = action.partition(":")
        in_region = "*" in patterns and not name.startswith(READS) and service not in WITHOUT_REGION
        groups[tuple(narrowest(whole if service == "apigateway" else patterns)), in_region].append(action)
    statements = [*_grouped(groups), *(_conditional(each) for each in also if each.condition)]
    return {"Version": "2012-10-17", "Statement": statements}


def _grouped(groups: Mapping[tuple[tuple[str, ...], bool], list[str]]) -> Iterator[dict[str, Any]]:
    for (patterns, in_region), actions in sorted(groups.items()):
        statement: dict[str, Any] = {"Effect": "Allow", "Action": _one(actions), "Resource": _one(patterns)}
        if in_region:
            statement["Condition"] = {"StringEquals": {"aws:RequestedRegion": REGION}}
        yield statement


def _conditional(each: Implied) -> dict[str, Any]:
    return {
        "Effect": "Allow", "Action": _one(each.actions), "Resource": _one(each.resources), "Condition": each.condition
    }  # fmt: skip


def _one(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def narrowest(patterns: Iterable[str]) -> list[str]:
    """Return the patterns without those that another one covers."""
    given = sorted(set(patterns))
    return [
        pattern for pattern in given if not any(pattern != other and fnmatchcase(pattern, other) for other in given)
    ]


def filled(document: Mapping[str, Any], **known: str) -> str:
    """Return a policy as JSON, for one environment: what each name in capitals stands for, in small letters."""
    text = json.dumps(document)
    for name in (ACCOUNT, REGION, STACK, DOMAIN, ZONE):
        text = text.replace(name, known.get(name.lower(), name))
    return text
