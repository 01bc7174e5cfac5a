"""ApiGateway: every path behind a key and a VPC link, logs without prompts, and plans whose keys stay secret."""

import json
from typing import Any

import pytest

from llm_serving import ApiGateway
from llm_serving.api_gateway import ApiGatewayArgs
from tests.recording import Recording, record

METHOD = "aws:apigateway/method:Method"
INTEGRATION = "aws:apigateway/integration:Integration"


def api(**args: Any) -> Recording:
    given: dict[str, Any] = {
        "load_balancer_arn": "arn:nlb",
        "load_balancer_dns_name": "nlb.example",
        "usage_plans": {"standard": {"keys": ["web", "batch"]}},
        **args,
    }
    return record(lambda: ApiGateway("a", ApiGatewayArgs(**given)))


def test_every_resource() -> None:
    assert api().types() == {
        "llm-serving:index:ApiGateway": 1,
        "aws:apigateway/restApi:RestApi": 1,
        "aws:apigateway/vpcLink:VpcLink": 1,
        "aws:apigateway/resource:Resource": 1,
        METHOD: 2,
        INTEGRATION: 2,
        "aws:apigateway/deployment:Deployment": 1,
        "aws:apigateway/stage:Stage": 1,
        "aws:apigateway/methodSettings:MethodSettings": 1,
        "aws:apigateway/account:Account": 1,
        "aws:apigateway/usagePlan:UsagePlan": 1,
        "aws:apigateway/apiKey:ApiKey": 2,
        "aws:apigateway/usagePlanKey:UsagePlanKey": 2,
        "aws:iam/role:Role": 1,
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment": 1,
        "aws:kms/key:Key": 1,
        "aws:cloudwatch/logGroup:LogGroup": 2,
    }


def test_callers_need_tls_1_2() -> None:
    made = api().inputs("aws:apigateway/restApi:RestApi", "a-api")
    assert (made["securityPolicy"], made["endpointAccessMode"]) == ("SecurityPolicy_TLS13_1_2_2021_06", "BASIC")


def test_both_logs_are_encrypted_and_there_before_the_stage() -> None:
    made = api(log_retention_days=30)
    key = "arn:aws:test:us-east-1:123456789012:key/a-logs"
    assert made.inputs("aws:cloudwatch/logGroup:LogGroup", "a-access") == {"retentionInDays": 30, "kmsKeyId": key}
    assert made.inputs("aws:cloudwatch/logGroup:LogGroup", "a-execution") == {
        "name": "API-Gateway-Execution-Logs_a-api-id/llm",
        "retentionInDays": 30,
        "kmsKeyId": key,
    }
    stage = made.one("aws:apigateway/stage:Stage", "a-stage")
    assert {"a-access", "a-execution"} <= set(stage.depends_on)
    assert stage.inputs["xrayTracingEnabled"] is True


def test_every_path_needs_a_key_and_leads_to_the_load_balancer() -> None:
    made = api()
    for name in ("a-root", "a-proxy"):
        method = made.inputs(METHOD, name)
        assert (method["httpMethod"], method["apiKeyRequired"]) == ("ANY", True)
    assert made.inputs(INTEGRATION, "a-proxy") == {
        "restApi": "a-api-id",
        "resourceId": "a-proxy-id",
        "httpMethod": "ANY",
        "type": "HTTP_PROXY",
        "integrationHttpMethod": "ANY",
        "connectionType": "VPC_LINK",
        "connectionId": "a-link-id",
        "uri": "http://nlb.example/{proxy}",
        "requestParameters": {"integration.request.path.proxy": "method.request.path.proxy"},
        "passthroughBehavior": "WHEN_NO_MATCH",
        "timeoutMilliseconds": 300_000,
        "responseTransferMode": "STREAM",
    }
    root = made.inputs(INTEGRATION, "a-root")
    assert (root["uri"], root["resourceId"]) == ("http://nlb.example/", "root")


def test_where_callers_show_tokens_no_key_is_needed_and_the_gateway_is_told() -> None:
    made = api(usage_plans={}, authentication="TOKEN")
    mark = {"integration.request.header.x-llm-authentication": "'TOKEN'"}
    for name in ("a-root", "a-proxy"):
        assert made.inputs(METHOD, name)["apiKeyRequired"] is False
        assert made.inputs(INTEGRATION, name)["requestParameters"].items() >= mark.items()
    assert made.inputs(INTEGRATION, "a-root")["requestParameters"] == mark
    assert not {"aws:apigateway/apiKey:ApiKey", "aws:apigateway/usagePlan:UsagePlan"} & made.types().keys()
    assert made.outputs["a"]["apiKeys"] == {"secret": {}}
    keys = api().inputs("aws:apigateway/deployment:Deployment", "a-deployment")["triggers"]
    assert made.inputs("aws:apigateway/deployment:Deployment", "a-deployment")["triggers"] != keys


def test_pages_may_call_where_they_are_named() -> None:
    refusal = "aws:apigateway/response:Response"
    before, made = api(), api(cors_origins=["https://app.example"])
    added = {kind: number - before.types().get(kind, 0) for kind, number in made.types().items()}
    assert {kind: number for kind, number in added.items() if number} == {METHOD: 1, INTEGRATION: 1, refusal: 2}
    method = made.inputs(METHOD, "a-preflight")
    assert (method["httpMethod"], method["apiKeyRequired"]) == ("OPTIONS", False)
    handed_on = made.inputs(INTEGRATION, "a-preflight")
    other = made.inputs(INTEGRATION, "a-proxy")
    assert handed_on == {**other, "httpMethod": "OPTIONS", "integrationHttpMethod": "OPTIONS"}
    assert made.inputs(refusal, "a-default-4xx")["responseParameters"] == {
        "gatewayresponse.header.Access-Control-Allow-Origin": "'https://app.example'"
    }
    deployment = made.one("aws:apigateway/deployment:Deployment", "a-deployment")
    assert {"a-preflight", "a-default-4xx", "a-default-5xx"} <= set(deployment.depends_on)
    assert deployment.inputs["triggers"] != before.inputs(deployment.type, "a-deployment")["triggers"]


