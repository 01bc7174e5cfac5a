"""What the emulator and the balancer tell each other: which listeners and targets there are, and how they are.

The balancer (`local.cloud.balancer`) is a process of its own, so that traffic doesn't wait for the emulator. Twice a
second it posts where it listens and how its targets are, and gets back what it should balance.
"""

import time
from typing import Any, cast

from local.cloud import emulator

PATH = "/_local/balancers"
"""Where the balancer posts its report, on the emulator's port; answered to this machine's loopback only."""

REGISTRATION = "Registration"
"""The field of a target that tells one registration of an address from the next: the health of the one that ended,
which the balancer goes on reporting until its next exchange, isn't the new one's."""

SILENCE_SECONDS = 3.0
"""After how long without a report the balancer counts as dead."""

_report: dict[str, Any] = {"listeners": {}, "health": {}, "at": None}

_UNUSED = {
    "State": "unused",
    "Reason": "Target.NotInUse",
    "Description": "Target group is not configured to receive traffic from the load balancer",
}
_INITIAL = {
    "State": "initial",
    "Reason": "Elb.RegistrationInProgress",
    "Description": "Target registration is in progress",
}


def exchange(report: dict[str, Any]) -> dict[str, Any]:
    """Takes the balancer's report and tells what it should balance.

    The report: `listeners` maps listener ARNs to ports of 127.0.0.1, `health` maps target group ARNs to each target's
    health (its registration to the fields of TargetHealth).
    """
    _report.update(report, at=time.monotonic())
    return desired()


def status() -> dict[str, bool]:
    """Whether the balancer works."""
    at: float | None = _report["at"]
    return {"balancing": at is not None and time.monotonic() - at < SILENCE_SECONDS}


def desired() -> dict[str, Any]:
    """The TCP listeners of every network load balancer of every account, and the target groups that they forward to."""
    alb = emulator.service("alb")
    balancers = {arn: record for (_, _, arn), record in alb._lbs.all_items() if record["Type"] == "network"}
    groups: dict[str, dict[str, Any]] = {arn: record for (_, _, arn), record in alb._tgs.all_items()}
    listeners: list[dict[str, Any]] = []
    used: set[str] = set()
    for (_, _, arn), record in alb._listeners.all_items():
        balancer = balancers.get(record["LoadBalancerArn"])
        group = _forwards_to(record)
        if balancer is None or group not in groups:
            continue
        used.add(group)
        listeners.append(
            {"arn": arn, "balancer": balancer["LoadBalancerName"], "port": record["Port"], "target_group": group}
        )
    return {"listeners": listeners, "target_groups": {arn: _described(arn, groups[arn]) for arn in used}}


def _forwards_to(listener: dict[str, Any]) -> str:
    for action in listener["DefaultActions"]:
        if action.get("TargetGroupArn"):
            return cast("str", action["TargetGroupArn"])
        for group in action.get("ForwardConfig", {}).get("TargetGroups", []):
            return cast("str", group["TargetGroupArn"])
    return ""


def _described(arn: str, group: dict[str, Any]) -> dict[str, Any]:
    alb = emulator.service("alb")
    account = arn.split(":")[4]
    targets: list[dict[str, Any]] = alb._targets._data.get((account, arn), [])
    attributes = {entry["Key"]: entry["Value"] for entry in alb._tg_attrs._data.get((account, arn), [])}
    return {
        "targets": [[target["Id"], target["Port"], _registration(target)] for target in targets],
        "check": {
            "protocol": group["HealthCheckProtocol"],
            "port": group["HealthCheckPort"],
            "path": group["HealthCheckPath"],
            "matcher": group["Matcher"]["HttpCode"],
            "interval": group["HealthCheckIntervalSeconds"],
            "timeout": group["HealthCheckTimeoutSeconds"],
            "healthy_after": group["HealthyThresholdCount"],
            "unhealthy_after": group["UnhealthyThresholdCount"],
        },
        "drain_seconds": float(attributes.get("deregistration_delay.timeout_seconds", "300")),
        "cut_after_drain": attributes.get("deregistration_delay.connection_termination.enabled") == "true",
    }


def health(group: str, target: dict[str, Any]) -> dict[str, str]:
    """A registered target's health, as DescribeTargetHealth tells it."""
    told: dict[str, dict[str, str]] | None = _report["health"].get(group)
    if told is None:
        record = emulator.service("alb")._tgs[group]
        return _INITIAL if record["LoadBalancerArns"] else _UNUSED
    return told.get(_registration(target), _INITIAL)


def _registration(target: dict[str, Any]) -> str:
    """A target's registration; its address where it was made before they were told apart."""
    return cast("str", target.get(REGISTRATION) or f"{target['Id']}:{target['Port']}")


def resolve(host: str, port: int) -> tuple[str, int] | None:
    """Where a network load balancer's DNS name and port are on this machine.

    None where the name is no balancer's. Raises ConnectionError where the balancer has no such listener, or doesn't
    listen yet.
    """
    alb = emulator.service("alb")
    arn = next((arn for (_, _, arn), record in alb._lbs.all_items() if _is_network(record, host)), None)
    if arn is None:
        return None
    for (_, _, listener), entry in alb._listeners.all_items():
        if entry["LoadBalancerArn"] == arn and entry["Port"] == port:
            local = _report["listeners"].get(listener)
            if local is None:
                raise ConnectionError(f"the balancer doesn't listen for {host}:{port} yet")
            return "127.0.0.1", int(local)
    raise ConnectionError(f"{host} has no listener on port {port}")


def _is_network(balancer: dict[str, Any], host: str) -> bool:
    return balancer["Type"] == "network" and balancer["DNSName"].lower() == host.lower()
