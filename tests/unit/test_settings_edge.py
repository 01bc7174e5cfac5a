"""What stands before the API: a firewall unless a stack says otherwise, and a domain name where it has one."""

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from infra import arguments
from infra.settings import Settings
from tests.unit.test_settings import loaded, problems, values

STACKS = Path(__file__).parents[2] / "stacks"
CERTIFICATE = "arn:aws:acm:us-east-1:111111111111:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"


def with_domain(**more: Any) -> dict[str, Any]:
    settings = values()
    del settings["apiGateway"]["url"]
    settings["apiGateway"]["domain"] = {"name": "llm.example.com", "certificateArn": CERTIFICATE, **more}
    return settings


@pytest.mark.parametrize(("stack", "enabled"), [("local", False), ("dev", False), ("staging", True), ("prod", True)])
def test_each_stack_file_says_whether_it_has_a_firewall(stack: str, *, enabled: bool) -> None:
    config = cast(dict[str, Any], yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())["config"])
    assert config["llm-serving:apiGateway"]["firewall"]["enabled"] is enabled


def test_a_stack_that_says_nothing_has_one() -> None:
    settings = values()
    del settings["apiGateway"]["firewall"]
    assert loaded(settings).api_gateway.firewall.enabled is True
    assert arguments.firewall(loaded(settings).api_gateway.firewall) == {"block": True}


def test_what_a_stack_says_of_it_reaches_the_component() -> None:
    settings = values()
    settings["apiGateway"]["firewall"] = {
        "mode": "count", "requestsPerFiveMinutes": 40_000, "countRules": ["NoUserAgent_HEADER"],
        "callerCidrs": ["203.0.113.0/24"],
    }  # fmt: skip
    assert arguments.firewall(loaded(settings).api_gateway.firewall) == {
        "block": False, "requests_per_five_minutes": 40_000, "count_rules": ["NoUserAgent_HEADER"],
        "caller_cidrs": ["203.0.113.0/24"],
    }  # fmt: skip


def test_a_domain_name_reaches_the_component() -> None:
    def args(settings: Settings) -> object:
        assert settings.api_gateway.domain is not None
        return arguments.domain(settings.api_gateway.domain)

    assert args(loaded(with_domain())) == {"name": "llm.example.com", "certificate_arn": CERTIFICATE}
    assert args(loaded(with_domain(hostedZoneId="Z0123"))) == {
        "name": "llm.example.com", "certificate_arn": CERTIFICATE, "hosted_zone_id": "Z0123",
    }  # fmt: skip


def test_a_certificate_is_of_the_stacks_region() -> None:
    assert problems(with_domain(certificateArn=CERTIFICATE.replace("us-east-1", "eu-west-1"))) == [
        (
            "llm-serving:apiGateway.domain.certificateArn: the certificate is in eu-west-1, and a Regional API takes"
            " one of its own region; nearest valid value: arn:aws:acm:us-east-1:111111111111:certificate/ID"
        )
    ]