def test_of_several_pages_none_may_read_the_apis_own_refusals() -> None:
    made = api(cors_origins=["https://a.example", "https://b.example"])
    assert "aws:apigateway/response:Response" not in made.types()


def test_a_preflight_needs_no_token_either() -> None:
    made = api(usage_plans={}, authentication="TOKEN", cors_origins=["*"])
    proxied = {"integration.request.path.proxy": "method.request.path.proxy"}
    assert made.inputs(INTEGRATION, "a-preflight")["requestParameters"] == proxied


def test_deployment_follows_what_it_holds_and_nothing_else() -> None:
    def trigger(**args: Any) -> str:
        return api(**args).inputs("aws:apigateway/deployment:Deployment", "a-deployment")["triggers"]["content"]

    assert trigger() == trigger(requests_per_second=5, usage_plans={"other": {"keys": ["x"]}})
    changed = {
        trigger(),
        trigger(timeout_seconds=20),
        trigger(load_balancer_dns_name="other.example"),
        trigger(response_transfer_mode="BUFFERED"),
    }
    assert len(changed) == 4
    assert {"a-root", "a-proxy"} <= set(api().one("aws:apigateway/deployment:Deployment", "a-deployment").depends_on)


def test_logs_hold_no_prompt() -> None:
    made = api(log_retention_days=30)
    stage = made.inputs("aws:apigateway/stage:Stage", "a-stage")
    fields = json.loads(stage["accessLogSettings"]["format"])
    assert not [value for value in fields.values() if "body" in value.lower() or "header" in value.lower()]
    settings = made.inputs("aws:apigateway/methodSettings:MethodSettings", "a-settings")["settings"]
    assert settings == {
        "metricsEnabled": True,
        "loggingLevel": "ERROR",
        "dataTraceEnabled": False,
        "throttlingRateLimit": 100,
        "throttlingBurstLimit": 200,
    }
    group = made.inputs("aws:cloudwatch/logGroup:LogGroup", "a-access")
    assert group == {"retentionInDays": 30, "kmsKeyId": "arn:aws:test:us-east-1:123456789012:key/a-logs"}
    assert "a-account" in made.one("aws:apigateway/stage:Stage", "a-stage").depends_on


def test_account_role_can_be_left_to_another_stack() -> None:
    types = api(manage_account_role=False).types()
    assert "aws:apigateway/account:Account" not in types
    assert "aws:iam/role:Role" not in types


def test_usage_plans_and_keys() -> None:
    plans = {
        "web": {"keys": ["site"], "requests_per_second": 5.5, "burst": 11},
        "batch": {"keys": ["nightly"], "requests_per_day": 1000},
    }
    made = api(usage_plans=plans)
    assert made.inputs("aws:apigateway/usagePlan:UsagePlan", "a-web") == {
        "description": "Usage plan web",
        "apiStages": [{"apiId": "a-api-id", "stage": "llm"}],
        "throttleSettings": {"rateLimit": 5.5, "burstLimit": 11},
    }
    batch = made.inputs("aws:apigateway/usagePlan:UsagePlan", "a-batch")
    assert batch["quotaSettings"] == {"limit": 1000, "period": "DAY"}
    assert made.inputs("aws:apigateway/usagePlanKey:UsagePlanKey", "a-nightly") == {
        "usagePlanId": "a-batch-id",
        "keyId": "a-nightly-id",
        "keyType": "API_KEY",
    }
    assert made.one("aws:apigateway/apiKey:ApiKey", "a-site").secret_outputs == ["value"]
    assert made.outputs["a"]["apiKeys"] == {"secret": {"site": "key-value", "nightly": "key-value"}}


def test_url() -> None:
    assert api().outputs["a"]["url"] == "https://api.example/llm"
    assert api().outputs["a"]["accessLogGroup"] == "a-access"
    assert api(url="http://127.0.0.1/{api}/{stage}/x").outputs["a"]["url"] == "http://127.0.0.1/a-api-id/llm/x"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"timeout_seconds": 1000},
            "timeout_seconds: 1000 s with STREAM responses is outside 1 to 900; nearest valid value: 900",
        ),
        (
            {"timeout_seconds": 60, "response_transfer_mode": "BUFFERED"},
            "timeout_seconds: 60 s with BUFFERED responses is outside 1 to 29; nearest valid value: 29",
        ),
        (
            {"response_transfer_mode": "stream"},
            "response_transfer_mode: 'stream' is not one of STREAM, BUFFERED; nearest valid value: STREAM",
        ),
        (
            {"usage_plans": {"a": {"keys": ["x"]}, "b": {"keys": ["x"]}}},
            "usage_plans.b.keys: 'x' is in plan a already; nearest valid value: x-b",
        ),
        (
            {"usage_plans": {}},
            "usage_plans: has no API key, so nobody could call the API; nearest valid value: one key",
        ),
        (
            {"log_retention_days": 45},
            "log_retention_days: 45 days is no period that CloudWatch Logs offers; nearest valid value: 30",
        ),
    ],
)
def test_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        api(**args)
    assert str(caught.value) == message
