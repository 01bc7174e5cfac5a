"""What a deployment's policies in `docs/iam/` refuse: what is not an environment's, and what it never does."""

import json
from typing import Any

from tests.cloud_harness import Cloud
from tests.security.iam_run import deploying, kept
from tests.security.test_iam import assumed, decisions, refused

IN_REGION = "us-east-1:000000000000"
ROLE = "arn:aws:iam::000000000000:role"
KEY = f"arn:aws:kms:{IN_REGION}:key/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
CLUSTER = f"arn:aws:eks:{IN_REGION}:cluster/llm-serving"
SECRET = f"arn:aws:secretsmanager:{IN_REGION}:secret"
LOGS = f"arn:aws:logs:{IN_REGION}:log-group"
WAF = f"arn:aws:wafv2:{IN_REGION}:regional"
DOMAINS = "arn:aws:apigateway:us-east-1::/domainnames"
STAGE = "arn:aws:apigateway:us-east-1::/restapis/a1b2c3d4e5/stages/llm"

ALLOWED = [
    ("eks:DeleteCluster", f"{CLUSTER}-prod"),
    ("eks:DeleteNodegroup", f"arn:aws:eks:{IN_REGION}:nodegroup/llm-serving-prod/gpu/0a1b"),
    ("eks:DescribeAddon", f"arn:aws:eks:{IN_REGION}:addon/llm-serving-prod/vpc-cni/0a1b"),
    ("ec2:DescribeVpcs", "*"),
    ("elasticloadbalancing:CreateListener", f"arn:aws:elasticloadbalancing:{IN_REGION}:loadbalancer/net/gateway-nlb/1"),
    ("iam:PutRolePolicy", f"{ROLE}/a-new-model-pods-1a2b3c4"),
    ("logs:DeleteLogGroup", f"{LOGS}:api-access-1a2b3c4"),
    ("secretsmanager:GetSecretValue", f"{SECRET}:cache-token-1a2b3c4-AbCdEf"),
    ("logs:DeleteLogGroup", f"{LOGS}:aws-waf-logs-api-acl-1a2b3c4"),
    ("wafv2:CreateWebACL", f"{WAF}/webacl/api-acl-1a2b3c4/0a1b"),
    ("wafv2:CreateWebACL", f"{WAF}/managedruleset/AWS/AWSManagedRulesCommonRuleSet"),
    ("wafv2:PutLoggingConfiguration", f"{WAF}/webacl/api-acl-1a2b3c4/0a1b"),
    ("wafv2:AssociateWebACL", STAGE), ("apigateway:SetWebACL", STAGE),
    ("wafv2:UpdateIPSet", f"{WAF}/ipset/api-callers-1a2b3c4/0a1b"),
    ("apigateway:DELETE", f"{DOMAINS}/llm.example.com"),
    ("apigateway:PATCH", f"{DOMAINS}/llm.example.com/basepathmappings/(none)"),
    ("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z0123456789ABC"),
]  # fmt: skip
"""That these are allowed shows that the refusals are not for want of a policy."""

FOREIGN = [
    ("iam:AttachRolePolicy", f"{ROLE}/admin"), ("iam:CreateRole", f"{ROLE}/admin"), ("iam:DeleteRole", f"{ROLE}/admin"),
    ("iam:PutRolePolicy", f"{ROLE}/admin"), ("iam:TagRole", f"{ROLE}/admin"),
    ("eks:DeleteCluster", f"{CLUSTER}-other"), ("eks:DeleteCluster", f"{CLUSTER}-prod-2"),
    ("eks:CreateAccessEntry", f"{CLUSTER}-other"), ("eks:AssociateAccessPolicy", f"{CLUSTER}-other"),
    ("eks:DeleteNodegroup", f"arn:aws:eks:{IN_REGION}:nodegroup/llm-serving-prod-2/gpu/0a1b"),
    ("secretsmanager:GetSecretValue", f"{SECRET}:database-AbCdEf"),
    ("secretsmanager:DeleteSecret", f"{SECRET}:database-AbCdEf"),
    ("s3:DeleteBucket", "arn:aws:s3:::other"), ("s3:PutBucketPolicy", "arn:aws:s3:::other"),
    ("s3:GetBucketPolicy", "arn:aws:s3:::other"), ("s3:ListBucket", "arn:aws:s3:::other"),
    ("logs:DeleteLogGroup", f"{LOGS}:/aws/eks/other/cluster"), ("logs:PutRetentionPolicy", f"{LOGS}:other"),
    ("logs:TagResource", f"{LOGS}:other"), ("sns:DeleteTopic", f"arn:aws:sns:{IN_REGION}:other"),
    ("elasticache:DeleteReplicationGroup", f"arn:aws:elasticache:{IN_REGION}:replicationgroup:other"),
    ("elasticloadbalancing:DeleteLoadBalancer", f"arn:aws:elasticloadbalancing:{IN_REGION}:loadbalancer/app/other/1"),
    ("ec2:DeleteVpc", "arn:aws:ec2:us-east-1:111111111111:vpc/vpc-1"),
    ("ec2:DeleteVpc", "arn:aws:ec2:eu-west-1:000000000000:vpc/vpc-1"),
    ("apigateway:DELETE", f"{DOMAINS}/other.example.com"), ("apigateway:PATCH", f"{DOMAINS}/other.example.com"),
    ("apigateway:DELETE", f"{DOMAINS}/llm.example.com.example.net"),
    ("wafv2:DeleteWebACL", f"{WAF}/webacl/other/0a1b"), ("wafv2:UpdateWebACL", f"{WAF}/webacl/other/0a1b"),
    ("wafv2:DeleteLoggingConfiguration", f"{WAF}/webacl/other/0a1b"),
    ("wafv2:UpdateIPSet", f"{WAF}/ipset/other/0a1b"), ("wafv2:TagResource", f"{WAF}/webacl/other/0a1b"),
    ("wafv2:DeleteWebACL", "arn:aws:wafv2:us-east-1:111111111111:regional/webacl/api-acl-1a2b3c4/0a1b"),
    ("wafv2:DisassociateWebACL", f"arn:aws:elasticloadbalancing:{IN_REGION}:loadbalancer/app/other/1"),
    ("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/ZOTHER"),
    ("route53:ListResourceRecordSets", "arn:aws:route53:::hostedzone/ZOTHER"),
]  # fmt: skip
"""Allowed on what is an environment's own, and on nothing else."""

