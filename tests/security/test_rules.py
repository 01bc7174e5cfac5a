"""Each rule can fail: for every one there is a change to a resource that satisfies it, and that it then refuses."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.charts.rendering import DIGEST
from tests.security import kubernetes_rules
from tests.security.controls import UNKNOWN, Exemption, Finding, Rule, Thing, uncovered, unneeded, walk
from tests.security.kubernetes_rules import POD
from tests.security.test_walk import RULES, STACKS, things

ANYBODY = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
POD_ADDITIONS = (
    (f"{POD}.hostNetwork", True),
    (f"{POD}.hostPID", True),
    (f"{POD}.volumes", [{"name": "disk", "hostPath": {"path": "/"}}]),
    (f"{POD}.containers.0.ports", [{"containerPort": 80, "hostPort": 80}]),
    (f"{POD}.containers.0.securityContext.privileged", True),
    (f"{POD}.containers.0.securityContext.capabilities.add", ["SYS_ADMIN"]),
    (f"{POD}.containers.0.env", [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
    (f"{POD}.securityContext.runAsUser", 0),
)
ADDITIONS: Mapping[str, Sequence[tuple[str, Any]]] = {
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": [("ingress", [{}])],
    "aws:ec2/securityGroup:SecurityGroup": [("ingress", [{}])],
    "aws:ec2/launchTemplate:LaunchTemplate": [("keyName", "mine"), ("networkInterfaces", [{}])],
    "aws:ec2/route:Route": [("gatewayId", "igw-1")],
    "eks:index:ManagedNodeGroup": [("remoteAccess", {"ec2SshKey": "mine"})],
    "aws:apigateway/methodSettings:MethodSettings": [("settings.cachingEnabled", True)],
    "eks:index:Cluster": [("endpointPublicAccess", True)],
    "Deployment": POD_ADDITIONS,
    "DaemonSet": POD_ADDITIONS,
    "kubernetes:helm.sh/v3:Release": [("values.password", {"secret": "x"})],
    "kubernetes:helm.sh/v4:Chart": [("values.password", {"secret": "x"})],
    "NetworkPolicy": [("spec.ingress", [{"ports": [{"port": 80}]}]), ("spec.egress", [{"to": [{}]}])],
    "ConfigMap": [("data", {"url": "rediss://:secret@host"})],
}
"""What some rules look for that a safe resource does not have."""
OTHERWISE = ("*", "0.0.0.0/0", "default", 0)


def mutants(thing: Thing) -> Iterator[Thing]:
    """Yield copies of a thing with one change each, and copies without its neighbours or its protection."""
    yield replace(thing, protect=False)
    yield replace(thing, others=())
    for inputs in _changed(thing.inputs):
        yield replace(thing, inputs=inputs)
    for path, value in ADDITIONS.get(thing.type, ()):
        yield replace(thing, inputs=_with(thing.inputs, path.split("."), value))


def _changed(value: Any) -> Iterator[Any]:
    """Yield copies of a value with one thing in it gone or otherwise."""
    if isinstance(value, dict):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield {other: kept for other, kept in value.items() if other != key}  # pyright: ignore[reportUnknownVariableType]
            yield from ({**value, key: changed} for changed in _changed(item))
    elif isinstance(value, list):
        for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield [*value[:index], *value[index + 1 :]]
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in _changed(item))
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, str) and value.startswith("{"):
        document = json.loads(value)
        yield from (json.dumps(changed) for changed in _changed(document))
        if "Statement" in document:
            yield json.dumps({**document, "Statement": [ANYBODY]})
        else:
            yield json.dumps({**document, "body": "$input.body"})
    else:
        yield from (other for other in OTHERWISE if other != value)


def _with(inputs: Any, path: list[str], value: Any) -> Any:
    """Return a copy of nested inputs with a value put at a path."""
    copied = copy.deepcopy(inputs)
    place = copied
    for part in path[:-1]:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})  # pyright: ignore
    place[path[-1]] = value
    return copied


def caught(rule: Rule, thing: Thing) -> bool:
    """Whether the rule refuses some mutant; one that a check can't even read counts as refused by no rule."""
    for mutant in mutants(thing):
        try:
            if list(rule.check(mutant)):
                return True
        except (KeyError, TypeError, AttributeError, ValueError):
            continue
    return False


@pytest.mark.parametrize("type_", sorted(RULES))
def test_every_rule_refuses_something(type_: str) -> None:
    candidates = [thing for stack in reversed(STACKS) for thing in things(stack) if thing.type == type_]
    for rule in RULES[type_]:
        satisfied = [thing for thing in candidates if not list(rule.check(thing))]
        assert len(satisfied) < len(candidates) or any(caught(rule, thing) for thing in satisfied[:3]), rule.title


def pod() -> dict[str, Any]:
    """A pod that satisfies every rule."""
    container = {
        "name": "main",
        "image": f"registry/image@{DIGEST}",
        "resources": {"limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "serviceAccountName": "app",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def safe() -> dict[str, Thing]:
    """An object of every kind, all of them safe."""
    metadata = {"name": "app", "namespace": "ours"}
    peer = {"podSelector": {"matchLabels": {"app": "other"}}}
    rules: dict[str, Any] = {
        "ingress": [{"from": [peer], "ports": [{"port": 80}]}],
        "egress": [{"to": [peer], "ports": [{"port": 80}]}],
    }
    labels = {"app": "app"}
    objects: dict[str, dict[str, Any]] = {
        "Deployment": {"spec": {"template": {"metadata": {"labels": labels}, "spec": pod()}}},
        "DaemonSet": {"spec": {"template": {"metadata": {"labels": labels}, "spec": pod()}}},
        "NetworkPolicy": {
            "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"], **rules}
        },
        "Service": {"spec": {"type": "ClusterIP"}},
        "ServiceAccount": {"automountServiceAccountToken": False},
        "ConfigMap": {"data": {"port": "80"}},
    }
    found: list[Thing] = []
    found.extend(
        Thing(kind, "app", {"metadata": metadata, **item}, "prod", others=found) for kind, item in objects.items()
    )
    return {thing.type: thing for thing in found}


@pytest.mark.parametrize("kind", sorted(kubernetes_rules.RULES))
def test_every_rule_about_the_cluster_lets_a_safe_object_through_and_refuses_another(kind: str) -> None:
    thing = safe()[kind]
    for rule in kubernetes_rules.RULES[kind]:
        assert list(rule.check(thing)) == [], rule.title
        assert caught(rule, thing), rule.title


def test_a_type_without_rules_is_a_finding() -> None:
    thing = Thing("aws:new/service:Service", "new", {}, "prod")
    assert [finding.control for finding in walk([thing], {}, {})] == [UNKNOWN]
    assert list(walk([thing], {}, {thing.type: "harmless"})) == []


def test_an_exemption_covers_what_it_names_and_must_be_needed() -> None:
    finding = Finding("prod", "t", "name", "c", "detail")
    exemption = Exemption("c", "t", "na*", reason="why", stacks=("prod",))
    assert uncovered([finding], []) == ["prod: t name: c: detail"]
    assert uncovered([finding], [exemption]) == []
    assert uncovered([finding], [replace(exemption, detail="other")]) == ["prod: t name: c: detail"]
    assert unneeded([finding], [exemption]) == []
    assert unneeded([finding], [replace(exemption, stacks=("dev", "prod"))]) == ["c t na* *: covers nothing in dev"]
