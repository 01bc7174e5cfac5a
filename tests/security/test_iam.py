"""What each role of the stack may do and what it may not: by the emulator's simulation, and under its enforced IAM."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.iam.aws_managed_policies import aws_managed_policies_data

from llm_serving import _iam
from tests.cloud_harness import Cloud
from tests.program.test_program import run
from tests.recording import ACCOUNT, REGION

ROLE = "aws:iam/role:Role"
ARN = f"arn:aws:test:{REGION}:{ACCOUNT}"
BUCKET = f"{ARN}:bucket/models-bucket"
QWEN = f"{BUCKET}/models/qwen2-5-7b-instruct/a09a354/model.safetensors"
LLAMA = f"{BUCKET}/models/llama-3-3-70b-instruct/6f6073b/model.safetensors"
FLOW_LOGS = f"{ARN}:loggroup/network-flow-logs"
PODS_LOGS = f"{ARN}:loggroup/logging-application"
VOLUME = f"arn:aws:ec2:{REGION}:{ACCOUNT}:volume/vol-1"
ALERTS = f"{ARN}:topic/monitoring-alerts"
NODE_GROUPS = f"arn:aws:eks:{REGION}:{ACCOUNT}:nodegroup"
CONTROL_PLANE = f"{ARN}:loggroup/cluster-control-plane"

ALLOWED: dict[str, list[tuple[str, str]]] = {
    "network-flow-logs": [
        ("logs:CreateLogStream", f"{FLOW_LOGS}:log-stream:eni-1"),
        ("logs:PutLogEvents", f"{FLOW_LOGS}:log-stream:eni-1"),
    ],
    "cluster-node": [
        ("ecr:BatchGetImage", "*"),
        ("eks:DescribeCluster", "*"),
        ("ec2:CreateNetworkInterface", "*"),
        ("eks-auth:AssumeRoleForPodIdentity", "*"),
    ],
    "api-logs": [("logs:PutLogEvents", "*")],
    "cluster-disks": [("ec2:DescribeVolumes", "*"), ("ec2:AttachVolume", VOLUME)],
    "monitoring-alertmanager": [("sns:Publish", ALERTS)],
    "node-autoscaling-pods": [
        ("autoscaling:DescribeAutoScalingGroups", "*"),
        ("eks:DescribeNodegroup", f"{NODE_GROUPS}/llm-serving-prod/cluster-l4/1"),
    ],
    "logging-pods": [("logs:PutLogEvents", f"{PODS_LOGS}:log-stream:node-1")],
    "qwen2-5-7b-instruct-pods": [("s3:GetObject", QWEN)],
    "llama-3-3-70b-instruct-pods": [("s3:GetObject", LLAMA)],
}
"""What each role of prod is for."""

DANGEROUS = [
    ("iam:CreateUser", "*"), ("iam:CreateAccessKey", "*"), ("iam:AttachRolePolicy", "*"), ("iam:PutRolePolicy", "*"),
    ("iam:UpdateAssumeRolePolicy", "*"), ("iam:PassRole", "*"), ("sts:AssumeRole", "*"),
    ("s3:PutObject", QWEN), ("s3:DeleteObject", QWEN), ("s3:DeleteObjectVersion", QWEN), ("s3:PutBucketPolicy", BUCKET),
    ("s3:DeleteBucket", BUCKET), ("s3:ListAllMyBuckets", "*"), ("s3:GetObject", f"{ARN}:bucket/other/key"),
    ("s3:GetObject", f"{ARN}:bucket/models-access-logs/s3/1"), ("s3:PutLifecycleConfiguration", BUCKET),
    ("kms:Decrypt", "*"), ("kms:ScheduleKeyDeletion", "*"), ("kms:DisableKey", "*"), ("kms:PutKeyPolicy", "*"),
    ("kms:CreateGrant", "*"), ("eks:DeleteCluster", "*"), ("eks:CreateAccessEntry", "*"),
    ("eks:AssociateAccessPolicy", "*"), ("eks:UpdateClusterConfig", "*"), ("eks:CreatePodIdentityAssociation", "*"),
    ("secretsmanager:GetSecretValue", "*"), ("secretsmanager:PutSecretValue", "*"),
    ("elasticache:DeleteReplicationGroup", "*"), ("elasticache:ModifyReplicationGroup", "*"),
    ("ec2:RunInstances", "*"), ("ec2:TerminateInstances", "*"), ("ec2:AuthorizeSecurityGroupIngress", "*"),
    ("ec2:ModifyInstanceMetadataOptions", "*"), ("ec2:DeleteFlowLogs", "*"), ("ec2:CreateRoute", "*"),
    ("logs:DeleteLogGroup", "*"), ("logs:DeleteLogStream", "*"), ("logs:PutRetentionPolicy", "*"),
    ("logs:DeleteLogGroup", FLOW_LOGS), ("ecr:PutImage", "*"), ("ecr:DeleteRepository", "*"),
    ("apigateway:PATCH", "*"), ("apigateway:GET", "*"), ("cloudtrail:StopLogging", "*"), ("ssm:StartSession", "*"),
    ("ssm:GetParameter", "*"), ("lambda:InvokeFunction", "*"), ("organizations:LeaveOrganization", "*"),
]  # fmt: skip
"""What no role of the stack may do."""

NOT_THIS_ONE = {
    "network-flow-logs": [("logs:PutLogEvents", f"{CONTROL_PLANE}:log-stream:audit"), ("s3:GetObject", QWEN)],
    # A pod that can reach its node's credentials reads no model by them (failure F31).
    "cluster-node": [("s3:GetObject", QWEN), ("s3:ListBucket", BUCKET), ("logs:PutLogEvents", "*")],
    "cluster-disks": [("ec2:DeleteVolume", VOLUME), ("ec2:CreateVolume", VOLUME), ("s3:GetObject", QWEN)],
    "logging-pods": [("logs:PutLogEvents", f"{CONTROL_PLANE}:log-stream:audit"), ("logs:GetLogEvents", PODS_LOGS)],
    "monitoring-alertmanager": [("sns:Publish", f"{ALERTS}-2"), ("sns:Subscribe", ALERTS), ("sns:DeleteTopic", ALERTS)],
    "node-autoscaling-pods": [
        ("eks:DescribeNodegroup", f"{NODE_GROUPS}/another/cluster-l4/1"),
        ("autoscaling:DeleteAutoScalingGroup", "*"),
        ("autoscaling:SetDesiredCapacity", "*"),
    ],
    "api-logs": [("s3:GetObject", QWEN), ("logs:PutRetentionPolicy", "*")],
    "qwen2-5-7b-instruct-pods": [("s3:GetObject", LLAMA), ("s3:GetObject", BUCKET), ("logs:PutLogEvents", "*")],
    "llama-3-3-70b-instruct-pods": [("s3:GetObject", QWEN), ("s3:GetObjectVersion", LLAMA)],
}
"""What one role may do and another may not."""


@cache
def managed() -> dict[str, Any]:
    """Return AWS's own policies by name, as moto has copied them."""
    return json.loads(aws_managed_policies_data)


