"""Calls by scripts of web pages (CORS): API Gateway's own refusals, which their pages may read."""

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

REFUSALS = ("DEFAULT_4XX", "DEFAULT_5XX")
"""API Gateway's own answers, by its names for them; those of the LLM gateway have their headers from it."""
TEMPLATES = {"application/json": '{"message":$context.error.messageString}'}
"""API Gateway's default body, which it gives back as if it were ours: left out, it would look like a change."""


def refusals(
    name: str, rest_api: pulumi.Input[str], origins: Sequence[str], opts: pulumi.ResourceOptions
) -> list[aws.apigateway.Response]:
    """Let pages read API Gateway's own refusals; of several origins it can't say which one has asked, so none may."""
    if len(origins) != 1:
        return []
    return [
        aws.apigateway.Response(
            f"{name}-{kind.lower().replace('_', '-')}",
            rest_api_id=rest_api,
            response_type=kind,
            response_templates=TEMPLATES,
            response_parameters={"gatewayresponse.header.Access-Control-Allow-Origin": f"'{origins[0]}'"},
            opts=opts,
        )
        for kind in REFUSALS
    ]
