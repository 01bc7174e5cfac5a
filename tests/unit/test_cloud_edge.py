"""What stands before an API in the emulated cloud: web ACLs with their logs, and domain names, as AWS answers them."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.addresses import REGION
from tests.cloud_harness import Cloud

VISIBILITY = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": True, "MetricName": "all"}
PROTECTED = {"DataProtections": [{"Field": {"FieldType": "BODY"}, "Action": "SUBSTITUTION"}]}


@pytest.fixture(scope="module")
def waf(cloud: Cloud) -> Any:
    return cloud.client("wafv2")


@pytest.fixture(scope="module")
def stage(cloud: Cloud) -> tuple[str, str]:
    """Make an API with a stage; return its id and the stage's ARN."""
    apis = cloud.client("apigateway")
    api = apis.create_rest_api(name="api")["id"]
    deployment = apis.create_deployment(restApiId=api)["id"]
    apis.create_stage(restApiId=api, stageName="llm", deploymentId=deployment)
    return api, f"arn:aws:apigateway:{REGION}::/restapis/{api}/stages/llm"


def web_acl(waf: Any, name: str) -> dict[str, Any]:
    return waf.create_web_acl(
        Name=name,
        Scope="REGIONAL",
        DefaultAction={"Allow": {}},
        VisibilityConfig=VISIBILITY,
        DataProtectionConfig=PROTECTED,
    )["Summary"]


def log_group(cloud: Cloud, name: str) -> str:
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName=name)
    (found,) = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return str(found["arn"]).removesuffix(":*")