def policies(role: str) -> list[str]:
    """Return the documents of everything that prod attaches to a role."""
    made = run("prod")
    names = {role, f"{role}-id"}
    inline = [
        each.inputs["policy"]
        for each in made.resources
        if each.type == "aws:iam/rolePolicy:RolePolicy" and each.inputs["role"] in names
    ]
    attached = [
        each.inputs["policyArn"].rpartition("/")[2]
        for each in made.resources
        if each.type == "aws:iam/rolePolicyAttachment:RolePolicyAttachment" and each.inputs["role"] in names
    ]
    return [*inline, *(json.dumps(managed()[name]["Document"]) for name in attached)]


def decisions(cloud: Cloud, documents: list[str], asked: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return what the policy simulation decides about each action on each resource."""
    iam = cloud.client("iam")
    found: dict[tuple[str, str], str] = {}
    for resource in dict.fromkeys(resource for _, resource in asked):
        actions = [action for action, on in asked if on == resource]
        results = iam.simulate_custom_policy(PolicyInputList=documents, ActionNames=actions, ResourceArns=[resource])[
            "EvaluationResults"
        ]
        found |= {(result["EvalActionName"], resource): result["EvalDecision"] for result in results}
    return found


def test_every_role_is_listed() -> None:
    assert sorted(run("prod").names(ROLE)) == sorted(ALLOWED)


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_may_do_what_it_is_for(cloud: Cloud, role: str) -> None:
    decided = decisions(cloud, policies(role), ALLOWED[role])
    assert decided == dict.fromkeys(ALLOWED[role], "allowed")


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_may_do_nothing_dangerous(cloud: Cloud, role: str) -> None:
    asked = [*DANGEROUS, *NOT_THIS_ONE[role]]
    assert decisions(cloud, policies(role), asked) == dict.fromkeys(asked, "implicitDeny")


def test_the_simulation_sees_a_policy_that_is_too_wide(cloud: Cloud) -> None:
    wide = _iam.document({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    asked = [("s3:DeleteBucket", BUCKET), ("iam:CreateUser", "*")]
    assert list(decisions(cloud, [wide], asked).values()) == ["allowed", "implicitDeny"]


def assumed(cloud: Cloud, name: str, *documents: str) -> Callable[[str], Any]:
    """Return a function that makes boto3 clients with a new role's credentials."""
    trust = _iam.document(
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "sts:AssumeRole"}
    )
    iam = cloud.client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    for number, document in enumerate(documents):
        iam.put_role_policy(RoleName=name, PolicyName=f"only-{number}", PolicyDocument=document)
    got = cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]

    def client(service: str) -> Any:
        return cloud.client(service, got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])

    return client


