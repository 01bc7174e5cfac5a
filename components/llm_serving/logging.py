"""Logs of an environment in CloudWatch: shipped, encrypted, kept as long as asked, counted, with queries at hand."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _checks, _iam, _log_shipping
from llm_serving._keys import encryption_key
from llm_serving._open_search import OpenSearchArgs, OpenSearchDelivery
from llm_serving._open_search import check as check_open_search
from llm_serving.observability.log_queries import METRICS, QUERIES, Log, LogMetric

__all__ = ["Logging", "LoggingArgs", "OpenSearchArgs"]

ALARM_SECONDS = 300
"""Over how long an alarm counts. With one line as its threshold, how long it stays."""


class LoggingArgs(TypedDict):
    """Arguments of `Logging`."""

    cluster_name: pulumi.Input[str]
    """EKS cluster whose logs these are. It needs nodes and the add-on eks-pod-identity-agent."""
    api_access_log_group: NotRequired[pulumi.Input[str]]
    """Name of API Gateway's access log group, as `ApiGateway` has it. Default: its requests aren't counted."""
    firewall_log_group: NotRequired[pulumi.Input[str]]
    """Name of the log group of the API's firewall, as `ApiGateway` has it. Default: no query for it is kept."""
    control_plane_logs: NotRequired[bool]
    """Whether the cluster's audit log is in CloudWatch, as `GpuCluster` has it, to be counted. Default: true."""
    log_retention_days: NotRequired[int]
    """Days that logs are kept, one of the periods that CloudWatch offers. Default: 90."""
    container_insights: NotRequired[bool]
    """Whether the agent also measures nodes, pods and containers, at a price for each. Default: false."""
    addon_version: NotRequired[str]
    """Version of the EKS add-on amazon-cloudwatch-observability, v6.2.0-eksbuild.1 or newer. Default: AWS's choice."""
    alarm_topic_arns: NotRequired[Sequence[pulumi.Input[str]]]
    """SNS topics that hear of what should never be in a log. Default: none, and no alarms."""
    open_search: NotRequired[OpenSearchArgs]
    """Send what pods write to this OpenSearch domain, too. Default: to CloudWatch only."""
    require_tls: NotRequired[bool]
    """Whether the bucket of refused documents needs TLS 1.2. Default: true; turn off for an endpoint without TLS."""
    protect: NotRequired[bool]
    """Whether Pulumi refuses to delete the bucket of refused documents and the logs' key. Default: true."""