def refusal(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    failure: Any = caught.value
    return failure.response["Error"]["Code"]


def test_a_web_acl_keeps_what_it_protects(waf: Any) -> None:
    made = web_acl(waf, "protects")
    found = waf.get_web_acl(Name="protects", Id=made["Id"], Scope="REGIONAL")
    assert found["WebACL"]["DataProtectionConfig"] == PROTECTED
    waf.update_web_acl(
        Name="protects", Id=made["Id"], Scope="REGIONAL", LockToken=found["LockToken"], Description="changed",
        DefaultAction={"Block": {}}, VisibilityConfig=VISIBILITY,
    )  # fmt: skip
    changed = waf.get_web_acl(Name="protects", Id=made["Id"], Scope="REGIONAL")["WebACL"]
    assert "DataProtectionConfig" not in changed
    assert (changed["Description"], changed["DefaultAction"]) == ("changed", {"Block": {}})


def test_a_web_acl_says_where_it_logs_to(cloud: Cloud, waf: Any) -> None:
    acl = web_acl(waf, "logs")
    group = log_group(cloud, "aws-waf-logs-api")
    assert refusal(waf.get_logging_configuration, ResourceArn=acl["ARN"]) == "WAFNonexistentItemException"
    wanted: dict[str, Any] = {
        "ResourceArn": acl["ARN"],
        "LogDestinationConfigs": [group],
        "RedactedFields": [{"SingleHeader": {"Name": "x-api-key"}}, {"QueryString": {}}],
        "LoggingFilter": {
            "DefaultBehavior": "DROP",
            "Filters": [
                {
                    "Behavior": "KEEP",
                    "Requirement": "MEETS_ANY",
                    "Conditions": [{"ActionCondition": {"Action": "BLOCK"}}],
                }
            ],
        },
    }
    waf.put_logging_configuration(LoggingConfiguration=wanted)
    found = waf.get_logging_configuration(ResourceArn=acl["ARN"])["LoggingConfiguration"]
    assert found == {**wanted, "ManagedByFirewallManager": False}
    waf.delete_logging_configuration(ResourceArn=acl["ARN"])
    assert refusal(waf.delete_logging_configuration, ResourceArn=acl["ARN"]) == "WAFNonexistentItemException"


def test_a_log_is_of_a_web_acl_and_goes_to_a_group_for_it(cloud: Cloud, waf: Any) -> None:
    acl = web_acl(waf, "wrong")
    other = log_group(cloud, "other")
    put = waf.put_logging_configuration
    for arn, destination, code in (
        (acl["ARN"], other, "WAFInvalidParameterException"),
        (acl["ARN"], other.replace(":other", ":aws-waf-logs-none"), "WAFLogDestinationPermissionIssueException"),
        (acl["ARN"][:-1] + "x", other, "WAFNonexistentItemException"),
    ):
        asked = {"ResourceArn": arn, "LogDestinationConfigs": [destination]}
        assert refusal(put, LoggingConfiguration=asked) == code


def test_a_web_acl_stands_before_a_stage_that_is_there_and_stays_while_it_does(
    cloud: Cloud, waf: Any, stage: tuple[str, str]
) -> None:
    acl = web_acl(waf, "stands")
    missing = stage[1].replace("/llm", "/other")
    associate = waf.associate_web_acl
    assert refusal(associate, WebACLArn=acl["ARN"], ResourceArn=missing) == "WAFNonexistentItemException"
    associate(WebACLArn=acl["ARN"], ResourceArn=stage[1])
    assert waf.get_web_acl_for_resource(ResourceArn=stage[1])["WebACL"]["ARN"] == acl["ARN"]
    whole = {"Name": "stands", "Id": acl["Id"], "Scope": "REGIONAL", "LockToken": acl["LockToken"]}
    assert refusal(waf.delete_web_acl, **whole) == "WAFAssociatedItemException"
    group = log_group(cloud, "aws-waf-logs-stands")
    waf.put_logging_configuration(LoggingConfiguration={"ResourceArn": acl["ARN"], "LogDestinationConfigs": [group]})
    waf.disassociate_web_acl(ResourceArn=stage[1])
    waf.delete_web_acl(**whole)
    assert refusal(waf.get_logging_configuration, ResourceArn=acl["ARN"]) == "WAFNonexistentItemException"


def test_a_domain_name_is_in_service_mapped_at_its_root_and_renewed(cloud: Cloud, stage: tuple[str, str]) -> None:
    apis = cloud.client("apigateway")
    certificates = [f"arn:aws:acm:{REGION}:000000000000:certificate/{number}" for number in "12"]
    apis.create_domain_name(
        domainName="llm.example.com", regionalCertificateArn=certificates[0], securityPolicy="TLS_1_2",
        endpointConfiguration={"types": ["REGIONAL"]},
    )  # fmt: skip
    made = apis.get_domain_name(domainName="llm.example.com")
    assert (made["domainNameStatus"], made["securityPolicy"]) == ("AVAILABLE", "TLS_1_2")
    assert {"regionalDomainName", "regionalHostedZoneId"} <= made.keys()
    assert not {"mutualTlsAuthentication", "distributionDomainName", "certificateArn"} & made.keys()
    apis.create_base_path_mapping(domainName="llm.example.com", restApiId=stage[0], stage="llm", basePath="")
    mapped = apis.get_base_path_mapping(domainName="llm.example.com", basePath="(none)")
    assert (mapped["restApiId"], mapped["stage"]) == (stage[0], "llm")
    moved = [{"op": "replace", "path": "/stage", "value": "next"}]
    apis.update_base_path_mapping(domainName="llm.example.com", basePath="(none)", patchOperations=moved)
    assert apis.get_base_path_mapping(domainName="llm.example.com", basePath="(none)")["stage"] == "next"
    change = [{"op": "replace", "path": "/regionalCertificateArn", "value": certificates[1]}]
    apis.update_domain_name(domainName="llm.example.com", patchOperations=change)
    assert apis.get_domain_name(domainName="llm.example.com")["regionalCertificateArn"] == certificates[1]
    assert refusal(apis.update_domain_name, domainName="x.example.com", patchOperations=change) == "NotFoundException"
    apis.delete_base_path_mapping(domainName="llm.example.com", basePath="(none)")
    apis.delete_domain_name(domainName="llm.example.com")


def test_a_domain_name_changes_only_what_aws_lets_change(cloud: Cloud) -> None:
    apis = cloud.client("apigateway")
    apis.create_domain_name(domainName="fixed.example.com", endpointConfiguration={"types": ["REGIONAL"]})
    change = [{"op": "replace", "path": "/domainName", "value": "other.example.com"}]
    refused = refusal(apis.update_domain_name, domainName="fixed.example.com", patchOperations=change)
    assert refused == "BadRequestException"


def test_who_may_change_one_web_acl_may_change_no_other(cloud: Cloud, waf: Any) -> None:
    mine, other = web_acl(waf, "mine"), web_acl(waf, "others")
    group = log_group(cloud, "aws-waf-logs-mine")
    iam = cloud.client("iam")
    iam.create_user(UserName="owner")
    allowed = {"Effect": "Allow", "Action": "wafv2:*", "Resource": f"arn:aws:wafv2:{REGION}:*:regional/*/mine/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName="owner", PolicyName="only", PolicyDocument=policy)
    key = iam.create_access_key(UserName="owner")["AccessKey"]
    owner = cloud.client("wafv2", key["AccessKeyId"], key["SecretAccessKey"])
    owner.list_tags_for_resource(ResourceARN=mine["ARN"])
    owner.put_logging_configuration(LoggingConfiguration={"ResourceArn": mine["ARN"], "LogDestinationConfigs": [group]})
    asked = {"ResourceArn": other["ARN"], "LogDestinationConfigs": [group]}
    assert refusal(owner.put_logging_configuration, LoggingConfiguration=asked) == "AccessDeniedException"
    assert refusal(owner.list_tags_for_resource, ResourceARN=other["ARN"]) == "AccessDeniedException"
