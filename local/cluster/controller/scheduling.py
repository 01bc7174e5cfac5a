"""What the autoscaler knows of scheduling: what a pod asks for, and whether an empty node of a group would take it.

The part of the scheduler's rules that decides whether another node helps: requests, node selectors, required node
affinity, taints, and whether two pods of one owner may share a node.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from local.cluster.controller.quantities import parse, total
from local.cluster.objects import Json, condition, section, sequence

Resources = dict[str, Decimal]


def requests(pod: Json) -> Resources:
    """What a pod asks for: its containers together, or its largest init container where that is more; and one pod."""
    spec: Json = pod["spec"]
    init = sequence(spec, "initContainers")
    sidecars = [_requests(item) for item in init if item.get("restartPolicy") == "Always"]
    result = total(*(_requests(item) for item in spec["containers"]), *sidecars)
    for item in init:
        for name, amount in _requests(item).items():
            result[name] = max(result.get(name, Decimal(0)), amount)
    return total(result, {"pods": Decimal(1)})


def _requests(container: Json) -> Resources:
    asked = {**section(container, "resources", "limits"), **section(container, "resources", "requests")}
    return {name: parse(amount) for name, amount in asked.items()}


def tolerates(pod: Json, taints: Iterable[Mapping[str, str]]) -> bool:
    """Whether a pod may be put on a node with these taints."""
    tolerations = sequence(pod, "spec", "tolerations")
    hard = (taint for taint in taints if taint["effect"] in ("NoSchedule", "NoExecute"))
    return all(any(_tolerated(toleration, taint) for toleration in tolerations) for taint in hard)


def _tolerated(toleration: Json, taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    return toleration["key"] == taint["key"] and (exists or toleration.get("value", "") == taint.get("value", ""))


def selects(pod: Json, node_labels: Mapping[str, str]) -> bool:
    """Whether a pod's node selector and required node affinity accept a node with these labels."""
    selector = section(pod, "spec", "nodeSelector")
    if any(node_labels.get(key) != value for key, value in selector.items()):
        return False
    required = section(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = sequence(required, "nodeSelectorTerms")
    return not terms or any(_term(term, node_labels) for term in terms)


def _term(term: Json, node_labels: Mapping[str, str]) -> bool:
    expressions = sequence(term, "matchExpressions")
    return bool(expressions) and all(_expression(item, node_labels) for item in expressions)


def _expression(item: Json, node_labels: Mapping[str, str]) -> bool:
    found = node_labels.get(item["key"])
    values: list[str] = item.get("values") or []
    operator: str = item["operator"]
    if operator in ("Gt", "Lt"):
        if found is None or not found.isdigit():
            return False
        return int(found) > int(values[0]) if operator == "Gt" else int(found) < int(values[0])
    accepted = {
        "In": found in values,
        "NotIn": found not in values,
        "Exists": found is not None,
        "DoesNotExist": found is None,
    }
    return accepted.get(operator, False)


def keeps_apart(pod: Json) -> bool:
    """Whether a pod refuses a node where another of its owner runs: anti-affinity or a hard spread over hosts."""
    anti = section(pod, "spec", "affinity", "podAntiAffinity")
    terms = sequence(anti, "requiredDuringSchedulingIgnoredDuringExecution")
    spreads = sequence(pod, "spec", "topologySpreadConstraints")
    hard = [item for item in spreads if item.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"]
    return any(item.get("topologyKey") == "kubernetes.io/hostname" for item in (*terms, *hard))


def owner(pod: Json) -> str:
    """What a pod belongs to: the uid of its owner, or its own name."""
    owners = sequence(pod, "metadata", "ownerReferences")
    return owners[0]["uid"] if owners else f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"


def is_unschedulable(pod: Json) -> bool:
    """Whether the scheduler has found no node for a pod."""
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return False
    scheduled = condition(pod, "PodScheduled")
    return scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
