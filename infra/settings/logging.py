"""What the logs are for besides being kept."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from infra.section import Section, checked
from llm_serving import _log_shipping


class LoggingSettings(Section):
    """The logs of pods, nodes, API and control plane. How long they are kept is `logRetentionDays`."""

    container_insights: bool = False
    """Whether the CloudWatch agent also measures nodes, pods and containers, at a price for each measurement."""
    addon_version: Annotated[str, checked(_log_shipping.check_addon_version, "addonVersion")] | None = None
    """Version of the EKS add-on amazon-cloudwatch-observability. Default: chosen by AWS."""
    alarm_topic_arns: list[Annotated[str, Field(pattern=r"^arn:[a-z-]+:sns:[a-z0-9-]+:\d{12}:.+$")]] = Field(
        default_factory=list[str]
    )
    """SNS topics that hear of what should never be in a log. Default: none, and no alarms."""
    open_search_domain_arn: Annotated[str, checked(_log_shipping.check_domain, "openSearchDomainArn")] | None = None
    """OpenSearch domain that what pods write is sent to, too. Default: none."""
    open_search_security_group_ids: list[Annotated[str, Field(pattern=r"^sg-[0-9a-f]+$")]] = Field(
        default_factory=list[str]
    )
    """Security groups that reach a domain in the VPC by HTTPS. Default: it is reached by its public address."""

    def problems(self) -> Iterator[str]:
        """Check that security groups have a domain to reach."""
        if self.open_search_security_group_ids and self.open_search_domain_arn is None:
            yield "openSearchSecurityGroupIds: has no openSearchDomainArn to reach; set it, or leave both out"
