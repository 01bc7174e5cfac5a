"""The public door: a Regional REST API with API keys that hands every request to the LLM gateway's load balancer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _checks, _iam
from llm_serving._api_limits import AUTHENTICATIONS, check_timeout, check_usage_plans
from llm_serving._cors import refusals
from llm_serving._cors_origins import origin_problems
from llm_serving._domain import Domain, DomainArgs
from llm_serving._domain import check as check_domain
from llm_serving._keys import encryption_key
from llm_serving._web_acl import FirewallArgs, WebAcl
from llm_serving._web_acl import check as check_firewall
from llm_serving.runtimes.launch import refuse

__all__ = ["ApiGateway", "ApiGatewayArgs", "DomainArgs", "FirewallArgs", "UsagePlanArgs"]

SECURITY_POLICY = "SecurityPolicy_TLS13_1_2_2021_06"
"""TLS 1.2 or 1.3. A Regional API that names none takes TLS 1.0 (API Gateway, default security policies)."""

ACCESS_LOG_FIELDS = {
    "requestId": "$context.requestId",
    "apiKeyId": "$context.identity.apiKeyId",
    "sourceIp": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "responseLength": "$context.responseLength",
    "responseLatencyMs": "$context.responseLatency",
    "integrationLatencyMs": "$context.integrationLatency",
    "integrationError": "$context.integrationErrorMessage",
    "time": "$context.requestTime",
}
"""What a line of the access log holds: neither prompt nor answer nor key."""

TOKEN_MARK = {"integration.request.header.x-llm-authentication": "'TOKEN'"}
"""Tells the LLM gateway that a request must have a token; it takes the place of what a caller may have sent."""


class UsagePlanArgs(TypedDict):
    """What the holders of some API keys may use together, each key by itself."""

    keys: list[str]
    """Names of the API keys. AWS makes their values."""
    requests_per_second: NotRequired[float]
    """Steady rate of each key. Default: 10."""
    burst: NotRequired[int]
    """Requests that a key may send at once. Default: 20."""
    requests_per_day: NotRequired[int]
    """Quota of each key per day. Default: none."""


class ApiGatewayArgs(TypedDict):
    """Arguments of `ApiGateway`."""

    load_balancer_arn: pulumi.Input[str]
    """ARN of the network load balancer that the requests go to."""
    load_balancer_dns_name: pulumi.Input[str]
    """Host name of that load balancer."""
    usage_plans: NotRequired[Mapping[str, UsagePlanArgs]]
    """Usage plans by name, with their API keys. A key name may be in one plan only."""
    authentication: NotRequired[str]
    """What callers show: `KEY`, of a usage plan, which API Gateway checks; or `TOKEN`, which the LLM gateway checks
    where it has `jwt`, and there are no usage plans then. Default: KEY."""
    cors_origins: NotRequired[Sequence[str]]
    """Origins of web pages whose scripts may call, which `LlmGateway` must have too; `*` is any. Default: none may."""
    stage_name: NotRequired[str]
    """Name of the stage, the first part of the path of the public URL. Default: llm."""
    response_transfer_mode: NotRequired[str]
    """`STREAM` sends each token on as it comes; `BUFFERED` answers when all is there. Default: STREAM."""
    timeout_seconds: NotRequired[int]
    """Longest that a request may take: up to 900 streamed, 29 buffered. Default: 300, or 29 buffered."""
    requests_per_second: NotRequired[float]
    """Steady rate of all callers together. Default: 100."""
    burst: NotRequired[int]
    """Requests that all callers together may send at once. Default: 200."""
    log_retention_days: NotRequired[int]
    """Days that the access log is kept, one of the periods that CloudWatch offers. Default: 90."""
    manage_account_role: NotRequired[bool]
    """Whether to set the role by which API Gateway writes logs, one per account and region. Default: true."""
    url: NotRequired[str]
    """Public address where it is not the stage's own, as behind a proxy; may hold {api} and {stage}."""
    firewall: NotRequired[FirewallArgs]
    """A web ACL before the stage, as its arguments say. Default: none."""
    domain: NotRequired[DomainArgs]
    """A domain name of one's own, which is then the only address of the API. Default: none. Excludes `url`."""


