"""SemanticCache: TLS, password and encryption in every input, a token that stays, and one secret to connect with."""

import json
import re
from typing import Any

import pytest

from llm_serving import SemanticCache
from llm_serving.semantic_cache import SemanticCacheArgs
from tests.recording import Recording, record

KEY_ARN = "arn:aws:test:us-east-1:123456789012:key/c-key"
GROUP = "aws:elasticache/replicationGroup:ReplicationGroup"
SECRET = "aws:secretsmanager/secret:Secret"
VERSION = "aws:secretsmanager/secretVersion:SecretVersion"


def cache(**args: Any) -> Recording:
    given: dict[str, Any] = {
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1", "subnet-2"],
        "client_security_group_id": "sg-cluster",
        "node_type": "cache.r7g.large",
        **args,
    }
    return record(lambda: SemanticCache("c", SemanticCacheArgs(**given)))


def test_every_resource() -> None:
    assert cache().types() == {
        "llm-serving:index:SemanticCache": 1,
        "aws:kms/key:Key": 1,
        SECRET: 2,
        VERSION: 2,
        "aws:elasticache/subnetGroup:SubnetGroup": 1,
        "aws:elasticache/parameterGroup:ParameterGroup": 1,
        "aws:ec2/securityGroup:SecurityGroup": 1,
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": 1,
        GROUP: 1,
    }


def test_replication_group() -> None:
    made = cache().one(GROUP, "c-group")
    token = made.inputs.pop("authToken")["secret"]
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert made.inputs == {
        "description": "Response cache of the LLM gateway (c)",
        "engine": "valkey",
        "engineVersion": "8.2",
        "nodeType": "cache.r7g.large",
        "numCacheClusters": 2,
        "automaticFailoverEnabled": True,
        "multiAzEnabled": True,
        "parameterGroupName": "c-parameters",
        "subnetGroupName": "c-subnets",
        "securityGroupIds": ["c-clients-id"],
        "transitEncryptionEnabled": True,
        "transitEncryptionMode": "required",
        "atRestEncryptionEnabled": True,
        "kmsKeyId": KEY_ARN,
        "snapshotRetentionLimit": 7,
        "finalSnapshotIdentifier": "llm-serving-test-c-final",
        "applyImmediately": True,
        "autoMinorVersionUpgrade": True,
    }
    assert made.protect


def test_alone_and_unprotected() -> None:
    made = cache(replicas=0, snapshot_retention_days=0, protect=False)
    group = made.one(GROUP, "c-group")
    assert not group.protect
    assert "finalSnapshotIdentifier" not in group.inputs
    assert (group.inputs["numCacheClusters"], group.inputs["multiAzEnabled"]) == (1, False)
    assert made.inputs(SECRET, "c-token")["recoveryWindowInDays"] == 0


@pytest.mark.parametrize("protect", [True, False])
def test_protection_of_what_cannot_be_made_again(protect: bool) -> None:
    made = cache(protect=protect)
    assert made.one("aws:kms/key:Key", "c-key").protect is protect
    assert made.one(VERSION, "c-token").protect is protect
    assert {each.protect for each in made.resources if each.type == SECRET} == {protect}


def test_only_the_cluster_reaches_it() -> None:
    made = cache()
    assert made.inputs("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "c-clients") == {
        "description": "Valkey over TLS from the cluster",
        "securityGroupId": "c-clients-id",
        "referencedSecurityGroupId": "sg-cluster",
        "ipProtocol": "tcp",
        "fromPort": 6379,
        "toPort": 6379,
    }
    assert made.inputs("aws:elasticache/parameterGroup:ParameterGroup", "c-parameters") == {
        "description": "Managed by Pulumi",
        "family": "valkey8",
        "parameters": [{"name": "maxmemory-policy", "value": "volatile-lru"}],
    }


def test_token_is_made_once_and_stays_secret() -> None:
    made = cache()
    version = made.one(VERSION, "c-token")
    assert version.ignore_changes == ["secretString"]
    assert set(version.inputs["secretString"]) == {"secret"}
    assert made.inputs(SECRET, "c-token")["kmsKeyId"] == KEY_ARN
    assert made.inputs(SECRET, "c-token")["recoveryWindowInDays"] == 30
    token = version.inputs["secretString"]["secret"]
    assert token != cache().inputs(VERSION, "c-token")["secretString"]["secret"]


def test_connection_secret() -> None:
    made = cache()
    token = made.inputs(VERSION, "c-token")["secretString"]["secret"]
    url = f"rediss://:{token}@cache.example:6379/0"
    assert made.outputs["c"]["url"] == {"secret": url}
    assert json.loads(made.inputs(VERSION, "c-connection")["secretString"]["secret"]) == {"url": url}
    assert made.outputs["c"] == {
        "endpoint": "cache.example",
        "port": 6379,
        "url": {"secret": url},
        "connectionSecretArn": "arn:aws:test:us-east-1:123456789012:secret/c-connection",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"engine_version": "7.2"}, "engine_version: '7.2' is not one of 8.2; nearest valid value: 8.2"),
        ({"replicas": 6}, "replicas: 6 is outside 0 to 5; nearest valid value: 5"),
        (
            {"snapshot_retention_days": 40},
            "snapshot_retention_days: 40 days is outside 0 to 35; nearest valid value: 35",
        ),
        (
            {"node_type": "r7g.large"},
            "node_type: 'r7g.large' is no ElastiCache node type; nearest valid value: cache.r7g.large",
        ),
    ],
)
def test_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        cache(**args)
    assert str(caught.value) == message
