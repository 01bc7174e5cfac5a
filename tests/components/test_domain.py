"""A domain name: TLS 1.2, the stage at its root, a record where there is a zone, and no other way in."""

from typing import Any

import pytest

from tests.components.test_api_gateway import api
from tests.recording import Recording

DOMAIN = "aws:apigateway/domainName:DomainName"
MAPPING = "aws:apigateway/basePathMapping:BasePathMapping"
RECORD = "aws:route53/record:Record"
API = "aws:apigateway/restApi:RestApi"
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"


def named(**more: Any) -> Recording:
    return api(domain={"name": "llm.example.com", "certificate_arn": CERTIFICATE, **more})


def test_the_name_is_the_address() -> None:
    made = named()
    assert made.outputs["a"]["url"] == "https://llm.example.com"
    assert made.outputs["a"]["domainTarget"] == "d-1.execute-api.us-east-1.amazonaws.com"
    assert api().outputs["a"]["domainTarget"] == ""


def test_callers_need_tls_1_2() -> None:
    assert named().inputs(DOMAIN, "a-domain") == {
        "domainName": "llm.example.com",
        "regionalCertificateArn": CERTIFICATE,
        "endpointConfiguration": {"types": "REGIONAL"},
        "securityPolicy": "TLS_1_2",
    }


def test_the_stage_is_at_the_root() -> None:
    assert named().inputs(MAPPING, "a-domain") == {
        "restApi": "a-api-id", "stageName": "llm", "domainName": "llm.example.com",
    }  # fmt: skip


def test_awss_own_address_is_closed_and_deployed_so() -> None:
    def trigger(made: Recording) -> str:
        return made.inputs("aws:apigateway/deployment:Deployment", "a-deployment")["triggers"]["content"]

    assert named().inputs(API, "a-api")["disableExecuteApiEndpoint"] is True
    assert "disableExecuteApiEndpoint" not in api().inputs(API, "a-api")
    assert trigger(named()) != trigger(api())


def test_a_zone_gets_the_record() -> None:
    assert RECORD not in named().types()
    assert named(hosted_zone_id="Z0123456789").inputs(RECORD, "a-domain") == {
        "zoneId": "Z0123456789",
        "name": "llm.example.com",
        "type": "A",
        "aliases": [{"name": "d-1.execute-api.us-east-1.amazonaws.com", "zoneId": "Z1", "evaluateTargetHealth": False}],
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"name": "https://LLM.example.com/v1"},
         "domain.name: 'https://LLM.example.com/v1' is no host name of a domain; nearest valid value: llm.example.com"),
        ({"name": "*.example.com"},
         "domain.name: '*.example.com' is no host name of a domain; nearest valid value: example.com"),
        ({"name": "llm"}, "domain.name: 'llm' is no host name of a domain; nearest valid value: llm.example.com"),
        ({"certificate_arn": "arn:aws:iam::123456789012:server-certificate/x"},
         ("domain.certificate_arn: 'arn:aws:iam::123456789012:server-certificate/x' is no ARN of an ACM certificate;"
         " nearest valid value: arn:aws:acm:REGION:ACCOUNT:certificate/ID")),
        ({"hosted_zone_id": "/hostedzone/Z0123"},
         "domain.hosted_zone_id: '/hostedzone/Z0123' is no id of a hosted zone; nearest valid value: Z0123"),
    ],
)  # fmt: skip
def test_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        named(**args)
    assert str(caught.value) == message


def test_an_address_of_another_kind_excludes_it() -> None:
    with pytest.raises(ValueError, match="url: the address is that of domain; nearest valid value: none"):
        api(url="https://proxy.example", domain={"name": "llm.example.com", "certificate_arn": CERTIFICATE})
