"""From calls to a policy: what is random goes, what names the program stays, and no action is a pattern."""

import json

import pytest

from tests.security.iam_documents import DEPLOY, Implied, filled, generalised, narrowest, parts, policy

WHERE = {
    "account": "000000000000", "region": "us-east-1", "stack": "prod", "domain": "llm.example.com", "zone": "Z0123ABC",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arn", "pattern"),
    [
        ("*", "*"),
        ("arn:aws:ec2:us-east-1:000000000000:vpc/vpc-0a1b2c3d4e5f60718", "arn:aws:ec2:REGION:ACCOUNT:*/*"),
        ("arn:aws:s3:::models-bucket-1a2b3c4", "arn:aws:s3:::models-bucket-*"),
        ("arn:aws:s3:::models-bucket-1a2b3c4/models/m/1", "arn:aws:s3:::models-bucket-*/models/m/1"),
        ("arn:aws:iam::000000000000:role/cluster-node-0a0a0a0", "arn:aws:iam::ACCOUNT:role/cluster-node-*"),
        (
            "arn:aws:kms:us-east-1:000000000000:key/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f",
            "arn:aws:kms:REGION:ACCOUNT:key/*",
        ),
        (
            "arn:aws:secretsmanager:us-east-1:000000000000:secret:cache-token-1a2b3c4-AbCdEf",
            "arn:aws:secretsmanager:REGION:ACCOUNT:secret:cache-token-*",
        ),
        (
            "arn:aws:eks:us-east-1:000000000000:cluster/llm-serving-prod",
            "arn:aws:eks:REGION:ACCOUNT:cluster/llm-serving-STACK",
        ),
        (
            "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/net/gateway-nlb-1a2b3c4/0123456789abcdef",
            "arn:aws:elasticloadbalancing:REGION:ACCOUNT:*/gateway-*",
        ),
        (
            "arn:aws:apigateway:us-east-1::/restapis/a1b2c3d4e5/resources",
            "arn:aws:apigateway:REGION::/restapis/*",
        ),
        (
            "arn:aws:apigateway:us-east-1::/domainnames/llm.example.com",
            "arn:aws:apigateway:REGION::/domainnames/DOMAIN",
        ),
        (
            "arn:aws:apigateway:us-east-1::/domainnames/llm.example.com/basepathmappings/(none)",
            "arn:aws:apigateway:REGION::/domainnames/DOMAIN/*",
        ),
        ("arn:aws:route53:::hostedzone/Z0123ABC", "arn:aws:route53:::hostedzone/ZONE"),
        (
            "arn:aws:wafv2:us-east-1:000000000000:regional/webacl/api-acl-1a2b3c4/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f",
            "arn:aws:wafv2:REGION:ACCOUNT:regional/*/api-*",
        ),
        (
            "arn:aws:logs:us-east-1:000000000000:log-group:network-flow-logs-1a2b3c4:*",
            "arn:aws:logs:REGION:ACCOUNT:log-group:network-flow-logs-*:*",
        ),
    ],
)
def test_patterns(arn: str, pattern: str) -> None:
    assert generalised(arn, **WHERE) == pattern


def test_a_pattern_that_another_covers_is_left_out() -> None:
    assert narrowest(["a/*", "a/b", "c"]) == ["a/*", "c"]
    assert narrowest(["*", "a"]) == ["*"]


