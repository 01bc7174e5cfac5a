"""Elastic Load Balancing: network load balancers named as on AWS, targets known by address and port, and real health.

MiniStack calls every balancer an application one, keeps one port an address, and reports every target healthy.
"""

import uuid
from typing import Any
from xml.sax.saxutils import escape

from local.cloud import emulator, load_balancing
from local.cloud.emulator import Call, Response

PRIVATE_LINK = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"
NETWORK_PROTOCOLS = {"TCP", "UDP", "TLS", "TCP_UDP"}


def before(call: Call) -> Response | None:
    """Answers calls on targets."""
    match call.operation:
        case "RegisterTargets":
            return _register(call)
        case "DeregisterTargets":
            return _deregister(call)
        case "DescribeTargetHealth":
            return _describe_health(call)
        case _:
            return None


def after(call: Call, response: Response) -> Response:
    """Renames network load balancers and their listeners, and sets a TCP target group's defaults."""
    match call.operation:
        case "CreateLoadBalancer" if call.value("Type") == "network":
            return emulator.extended(_rename_balancer(call, response), "LoadBalancerArn", _private_link)
        case "DescribeLoadBalancers":
            return emulator.extended(response, "LoadBalancerArn", _private_link)
        case "SetSecurityGroups" if value := call.value(PRIVATE_LINK):
            _alb()._lbs[call.value("LoadBalancerArn")][PRIVATE_LINK] = value
            return response
        case "CreateListener" if "loadbalancer/net/" in call.value("LoadBalancerArn"):
            return _rename_listener(call, response)
        case "CreateTargetGroup" if call.value("Protocol") in NETWORK_PROTOCOLS:
            return _complete_target_group(call)
        case _:
            return response


def _alb() -> Any:
    return emulator.service("alb")


def _private_link(arn: str) -> dict[str, str]:
    """Whether traffic from PrivateLink is held to a network load balancer's security groups: by default it is."""
    balancer = _alb()._lbs[arn]
    if balancer["Type"] != "network" or not balancer.get("SecurityGroups"):
        return {}
    return {PRIVATE_LINK: balancer.get(PRIVATE_LINK, "on")}


def _rename_balancer(call: Call, response: Response) -> Response:
    alb = _alb()
    balancer = next(found for found in alb._lbs.values() if found["LoadBalancerName"] == call.value("Name"))
    old = balancer["LoadBalancerArn"]
    new = old.replace(":loadbalancer/app/", ":loadbalancer/net/")
    # AWS: NAME-ID.elb.REGION.amazonaws.com for network load balancers, NAME-ID.REGION.elb... for the others.
    name = f"{balancer['LoadBalancerName']}-{old.rpartition('/')[2]}.elb.{emulator.region()}.amazonaws.com"
    balancer.update(LoadBalancerArn=new, DNSName=name)
    for store in (alb._lbs, alb._tags, alb._lb_attrs):
        store[new] = store.pop(old)
    alb._lb_attrs[new] = [
        {"Key": "access_logs.s3.enabled", "Value": "false"},
        {"Key": "access_logs.s3.bucket", "Value": ""},
        {"Key": "access_logs.s3.prefix", "Value": ""},
        {"Key": "deletion_protection.enabled", "Value": "false"},
        {"Key": "load_balancing.cross_zone.enabled", "Value": "false"},
        {"Key": "dns_record.client_routing_policy", "Value": "any_availability_zone"},
        {"Key": "zonal_shift.config.enabled", "Value": "false"},
    ]
    status, headers, _ = response
    answer = alb._xml(status, "CreateLoadBalancer", f"<LoadBalancers>{alb._lb_xml(balancer)}</LoadBalancers>")
    return status, headers, answer[2]


def _rename_listener(call: Call, response: Response) -> Response:
    alb, balancer = _alb(), call.value("LoadBalancerArn")
    port = int(call.value("Port"))
    listener = next(
        found for found in alb._listeners.values()
        if found["LoadBalancerArn"] == balancer and found["Port"] == port and ":listener/app/" in found["ListenerArn"]
    )  # fmt: skip
    old = listener["ListenerArn"]
    new = old.replace(":listener/app/", ":listener/net/")
    listener["ListenerArn"] = new
    for store in (alb._listeners, alb._tags, alb._listener_attrs):
        store[new] = store.pop(old)
    alb._listener_attrs[new] = [{"Key": "tcp.idle_timeout.seconds", "Value": "350"}]
    for rule in [rule for rule in alb._rules.values() if rule["ListenerArn"] == old]:
        alb._rules.pop(rule["RuleArn"])
        rule.update(ListenerArn=new, RuleArn=rule["RuleArn"].replace("/app/", "/net/", 1))
        alb._rules[rule["RuleArn"]] = rule
    answer = alb._xml(200, "CreateListener", f"<Listeners>{alb._listener_xml(listener)}</Listeners>")
    return response[0], response[1], answer[2]