@dataclass(frozen=True)
class _Shared:
    """What all integrations have."""

    link_id: pulumi.Input[str]
    host: pulumi.Input[str]
    mode: str
    timeout: int


class ApiGateway(pulumi.ComponentResource):
    """A REST API whose every path needs an API key and leads, through a VPC link, to one network load balancer.

    With `authentication` TOKEN no path needs a key, and the LLM gateway asks each request for a token.

    Raises ValueError at construction for a timeout that the transfer mode does not allow, a key in two plans, a
    firewall that would block what a plan allows, or a domain name or certificate that can't be one.
    """

    url: pulumi.Output[str]
    """Public base address: `<url>/v1/chat/completions`."""
    rest_api_id: pulumi.Output[str]
    """Id of the REST API."""
    api_keys: pulumi.Output[Mapping[str, str]]
    """API key values by name. Secret."""
    access_log_group: pulumi.Output[str]
    """Name of the log group with one line for each request."""
    firewall_log_group: pulumi.Output[str]
    """Name of the log group of what the firewall blocked or counted; empty without one."""
    domain_target: pulumi.Output[str]
    """Host name that the domain name is to be an alias of; empty without one."""

    def __init__(self, name: str, args: ApiGatewayArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:ApiGateway", name, {}, opts)
        self._name = name
        self._stage_name = args.get("stage_name", "llm")
        self._tokens = _checks.one_of("authentication", args.get("authentication", "KEY"), AUTHENTICATIONS) == "TOKEN"
        check_usage_plans("usage_plans", args.get("usage_plans", {}), tokens=self._tokens)
        refuse(origin_problems("cors_origins", args.get("cors_origins", ())))
        mode = args.get("response_transfer_mode", "STREAM")
        timeout = check_timeout(mode, args.get("timeout_seconds"))
        firewall, domain = args.get("firewall"), args.get("domain")
        limit = check_firewall(firewall, args.get("usage_plans", {})) if firewall is not None else 0
        if domain is not None:
            check_domain(domain)
            if "url" in args:
                raise ValueError("url: the address is that of domain; nearest valid value: none")

        self._api = aws.apigateway.RestApi(
            f"{name}-api",
            description="OpenAI-compatible API of the LLM gateway",
            endpoint_configuration={"types": "REGIONAL"},
            api_key_source="HEADER",
            security_policy=SECURITY_POLICY,
            # STRICT also refuses callers whose TLS server name isn't the API's own, such as a CDN's.
            endpoint_access_mode="BASIC",
            disable_execute_api_endpoint=True if domain is not None else None,
            opts=self._child(),
        )
        self.rest_api_id = self._api.id
        integrations = self._proxy(args, mode, timeout)
        stage = self._stage(args, integrations, mode, timeout)
        keys = self._keys(args, stage)
        self.firewall_log_group = self.domain_target = pulumi.Output.from_input("")
        if firewall is not None:
            self.firewall_log_group = WebAcl(
                name, firewall, limit=limit, stage=stage, key=self._log_key, retention_days=self._retention, parent=self
            ).log_group
        template = args.get("url")
        if domain is not None:
            own = Domain(name, domain, stage=stage, parent=self)
            self.url, self.domain_target = own.url, own.target
        elif template is None:
            self.url = stage.invoke_url
        else:
            self.url = pulumi.Output.all(self._api.id, stage.stage_name).apply(
                lambda values: template.format(api=values[0], stage=values[1])
            )
        values: Any = {key: res.value for key, res in keys.items()}  # Output.all makes a list of none
        self.api_keys = pulumi.Output.secret(values)
        self.register_outputs(
            {
                "url": self.url,
                "restApiId": self.rest_api_id,
                "apiKeys": self.api_keys,
                "accessLogGroup": self.access_log_group,
                "firewallLogGroup": self.firewall_log_group,
                "domainTarget": self.domain_target,
            }
        )

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on))

    def _proxy(self, args: ApiGatewayArgs, mode: str, timeout: int) -> list[pulumi.CustomResource]:
        """Hand the root and every path below it to the load balancer as they are."""
        link = aws.apigateway.VpcLink(
            f"{self._name}-link",
            description="To the LLM gateway's load balancer",
            target_arn=args["load_balancer_arn"],
            opts=self._child(),
        )
        below = aws.apigateway.Resource(
            f"{self._name}-proxy",
            rest_api=self._api.id,
            parent_id=self._api.root_resource_id,
            path_part="{proxy+}",
            opts=self._child(),
        )
        shared = _Shared(link.id, args["load_balancer_dns_name"], mode, timeout)
        made = self._way("root", "ANY", self._api.root_resource_id, shared)
        made += self._way("proxy", "ANY", below.id, shared)
        if origins := args.get("cors_origins", ()):
            # A browser asks first, and shows neither key nor token.
            made += self._way("preflight", "OPTIONS", below.id, shared)
            made += refusals(self._name, self._api.id, origins, self._child())
        return made

    def _way(
        self,
        suffix: str,
        verb: str,
        resource_id: pulumi.Input[str],
        shared: _Shared,
    ) -> list[pulumi.CustomResource]:
        """Hand requests of one resource and method on."""
        path = "" if suffix == "root" else "{proxy}"
        open_ = verb == "OPTIONS"
        method = aws.apigateway.Method(
            f"{self._name}-{suffix}",
            rest_api=self._api.id,
            resource_id=resource_id,
            http_method=verb,
            authorization="NONE",
            api_key_required=not (self._tokens or open_),
            request_parameters={"method.request.path.proxy": True} if path else None,
            opts=self._child(),
        )
        mapped = {"integration.request.path.proxy": "method.request.path.proxy"} if path else {}
        integration = aws.apigateway.Integration(
            f"{self._name}-{suffix}",
            rest_api=self._api.id,
            resource_id=resource_id,
            http_method=method.http_method,
            type="HTTP_PROXY",
            integration_http_method=verb,
            connection_type="VPC_LINK",
            connection_id=shared.link_id,
            uri=pulumi.Output.concat("http://", shared.host, "/", path),
            request_parameters=mapped | (TOKEN_MARK if self._tokens and not open_ else {}) or None,
            passthrough_behavior="WHEN_NO_MATCH",
            timeout_milliseconds=shared.timeout * 1000,
            response_transfer_mode=shared.mode,
            opts=self._child(),
        )
        return [integration]

    def _stage(
        self, args: ApiGatewayArgs, integrations: list[pulumi.CustomResource], mode: str, timeout: int
    ) -> aws.apigateway.Stage:
        key = encryption_key(f"{self._name}-logs", f"Access log of {self._name}", parent=self, log_groups=True)
        retention = _checks.retention_days("log_retention_days", args.get("log_retention_days", 90))
        self._log_key, self._retention = key, retention
        logs = aws.cloudwatch.LogGroup(
            f"{self._name}-access", retention_in_days=retention, kms_key_id=key.arn, opts=self._child()
        )
        self.access_log_group = logs.name
        # API Gateway would create this group itself, without encryption and kept for ever.
        errors = aws.cloudwatch.LogGroup(
            f"{self._name}-execution",
            name=pulumi.Output.concat("API-Gateway-Execution-Logs_", self._api.id, "/", self._stage_name),
            retention_in_days=retention,
            kms_key_id=key.arn,
            opts=self._child(),
        )
        account = [self._account_role()] if args.get("manage_account_role", True) else []
        # A deployment is a snapshot: a new one is needed whenever what it holds changes, and only then.
        held: dict[str, Any] = {"host": args["load_balancer_dns_name"], "mode": mode, "timeout": timeout, "routes": 1}
        if self._tokens:
            held["authentication"] = "TOKEN"
        if origins := args.get("cors_origins"):
            held["cors"] = sorted(origins)
        if "domain" in args:
            # The API's own address is closed by a deployment only.
            held["endpoint"] = "domain"
        content = pulumi.Output.json_dumps(held, sort_keys=True)
        deployment = aws.apigateway.Deployment(
            f"{self._name}-deployment",
            rest_api=self._api.id,
            triggers={"content": content.apply(lambda text: hashlib.sha256(text.encode()).hexdigest())},
            opts=self._child(*integrations),
        )
        stage = aws.apigateway.Stage(
            f"{self._name}-stage",
            rest_api=self._api.id,
            deployment=deployment.id,
            stage_name=self._stage_name,
            access_log_settings={"destination_arn": logs.arn, "format": json.dumps(ACCESS_LOG_FIELDS)},
            xray_tracing_enabled=True,
            opts=self._child(*account, errors),
        )
        aws.apigateway.MethodSettings(
            f"{self._name}-settings",
            rest_api=self._api.id,
            stage_name=stage.stage_name,
            method_path="*/*",
            settings={
                "metrics_enabled": True,
                # Errors only, and never the data: that would write prompts into the execution log.
                "logging_level": "ERROR",
                "data_trace_enabled": False,
                "throttling_rate_limit": float(args.get("requests_per_second", 100)),
                "throttling_burst_limit": int(args.get("burst", 200)),
            },
            opts=self._child(),
        )
        return stage

    def _account_role(self) -> aws.apigateway.Account:
        role = aws.iam.Role(
            f"{self._name}-logs",
            description="Lets API Gateway write its logs",
            assume_role_policy=_iam.service_trust("apigateway.amazonaws.com"),
            opts=self._child(),
        )
        partition = aws.get_partition_output(opts=pulumi.InvokeOptions(parent=self)).partition
        attachment = aws.iam.RolePolicyAttachment(
            f"{self._name}-logs",
            role=role.name,
            policy_arn=pulumi.Output.concat(
                "arn:", partition, ":iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
            ),
            opts=self._child(),
        )
        return aws.apigateway.Account(
            f"{self._name}-account", cloudwatch_role_arn=role.arn, opts=self._child(attachment)
        )

    def _keys(self, args: ApiGatewayArgs, stage: aws.apigateway.Stage) -> dict[str, aws.apigateway.ApiKey]:
        keys: dict[str, aws.apigateway.ApiKey] = {}
        for plan_name, plan_args in args.get("usage_plans", {}).items():
            per_day = plan_args.get("requests_per_day")
            plan = aws.apigateway.UsagePlan(
                f"{self._name}-{plan_name}",
                description=f"Usage plan {plan_name}",
                api_stages=[{"api_id": self._api.id, "stage": stage.stage_name}],
                throttle_settings={
                    "rate_limit": float(plan_args.get("requests_per_second", 10)),
                    "burst_limit": int(plan_args.get("burst", 20)),
                },
                quota_settings={"limit": int(per_day), "period": "DAY"} if per_day else None,
                opts=self._child(),
            )
            for key_name in plan_args["keys"]:
                key = aws.apigateway.ApiKey(
                    f"{self._name}-{key_name}",
                    description=f"API key {key_name} of usage plan {plan_name}",
                    opts=self._child(),
                )
                aws.apigateway.UsagePlanKey(
                    f"{self._name}-{key_name}",
                    usage_plan_id=plan.id,
                    key_id=key.id,
                    key_type="API_KEY",
                    # Its `value` is the key itself, which only the key's own type calls a secret.
                    opts=pulumi.ResourceOptions(parent=self, additional_secret_outputs=["value"]),
                )
                keys[key_name] = key
        return keys