NEVER = [
    ("iam:CreateUser", "*"), ("iam:CreateAccessKey", "*"), ("iam:AttachUserPolicy", "*"), ("iam:PutUserPolicy", "*"),
    ("iam:CreatePolicyVersion", "*"), ("iam:UpdateAssumeRolePolicy", f"{ROLE}/admin"),
    ("iam:DeleteRolePermissionsBoundary", "*"), ("sts:AssumeRole", f"{ROLE}/admin"),
    ("kms:Decrypt", KEY), ("kms:GenerateDataKey", KEY), ("kms:CreateGrant", KEY), ("kms:PutKeyPolicy", KEY),
    ("kms:DisableKey", KEY), ("s3:GetObject", "arn:aws:s3:::other/key"),
    ("s3:GetObject", "arn:aws:s3:::models-bucket-1a2b3c4/models/m/1"),
    ("s3:DeleteObject", "arn:aws:s3:::models-bucket-1a2b3c4/models/m/1"),
    ("ecr:PutImage", "*"), ("ecr:DeleteRepository", "*"), ("ec2:TerminateInstances", "*"),
    ("ec2:GetPasswordData", "*"), ("logs:GetLogEvents", "*"), ("cloudtrail:StopLogging", "*"),
    ("route53:CreateHostedZone", "*"), ("route53:DeleteHostedZone", "arn:aws:route53:::hostedzone/Z0123456789ABC"),
    ("route53domains:TransferDomain", "*"), ("acm:DeleteCertificate", "*"), ("acm:ExportCertificate", "*"),
    ("wafv2:PutPermissionPolicy", "*"), ("wafv2:DeleteFirewallManagerRuleGroups", "*"), ("wafv2:CreateAPIKey", "*"),
    ("wafv2:GetSampledRequests", f"{WAF}/webacl/api-acl-1a2b3c4/0a1b"),
    ("ssm:StartSession", "*"), ("organizations:LeaveOrganization", "*"),
]  # fmt: skip
"""What a deployment is not for, on its own resources either. A key is used through a service only."""


def documents() -> list[str]:
    return deploying()


def test_a_deployment_may_change_an_environments_own(cloud: Cloud) -> None:
    assert decisions(cloud, documents(), ALLOWED) == dict.fromkeys(ALLOWED, "allowed")


def test_a_deployment_may_not_change_what_is_not_its_own(cloud: Cloud) -> None:
    asked = [*FOREIGN, *NEVER]
    assert decisions(cloud, documents(), asked) == dict.fromkeys(asked, "implicitDeny")


def test_a_deployment_hands_on_no_role_but_those_that_it_makes(cloud: Cloud) -> None:
    """The simulation knows no service that a role is handed to: as if it were always one of those that may take one."""
    document: dict[str, Any] = json.loads(kept("deploy"))
    for each in document["Statement"]:
        each.pop("Condition", None)
    asked = [("iam:PassRole", f"{ROLE}/cluster-node-1a2b3c4"), ("iam:PassRole", f"{ROLE}/admin")]
    assert list(decisions(cloud, [json.dumps(document)], asked).values()) == ["allowed", "implicitDeny"]


def test_what_is_refused_in_the_simulation_is_refused_in_a_call(cloud: Cloud) -> None:
    root = cloud.client("s3")
    root.create_bucket(Bucket="other")
    root.put_object(Bucket="other", Key="key", Body=b"private")
    secret = cloud.client("secretsmanager").create_secret(Name="database", SecretString="private")["ARN"]
    key = cloud.client("kms").create_key()["KeyMetadata"]["KeyId"]
    sealed = cloud.client("kms").encrypt(KeyId=key, Plaintext=b"private")["CiphertextBlob"]
    assumed(cloud, "admin")
    session = assumed(cloud, "deploys", *documents())
    iam = session("iam")
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    wide = json.dumps({"Version": "2012-10-17", "Statement": everything})
    assert session("ec2").describe_vpcs()["Vpcs"] is not None
    assert session("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyId"] == key
    assert refused(iam.create_user, UserName="mallory")
    assert refused(iam.put_role_policy, RoleName="admin", PolicyName="wide", PolicyDocument=wide)
    assert refused(iam.put_role_policy, RoleName="deploys", PolicyName="wide", PolicyDocument=wide)
    assert refused(session("s3").get_object, Bucket="other", Key="key")
    assert refused(session("secretsmanager").get_secret_value, SecretId=secret)
    assert refused(session("kms").decrypt, CiphertextBlob=sealed, KeyId=key)
    assert refused(session("eks").delete_cluster, name="other")