def test_actions_on_the_same_are_one_statement_and_changes_without_a_resource_stay_in_the_region() -> None:
    calls = [
        ("s3:PutObject", "arn:aws:s3:::b/*"), ("s3:GetObject", "arn:aws:s3:::b/*"), ("ec2:DescribeVpcs", "*"),
        ("ec2:CreateVpc", "*"), ("ec2:CreateVpc", "arn:aws:ec2:REGION:ACCOUNT:vpc/*"),
    ]  # fmt: skip
    assert policy(calls)["Statement"] == [
        {"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "ec2:CreateVpc",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:RequestedRegion": "REGION"}},
        },
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::b/*"},
    ]


def test_what_is_implied_keeps_its_condition() -> None:
    implied = Implied(("iam:PassRole",), ("r",), "why", {"Bool": {"a": "true"}})
    assert policy([], [implied])["Statement"] == [
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "r", "Condition": {"Bool": {"a": "true"}}}
    ]
    assert all(each.reason for each in DEPLOY)


def test_what_is_implied_without_a_condition_joins_what_was_called() -> None:
    implied = Implied(("kms:TagResource",), ("k",), "why")
    assert policy([("kms:DescribeKey", "k")], [implied])["Statement"] == [
        {"Effect": "Allow", "Action": ["kms:DescribeKey", "kms:TagResource"], "Resource": "k"}
    ]


def test_what_is_implied_is_allowed_where_another_action_was_seen() -> None:
    passed = Implied(("iam:PassRole",), (), "why", {"Bool": {"a": "true"}}, like="iam:CreateRole")
    tags = Implied(("iam:TagRole",), (), "why", like="iam:CreateRole")
    assert policy([("iam:CreateRole", "r")], [passed, tags])["Statement"] == [
        {"Effect": "Allow", "Action": ["iam:CreateRole", "iam:TagRole"], "Resource": "r"},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "r", "Condition": {"Bool": {"a": "true"}}},
    ]
    assert policy([], [passed, tags])["Statement"] == []


def test_what_is_in_a_cluster_is_reached_with_it() -> None:
    cluster = "arn:aws:eks:REGION:ACCOUNT:cluster/llm-serving-STACK"
    assert policy([("eks:DeleteNodegroup", cluster)])["Statement"] == [
        {
            "Effect": "Allow",
            "Action": "eks:DeleteNodegroup",
            "Resource": ["arn:aws:eks:REGION:ACCOUNT:*/llm-serving-STACK/*", cluster],
        }
    ]


def test_an_action_that_takes_no_resource_is_allowed_on_all() -> None:
    made = policy([("ec2:DescribeVpcs", "arn:aws:ec2:REGION:ACCOUNT:*/*")])
    assert made["Statement"] == [{"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"}]


def test_a_deployment_has_three_policies() -> None:
    stage = "arn:aws:apigateway:REGION::/restapis/*"
    domain = "arn:aws:apigateway:REGION::/domainnames/DOMAIN"
    found = parts([
        ("ec2:CreateVpc", "v"), ("iam:CreateRole", "r"), ("wafv2:CreateWebACL", "a"), ("logs:CreateLogGroup", "l"),
        ("logs:PutResourcePolicy", "*"), ("apigateway:POST", stage), ("apigateway:POST", domain),
        ("route53:ChangeResourceRecordSets", "z"),
    ])  # fmt: skip
    actions = {name: json.dumps([each["Action"] for each in made["Statement"]]) for name, made in found.items()}
    for action, document in (
        ("ec2:CreateVpc", "deploy-network"), ("iam:CreateRole", "deploy"), ("wafv2:CreateWebACL", "deploy-edge"),
        ("logs:CreateLogGroup", "deploy-network"), ("logs:PutResourcePolicy", "deploy-edge"),
        ("route53:ChangeResourceRecordSets", "deploy-edge"),
    ):  # fmt: skip
        assert [name for name in found if action in actions[name]] == [document]
    assert f'"{stage}"' not in json.dumps(found["deploy-edge"])
    assert domain in json.dumps(found["deploy-edge"])
    assert domain not in json.dumps(found["deploy-network"])


def test_a_web_acl_is_put_before_stages() -> None:
    ours, stages = "arn:aws:wafv2:REGION:ACCOUNT:regional/*/api-*", "arn:aws:apigateway:REGION::/restapis/*/stages/*"
    found = parts([("wafv2:AssociateWebACL", ours)])["deploy-edge"]["Statement"]
    assert {"Effect": "Allow", "Action": "wafv2:AssociateWebACL", "Resource": [stages, ours]} in found


def test_a_policy_is_filled_in_for_one_environment() -> None:
    found = filled(policy([("logs:X", "arn:aws:logs:REGION:ACCOUNT:log-group:/aws/eks/llm-serving-STACK/*")]), **WHERE)
    resource = json.loads(found)["Statement"][0]["Resource"]
    assert resource == "arn:aws:logs:us-east-1:000000000000:log-group:/aws/eks/llm-serving-prod/*"
