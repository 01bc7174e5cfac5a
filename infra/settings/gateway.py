"""The way in: the LLM gateway and the public API before it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from infra.section import Section, checked, named, problem_of
from infra.settings.identity import JwtSettings
from llm_serving import _edge_rules, _semantic_tier
from llm_serving._api_limits import check_timeout, check_usage_plans
from llm_serving._cors_origins import origin_problems
from llm_serving._traces import check_endpoint


class TracesSettings(Section):
    """Traces of requests through the LLM gateway."""

    endpoint: Annotated[str, Field(examples=["http://collector.tracing.svc.cluster.local:4318"])]
    """Address of an OpenTelemetry collector's OTLP/HTTP receiver: https, or http inside the cluster."""
    sample_percent: Annotated[float, Field(ge=0, le=100)] = 0
    """Percent of requests that are traced without their caller's asking by a sampled `traceparent`."""

    def problems(self) -> Iterator[str]:
        """Check the address."""
        yield from problem_of(check_endpoint, "endpoint", self.endpoint)


class GatewaySettings(Section):
    """The LLM gateway's pods."""

    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    """Pods."""
    cpu_millicores: Annotated[int, Field(ge=10, le=64_000)] = 500
    """CPU that a pod asks for, in thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=32, le=262_144)] = _semantic_tier.MEMORY_MIB
    """Memory of a pod in MiB, asked for and limited to."""
    key_requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests of each API key in any 60 seconds, over all pods: docs/limits.md. Default: no limit."""
    key_tokens_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Prompt and completion tokens of each API key in any 60 seconds, over all pods. Default: no limit."""
    traces: TracesSettings | None = None
    """Where traces of requests go: docs/traces.md. Default: no request is traced."""


class UsagePlanSettings(Section):
    """What some API keys may use, each by itself."""

    keys: Annotated[list[str], Field(min_length=1)]
    """Names of the API keys; AWS makes their values."""
    requests_per_second: Annotated[float, Field(ge=0.1, le=10_000)] = 10
    """Steady rate."""
    burst: Annotated[int, Field(ge=1, le=5000)] = 20
    """Requests at once."""
    requests_per_day: Annotated[int, Field(ge=1)] | None = None
    """Daily quota. Default: none."""

    def problems(self) -> Iterator[str]:
        """Check the names of the keys."""
        yield from named("keys", self.keys)


class FirewallSettings(Section):
    """The web ACL before the public API: docs/firewall.md."""

    enabled: bool = True
    """Whether there is one, at a price for each rule and request."""
    mode: Literal["block", "count"] = "block"
    """`count` lets everything through and counts what `block` would stop."""
    requests_per_five_minutes: (
        Annotated[int, Field(ge=_edge_rules.FEWEST_REQUESTS, le=_edge_rules.MOST_REQUESTS)] | None
    ) = None
    """Requests that one address may make in 300 s. Default: twice what a key of the fastest usage plan may."""
    count_rules: Annotated[list[str], checked(_edge_rules.check_counted, "countRules")] = Field(
        default_factory=list[str]
    )
    """Names of rules of AWS's groups that only count, besides those that look into the body. Default: none."""
    caller_cidrs: Annotated[list[str], checked(_edge_rules.check_callers, "callerCidrs")] = Field(
        default_factory=list[str]
    )
    """IPv4 ranges that may call; all others are blocked. Default: any address."""


class DomainSettings(Section):
    """A domain name of your own, which is then the API's only address: docs/domain.md."""

    name: Annotated[str, checked(_edge_rules.check_domain, "name")]
    """Host name, as `llm.example.com`."""
    certificate_arn: Annotated[str, checked(_edge_rules.check_certificate, "certificateArn")]
    """ARN of a certificate of ACM for that name, in the stack's region."""
    hosted_zone_id: Annotated[str, checked(_edge_rules.check_hosted_zone, "hostedZoneId")] | None = None
    """Id of the Route 53 zone that gets the record. Default: none; you make the record."""


class ApiGatewaySettings(Section):
    """The public API."""

    usage_plans: dict[str, UsagePlanSettings] = Field(default_factory=dict[str, UsagePlanSettings])
    """Usage plans by name, with their API keys. None with `jwt`."""
    jwt: JwtSettings | None = None
    """Tokens that callers show in place of API keys. Default: they show keys."""
    cors_origins: Annotated[list[str], Field(examples=[["https://app.example.com"]])] = Field(default_factory=list[str])
    """Origins of web pages whose scripts may call (CORS): docs/identity.md. `*` is any. Default: none may."""
    response_transfer_mode: Literal["STREAM", "BUFFERED"] = "STREAM"
    """`STREAM` sends tokens on as they come."""
    timeout_seconds: int | None = None
    """Longest request: up to 900 streamed, 29 buffered. Default: 300, or 29 buffered."""
    requests_per_second: Annotated[float, Field(ge=0.1, le=10_000)] = 100
    """Steady rate of all callers together."""
    burst: Annotated[int, Field(ge=1, le=5000)] = 200
    """Requests at once of all callers together."""
    manage_account_role: bool = True
    """Whether this stack sets the account's API Gateway logging role, one per account and region."""
    url: str | None = None
    """Public address where it is not the stage's own; may hold {api} and {stage}. Excludes `domain`."""
    firewall: FirewallSettings = Field(default_factory=FirewallSettings)
    """A web ACL before the API. On unless `enabled` says otherwise."""
    domain: DomainSettings | None = None
    """A domain name of your own. Default: none, and AWS's address. Excludes `url`."""

    def problems(self) -> Iterator[str]:
        """Check the plans, and the timeout against the transfer mode."""
        yield from named("usagePlans", self.usage_plans)
        plans: Any = {name: {"keys": plan.keys} for name, plan in self.usage_plans.items()}
        yield from origin_problems("corsOrigins", self.cors_origins)
        tokens = self.jwt is not None
        yield from problem_of(lambda: check_usage_plans("usagePlans", plans, tokens=tokens))
        for problem in problem_of(check_timeout, self.response_transfer_mode, self.timeout_seconds):
            yield problem.replace("timeout_seconds", "timeoutSeconds")
        if self.url is not None and self.domain is not None:
            yield "url: is set beside domain, whose name is the address; nearest valid value: one of them"
        rates = {name: {"requests_per_second": plan.requests_per_second} for name, plan in self.usage_plans.items()}
        if rates:
            limit = self.firewall.requests_per_five_minutes
            yield from problem_of(_edge_rules.requests_limit, "firewall.requestsPerFiveMinutes", limit, rates)
