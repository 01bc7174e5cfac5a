"""Monitoring: Prometheus, what it costs to be wrong about, and who is told."""

from typing import Annotated, Literal

from pydantic import Field

from infra.section import Section

Price = Annotated[float, Field(gt=0, le=10_000)]
Address = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class MonitoringSettings(Section):
    """Prometheus, its rules and dashboards, and the topic that alerts go to."""

    operator: Literal["install", "existing"] = "install"
    """`install` brings kube-prometheus-stack; `existing` uses the Prometheus operator that the cluster has."""
    replicas: Annotated[int, Field(ge=1, le=2)] = 1
    """Prometheus servers; each scrapes everything."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 15
    """Days that metrics are kept."""
    storage_gb: Annotated[int, Field(ge=0, le=16_384)] = 50
    """Disk of each server in GB; 0 keeps metrics for as long as its pod lives."""
    scrape_interval_seconds: Annotated[int, Field(ge=1, le=300)] = 30
    """How often targets are scraped and rules evaluated."""
    cpu_millicores: Annotated[int, Field(ge=10, le=64_000)] = 500
    """CPU that a server asks for, in thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=64, le=1_048_576)] = 2048
    """Memory of a server in MiB, asked for and limited to."""
    prices_usd_per_hour: dict[str, Price] = Field(default_factory=dict[str, Price])
    """Price of an instance by type. Default: on demand in us-east-1 for GPU types, unknown for others."""
    budget_usd_per_hour: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """More than this for the whole environment is an alert. Default: none."""
    alert_emails: list[Address] = Field(default_factory=list[Address])
    """Addresses that are told of alerts, once each has confirmed."""
    runbook_base_url: str = "docs/runbooks"
    """Where the pages of docs/runbooks can be read; alerts link there."""