class Logging(pulumi.ComponentResource):
    """Container logs in CloudWatch by the EKS add-on, in log groups with a key of their own; metrics; saved queries.

    The gateway writes no prompt and no answer, so that none is here. Raises ValueError at construction for a retention
    that CloudWatch doesn't offer, an add-on too old, or an OpenSearch domain that can't be one.
    """

    application_log_group: pulumi.Output[str]
    """Name of the log group of what pods write, known when they are shipped."""
    metric_namespace: pulumi.Output[str]
    """CloudWatch namespace of what is counted in the logs."""
    open_search_role_arn: pulumi.Output[str]
    """Role that writes to the OpenSearch domain, for its access policy; empty without one."""

    def __init__(self, name: str, args: LoggingArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:Logging", name, {}, opts)
        self._name = name
        self._cluster = pulumi.Output.from_input(args["cluster_name"])
        retention = _checks.retention_days("log_retention_days", args.get("log_retention_days", 90))
        if "addon_version" in args:
            _log_shipping.check_addon_version("addon_version", args["addon_version"])
        if "open_search" in args:
            check_open_search("open_search", args["open_search"])
        protect = args.get("protect", True)
        self._key = encryption_key(
            f"{name}-key", f"Logs of the pods ({name})", parent=self, log_groups=True, protect=protect
        )
        groups = self._groups(retention, container_insights=args.get("container_insights", False))
        delivery = (
            OpenSearchDelivery(
                name,
                args["open_search"],
                parent=self,
                key=self._key,
                retention_days=retention,
                protect=protect,
                require_tls=args.get("require_tls", True),
            )
            if "open_search" in args
            else None
        )
        addon = self._ship(args, groups, delivery)
        names = {log: group.name for log, group in groups.items()}
        if args.get("control_plane_logs", True):
            names[Log.CONTROL_PLANE] = pulumi.Output.concat("/aws/eks/", self._cluster, "/cluster")
        if "api_access_log_group" in args:
            names[Log.API_ACCESS] = pulumi.Output.from_input(args["api_access_log_group"])
        if "firewall_log_group" in args:
            names[Log.FIREWALL] = pulumi.Output.from_input(args["firewall_log_group"])
        self.metric_namespace = pulumi.Output.concat("LlmServing/", self._cluster)
        self._count(names, args.get("alarm_topic_arns", []))
        self._save_queries(names)
        self.application_log_group = pulumi.Output.all(groups[Log.APPLICATION].name, addon.arn).apply(
            lambda known: str(known[0])
        )
        self.open_search_role_arn = delivery.role_arn if delivery else pulumi.Output.from_input("")
        self.register_outputs(
            {
                "applicationLogGroup": self.application_log_group,
                "metricNamespace": self.metric_namespace,
                "openSearchRoleArn": self.open_search_role_arn,
            }
        )

    def _child(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on))

    def _groups(self, retention_days: int, *, container_insights: bool) -> dict[Log, aws.cloudwatch.LogGroup]:
        """Make the groups that Fluent Bit and the agent would make themselves, unencrypted and kept for ever."""
        logs = [Log.APPLICATION, Log.HOST, Log.DATAPLANE, *([Log.PERFORMANCE] if container_insights else [])]
        return {
            log: aws.cloudwatch.LogGroup(
                f"{self._name}-{log}",
                name=pulumi.Output.concat("/aws/containerinsights/", self._cluster, "/", log.value),
                retention_in_days=retention_days,
                kms_key_id=self._key.arn,
                opts=self._child(),
            )
            for log in logs
        }

    def _ship(
        self,
        args: LoggingArgs,
        groups: dict[Log, aws.cloudwatch.LogGroup],
        delivery: OpenSearchDelivery | None,
    ) -> aws.eks.Addon:
        """Install the add-on, with a role that may write into our groups and make none."""
        role = aws.iam.Role(
            f"{self._name}-pods",
            description="Pods that ship logs to CloudWatch",
            assume_role_policy=_iam.pod_identity_trust(),
            opts=self._child(),
        )
        stream_arn = delivery.stream.arn if delivery else ""
        stream_name = delivery.stream.name if delivery else ""
        policy = aws.iam.RolePolicy(
            f"{self._name}-pods",
            role=role.id,
            policy=pulumi.Output.all([group.arn for group in groups.values()], stream_arn).apply(
                lambda known: _log_shipping.agent_policy(known[0], known[1])
            ),
            opts=self._child(),
        )
        identity = aws.eks.PodIdentityAssociation(
            f"{self._name}-pods",
            cluster_name=self._cluster,
            namespace=_log_shipping.NAMESPACE,
            service_account=_log_shipping.SERVICE_ACCOUNT,
            role_arn=role.arn,
            opts=self._child(policy),
        )
        insights = args.get("container_insights", False)
        return aws.eks.Addon(
            f"{self._name}-addon",
            cluster_name=self._cluster,
            addon_name=_log_shipping.ADDON,
            addon_version=args.get("addon_version"),
            configuration_values=pulumi.Output.from_input(stream_name).apply(
                lambda stream: _log_shipping.configuration(container_insights=insights, delivery_stream=stream)
            ),
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            # Its pods get their credentials when they start, and would make groups that aren't there.
            opts=self._child(identity, *groups.values()),
        )

    def _count(self, names: dict[Log, pulumi.Output[str]], topics: Sequence[pulumi.Input[str]]) -> None:
        for metric in METRICS:
            if metric.log not in names:
                continue
            counted = aws.cloudwatch.LogMetricFilter(
                f"{self._name}-{metric.name}",
                log_group_name=names[metric.log],
                pattern=metric.pattern,
                metric_transformation={
                    "name": metric.metric,
                    "namespace": self.metric_namespace,
                    "value": "1",
                    "unit": "Count",
                    "dimensions": dict(metric.dimensions) or None,
                    # CloudWatch takes no default beside dimensions.
                    "default_value": None if metric.dimensions else "0",
                },
                opts=self._child(),
            )
            if topics and metric.alarm:
                self._alarm(metric, topics, counted)

    def _alarm(
        self, metric: LogMetric, topics: Sequence[pulumi.Input[str]], counted: aws.cloudwatch.LogMetricFilter
    ) -> None:
        aws.cloudwatch.MetricAlarm(
            f"{self._name}-{metric.name}",
            alarm_description=f"In the logs of {self._name}: {metric.meaning}",
            namespace=self.metric_namespace,
            metric_name=metric.metric,
            statistic="Sum",
            period=ALARM_SECONDS,
            evaluation_periods=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=list(topics),
            opts=self._child(counted),
        )

    def _save_queries(self, names: dict[Log, pulumi.Output[str]]) -> None:
        for query in QUERIES:
            if all(log in names for log in query.logs):
                aws.cloudwatch.QueryDefinition(
                    f"{self._name}-{query.name}",
                    name=pulumi.Output.concat(self._cluster, "/", query.title),
                    log_group_names=[names[log] for log in query.logs],
                    query_string=query.text,
                    opts=self._child(),
                )
