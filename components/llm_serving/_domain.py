"""A domain name of one's own before a REST API's stage."""

from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _edge_rules

SECURITY_POLICY = "TLS_1_2"
"""TLS 1.2 or newer. The API's own policy, which is stricter about ciphers, decides where the API is reached by the name
(API Gateway, security policies for custom domains)."""


class DomainArgs(TypedDict):
    """A domain name, and the certificate that proves it."""

    name: str
    """Host name, as `llm.example.com`."""
    certificate_arn: pulumi.Input[str]
    """ARN of a certificate of ACM for that name, in the API's region."""
    hosted_zone_id: NotRequired[pulumi.Input[str]]
    """Id of the Route 53 zone that gets the name's address. Default: none; the record is made elsewhere."""


def check(args: DomainArgs, region: str | None = None) -> None:
    """Check what is known of the arguments; raises ValueError otherwise."""
    _edge_rules.check_domain("domain.name", args["name"])
    arn, zone = args["certificate_arn"], args.get("hosted_zone_id")
    if isinstance(arn, str):
        _edge_rules.check_certificate("domain.certificate_arn", arn, region)
    if isinstance(zone, str):
        _edge_rules.check_hosted_zone("domain.hosted_zone_id", zone)


class Domain:
    """The domain name of one stage. Its resources are children of the component that makes it."""

    url: pulumi.Output[str]
    """Public base address, known when requests to it reach the stage."""
    target: pulumi.Output[str]
    """Host name that the domain name is to be an alias of."""

    def __init__(self, name: str, args: DomainArgs, *, stage: aws.apigateway.Stage, parent: pulumi.Resource):
        child = pulumi.ResourceOptions(parent=parent)
        domain = aws.apigateway.DomainName(
            f"{name}-domain",
            domain_name=args["name"],
            regional_certificate_arn=args["certificate_arn"],
            endpoint_configuration={"types": "REGIONAL"},
            security_policy=SECURITY_POLICY,
            opts=child,
        )
        mapping = aws.apigateway.BasePathMapping(
            f"{name}-domain",
            rest_api=stage.rest_api,
            stage_name=stage.stage_name,
            domain_name=domain.domain_name,
            opts=child,
        )
        if "hosted_zone_id" in args:
            aws.route53.Record(
                f"{name}-domain",
                zone_id=args["hosted_zone_id"],
                name=args["name"],
                type="A",
                aliases=[
                    {
                        "name": domain.regional_domain_name,
                        "zone_id": domain.regional_zone_id,
                        "evaluate_target_health": False,
                    }
                ],
                opts=child,
            )
        self.url = mapping.domain_name.apply(lambda host: f"https://{host}")
        self.target = domain.regional_domain_name
