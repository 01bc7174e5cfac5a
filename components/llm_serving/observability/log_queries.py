"""What is counted and asked of the logs, as data: metric filters, and queries to keep for Logs Insights.

Only fields that the logs have are named: those of the gateway's access log (`images/llm-gateway`, `access_log.py`), of
API Gateway's (`api_gateway.ACCESS_LOG_FIELDS`), of AWS WAF's and of Kubernetes audit events. None of them holds a
prompt, an answer or a key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

PARSED = "log_processed"
"""Where Fluent Bit puts the fields of a line that is JSON (the add-on's `Merge_Log_Key`)."""
GATEWAY_LOGGER = "llm_gateway.access"
"""The logger that writes one line for each request."""
LONGEST_PATTERN = 1024
"""Characters of a filter pattern (PutMetricFilter)."""
MOST_DIMENSIONS = 3
"""Dimensions of one metric filter (MetricTransformation)."""


class Log(StrEnum):
    """A log group of an environment."""

    APPLICATION = "application"
    """What pods write, with the pod's name and namespace."""
    HOST = "host"
    """Kernel and system messages of the nodes."""
    DATAPLANE = "dataplane"
    """Kubelet, containerd, the CNI and kube-proxy."""
    PERFORMANCE = "performance"
    """Container Insights' measurements, where they are on."""
    API_ACCESS = "api-access"
    """One line for each request at API Gateway."""
    FIREWALL = "firewall"
    """One line for each request that the API's web ACL blocked or counted."""
    CONTROL_PLANE = "control-plane"
    """The API server, its audit log among them."""


@dataclass(frozen=True)
class LogMetric:
    """A metric that counts the lines of one log that match a pattern."""

    name: str
    """In names of resources."""
    metric: str
    """The metric's name in CloudWatch."""
    log: Log
    pattern: str
    """In CloudWatch's filter pattern syntax for JSON."""
    meaning: str
    """What one line that matches is."""
    dimensions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Dimensions of the metric, with the field that each is taken from."""
    alarm: bool = False
    """Whether a single one within five minutes is worth an alarm."""


@dataclass(frozen=True)
class SavedQuery:
    """A query to keep in Logs Insights. `{cluster}` goes before its title, which may have folders."""

    name: str
    """In names of resources."""
    title: str
    logs: Sequence[Log]
    text: str


def _gateway(condition: str) -> str:
    return f'{{ ($.{PARSED}.logger = "{GATEWAY_LOGGER}") && {condition} }}'


def _audit(condition: str) -> str:
    # One stage, or an attempt would be counted when it arrives and again when it is answered.
    return f'{{ ($.kind = "Event") && ($.stage = "ResponseComplete") && {condition} }}'


PRINCIPAL = "arn:*"
"""Names of IAM principals in the audit log: people and pipelines. Pods and nodes are `system:` or `eks:`."""

METRICS: Sequence[LogMetric] = (
    LogMetric(
        name="gateway-server-errors",
        metric="GatewayServerErrors",
        log=Log.APPLICATION,
        pattern=_gateway(f"($.{PARSED}.status >= 500) && ($.{PARSED}.model = *)"),
        dimensions={"Model": f"$.{PARSED}.model"},
        meaning="a request that the gateway answered with 5xx, by model",
    ),
    LogMetric(
        name="gateway-throttled",
        metric="GatewayThrottled",
        log=Log.APPLICATION,
        pattern=_gateway(f"($.{PARSED}.status = 429)"),
        meaning="a request that the gateway or the model's service answered with 429",
    ),
    LogMetric(
        name="gateway-errors",
        metric="GatewayErrors",
        log=Log.APPLICATION,
        pattern=_gateway(f"($.{PARSED}.error = *)"),
        dimensions={"Error": f"$.{PARSED}.error"},
        meaning="a request that ended with an error, by the error's code",
    ),
    LogMetric(
        name="api-server-errors",
        metric="ApiServerErrors",
        log=Log.API_ACCESS,
        pattern='{ $.status = "5*" }',
        meaning="a request that API Gateway answered with 5xx",
    ),
    LogMetric(
        name="api-throttled",
        metric="ApiThrottled",
        log=Log.API_ACCESS,
        pattern='{ $.status = "429" }',
        meaning="a request beyond a usage plan or the stage's limit",
    ),
    LogMetric(
        name="api-refused",
        metric="ApiRefused",
        log=Log.API_ACCESS,
        pattern='{ $.status = "403" }',
        meaning="a request without a valid API key",
    ),
    LogMetric(
        name="anonymous-denied",
        metric="AnonymousDenied",
        log=Log.CONTROL_PLANE,
        pattern=_audit('($.user.username = "system:anonymous") && ($.responseStatus.code = 403)'),
        meaning="a request to the Kubernetes API by nobody in particular, refused",
        alarm=True,
    ),
    LogMetric(
        name="principals-denied",
        metric="PrincipalsDenied",
        log=Log.CONTROL_PLANE,
        pattern=_audit(f'($.user.username = "{PRINCIPAL}") && ($.responseStatus.code = 403)'),
        meaning="a person or pipeline that tried what its access entry doesn't allow",
    ),
    LogMetric(
        name="secrets-read",
        metric="SecretsRead",
        log=Log.CONTROL_PLANE,
        pattern=_audit(
            f'($.user.username = "{PRINCIPAL}") && ($.objectRef.resource = "secrets")'
            ' && (($.verb = "get") || ($.verb = "list") || ($.verb = "watch"))'
        ),
        meaning="Kubernetes secrets read by a person or pipeline",
    ),
    LogMetric(
        name="pods-entered",
        metric="PodsEntered",
        log=Log.CONTROL_PLANE,
        # `exec` is answered by switching protocols, and complete when the session ends.
        pattern=_audit(
            '(($.objectRef.subresource = "exec") || ($.objectRef.subresource = "attach")'
            ' || ($.objectRef.subresource = "ephemeralcontainers"))'
        ),
        meaning="a command run inside a pod, or a container added to one",
        alarm=True,
    ),
)

QUERIES: Sequence[SavedQuery] = (
    SavedQuery(
        name="slowest-requests",
        title="gateway/slowest requests",
        logs=(Log.APPLICATION,),
        text=f"""fields @timestamp, {PARSED}.request_id, {PARSED}.model, {PARSED}.status, {PARSED}.duration_ms, \
{PARSED}.first_token_ms, {PARSED}.prompt_tokens, {PARSED}.completion_tokens, {PARSED}.cache, {PARSED}.tries
| filter {PARSED}.logger = "{GATEWAY_LOGGER}"
| sort {PARSED}.duration_ms desc
| limit 50""",
    ),
    SavedQuery(
        name="errors-by-model",
        title="gateway/errors by model",
        logs=(Log.APPLICATION,),
        text=f"""filter {PARSED}.logger = "{GATEWAY_LOGGER}" and {PARSED}.status >= 400
| stats count(*) as requests, max({PARSED}.duration_ms) as slowest_ms \
by {PARSED}.model, {PARSED}.status, {PARSED}.error
| sort requests desc
| limit 100""",
    ),
    SavedQuery(
        name="requests-by-tenant",
        title="gateway/requests and tokens by tenant",
        logs=(Log.APPLICATION,),
        text=f"""filter {PARSED}.logger = "{GATEWAY_LOGGER}"
| stats count(*) as requests, sum({PARSED}.prompt_tokens) as prompt_tokens, \
sum({PARSED}.completion_tokens) as completion_tokens, pct({PARSED}.duration_ms, 95) as p95_ms \
by {PARSED}.tenant, {PARSED}.model, {PARSED}.cache
| sort requests desc
| limit 100""",
    ),
    SavedQuery(
        name="errors-by-key",
        title="api/errors by key id",
        logs=(Log.API_ACCESS,),
        text="""filter status like /^[45]/
| stats count(*) as requests, max(responseLatencyMs) as slowest_ms by apiKeyId, status, integrationError
| sort requests desc
| limit 100""",
    ),
    SavedQuery(
        name="requests-by-key",
        title="api/requests by key id",
        logs=(Log.API_ACCESS,),
        text="""stats count(*) as requests, pct(responseLatencyMs, 95) as p95_ms, sum(responseLength) as bytes \
by apiKeyId
| sort requests desc
| limit 100""",
    ),
    SavedQuery(
        name="blocked-requests",
        title="api/blocked by the firewall",
        logs=(Log.FIREWALL,),
        # A group of AWS's blocks by one of its rules, which its own entry names.
        text="""filter action = "BLOCK"
| stats count(*) as requests, max(timestamp) as latest by terminatingRuleId, \
coalesce(ruleGroupList.0.terminatingRule.ruleId, ruleGroupList.1.terminatingRule.ruleId, \
ruleGroupList.2.terminatingRule.ruleId) as rule, httpRequest.clientIp, httpRequest.country, httpRequest.uri
| sort requests desc
| limit 100""",
    ),
    SavedQuery(
        name="changes",
        title="cluster/who changed what",
        logs=(Log.CONTROL_PLANE,),
        text="""fields @timestamp, user.username, verb, objectRef.resource, objectRef.subresource, \
objectRef.namespace, objectRef.name, responseStatus.code
| filter @logStream like /kube-apiserver-audit/ and user.username like /^arn:/
| filter verb in ["create", "update", "patch", "delete", "deletecollection"]
| sort @timestamp desc
| limit 200""",
    ),
    SavedQuery(
        name="secrets-read",
        title="cluster/who read secrets",
        logs=(Log.CONTROL_PLANE,),
        text="""fields @timestamp, user.username, verb, objectRef.namespace, objectRef.name, sourceIPs.0, userAgent
| filter @logStream like /kube-apiserver-audit/ and user.username like /^arn:/
| filter objectRef.resource = "secrets" and verb in ["get", "list", "watch"]
| sort @timestamp desc
| limit 200""",
    ),
    SavedQuery(
        name="pods-removed",
        title="cluster/pods deleted or evicted",
        logs=(Log.CONTROL_PLANE,),
        text="""fields @timestamp, user.username, verb, objectRef.subresource, objectRef.namespace, objectRef.name
| filter @logStream like /kube-apiserver-audit/ and stage = "ResponseComplete" and objectRef.resource = "pods"
| filter verb in ["delete", "deletecollection"] or objectRef.subresource = "eviction"
| sort @timestamp desc
| limit 200""",
    ),
    SavedQuery(
        name="killed-for-memory",
        title="cluster/processes killed for memory",
        logs=(Log.HOST, Log.DATAPLANE),
        text="""fields @timestamp, @logStream, @message
| filter @message like /oom-kill|Out of memory: Killed process|OOMKilled|evicting pod/
| sort @timestamp desc
| limit 100""",
    ),
)