def refused(call: Any, **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException", "403"}
    return False


def test_a_models_pods_read_that_model_and_nothing_else(cloud: Cloud) -> None:
    root = cloud.client("s3")
    root.create_bucket(Bucket="weights")
    key = cloud.client("kms").create_key()["KeyMetadata"]
    mine, other = "models/mine/1/model", "models/other/1/model"
    for name in (mine, other):
        root.put_object(Bucket="weights", Key=name, Body=b"weights")
    session = assumed(cloud, "pods", _iam.model_read("arn:aws:s3:::weights", ["models/mine/1"], key["Arn"]))
    s3 = session("s3")
    assert s3.get_object(Bucket="weights", Key=mine)["Body"].read() == b"weights"
    listed = s3.list_objects_v2(Bucket="weights", Prefix="models/mine/1/")
    assert [item["Key"] for item in listed["Contents"]] == [mine]
    assert refused(s3.get_object, Bucket="weights", Key=other)
    assert refused(s3.list_objects_v2, Bucket="weights")
    assert refused(s3.list_objects_v2, Bucket="weights", Prefix="models/")
    assert refused(s3.list_buckets)
    for call in (s3.put_object, s3.delete_object):
        assert refused(call, Bucket="weights", Key=mine)
    assert refused(s3.put_bucket_policy, Bucket="weights", Policy="{}")
    sealed = cloud.client("kms").encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    # The key may be used through S3 only.
    assert refused(session("kms").decrypt, CiphertextBlob=sealed, KeyId=key["KeyId"])
    assert refused(session("sts").assume_role, RoleArn="arn:aws:iam::000000000000:role/pods", RoleSessionName="again")


def test_the_buckets_policy_refuses_whoever_comes_without_tls(cloud: Cloud) -> None:
    root = cloud.client("s3")
    root.create_bucket(Bucket="guarded")
    root.put_object(Bucket="guarded", Key="models/mine/1/model", Body=b"weights")
    policy = _iam.model_read("arn:aws:s3:::guarded", ["models/mine/1"], "arn:aws:kms:us-east-1:000000000000:key/1")
    s3 = assumed(cloud, "plain", policy)("s3")
    assert not refused(s3.get_object, Bucket="guarded", Key="models/mine/1/model")
    root.put_bucket_policy(Bucket="guarded", Policy=_iam.tls_only("arn:aws:s3:::guarded"))
    assert refused(s3.get_object, Bucket="guarded", Key="models/mine/1/model")


def test_flow_logs_go_to_their_group_and_to_no_other(cloud: Cloud) -> None:
    root = cloud.client("logs")
    for name in ("flow", "other"):
        root.create_log_group(logGroupName=name)
    logs = assumed(cloud, "flow", _iam.write_logs("arn:aws:logs:us-east-1:000000000000:log-group:flow"))("logs")
    logs.create_log_stream(logGroupName="flow", logStreamName="eni")
    event = {"timestamp": 1_700_000_000_000, "message": "ACCEPT"}
    logs.put_log_events(logGroupName="flow", logStreamName="eni", logEvents=[event])
    assert refused(logs.create_log_stream, logGroupName="other", logStreamName="eni")
    assert refused(logs.get_log_events, logGroupName="flow", logStreamName="eni")
    assert refused(logs.delete_log_group, logGroupName="flow")