def _complete_target_group(call: Call) -> Response:
    """Gives a TCP target group AWS's own defaults: a TCP check, unless another is asked for."""
    alb = _alb()
    group = next(found for found in alb._tgs.values() if found["TargetGroupName"] == call.value("Name"))
    group["HealthCheckProtocol"] = call.value("HealthCheckProtocol", "TCP")
    group["HealthCheckTimeoutSeconds"] = int(call.value("HealthCheckTimeoutSeconds", "10"))
    if group["HealthCheckProtocol"] == "TCP":
        group.update(HealthCheckPath="", Matcher={"HttpCode": ""})
    elif not call.value("Matcher.HttpCode"):
        group["Matcher"] = {"HttpCode": "200-399"}
    alb._tg_attrs[group["TargetGroupArn"]] = [
        {"Key": "deregistration_delay.timeout_seconds", "Value": "300"},
        {"Key": "deregistration_delay.connection_termination.enabled", "Value": "false"},
        {"Key": "preserve_client_ip.enabled", "Value": "false" if group["TargetType"] == "ip" else "true"},
        {"Key": "proxy_protocol_v2.enabled", "Value": "false"},
        {"Key": "stickiness.enabled", "Value": "false"},
        {"Key": "stickiness.type", "Value": "source_ip"},
        {"Key": "load_balancing.cross_zone.enabled", "Value": "use_load_balancer_configuration"},
    ]
    response: Response = alb._xml(200, "CreateTargetGroup", f"<TargetGroups>{alb._tg_xml(group)}</TargetGroups>")
    return response


# Targets


def _group(call: Call) -> tuple[str, dict[str, Any]] | Response:
    alb, arn = _alb(), call.value("TargetGroupArn")
    group = alb._tgs.get(arn)
    if group is None:
        response: Response = alb._error("TargetGroupNotFound", f"Target group '{arn}' not found.")
        return response
    return arn, group


def _asked(call: Call, group: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets in a call, each with its port."""
    return [
        {"Id": target["Id"], "Port": target.get("Port", group["Port"])}
        for target in _alb()._parse_targets_param(call.form)
    ]


def _registered(targets: list[dict[str, Any]], target: dict[str, Any]) -> dict[str, Any] | None:
    """The one of `targets` that has a target's address and port."""
    where = (target["Id"], target["Port"])
    return next((found for found in targets if (found["Id"], found["Port"]) == where), None)


def _register(call: Call) -> Response:
    found = _group(call)
    if len(found) == 3:
        return found
    arn, group = found
    alb = _alb()
    targets: list[dict[str, Any]] = alb._targets.setdefault(arn, [])
    for target in _asked(call, group):
        if _registered(targets, target) is None:
            targets.append({**target, load_balancing.REGISTRATION: uuid.uuid4().hex})
    response: Response = alb._empty("RegisterTargets")
    return response


def _deregister(call: Call) -> Response:
    found = _group(call)
    if len(found) == 3:
        return found
    arn, group = found
    alb, gone = _alb(), _asked(call, group)
    alb._targets[arn] = [target for target in alb._targets.get(arn, []) if _registered(gone, target) is None]
    response: Response = alb._empty("DeregisterTargets")
    return response


def _describe_health(call: Call) -> Response:
    found = _group(call)
    if len(found) == 3:
        return found
    arn, group = found
    alb = _alb()
    registered: list[dict[str, Any]] = alb._targets.get(arn, [])
    asked = _asked(call, group)
    members = "".join(
        _health_xml(target, _UNREGISTERED if known is None else load_balancing.health(arn, known))
        for target in asked or registered
        for known in [_registered(registered, target)]
    )
    inner = f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>"
    response: Response = alb._xml(200, "DescribeTargetHealth", inner)
    return response


_UNREGISTERED = {
    "State": "unused",
    "Reason": "Target.NotRegistered",
    "Description": "Target is not registered to the target group",
}


def _health_xml(target: dict[str, Any], health: dict[str, str]) -> str:
    told = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in health.items())
    return (
        f"<member><Target><Id>{escape(target['Id'])}</Id><Port>{target['Port']}</Port></Target>"
        f"<HealthCheckPort>{target['Port']}</HealthCheckPort><TargetHealth>{told}</TargetHealth></member>"
    )
