"""The controls on Kubernetes objects, by kind: the restricted profile in full, and what goes beyond it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.security.controls import Check, Rule, Thing, absent, equals, present

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""What the restricted profile lets a pod mount."""
POD = "spec.template.spec"


def containers(thing: Thing) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from thing.items(f"{POD}.{kind}")


def each(path: str, wanted: Any) -> Check:
    """Return a check that every container has a value at a path below it."""

    def check(thing: Thing) -> Iterator[str]:
        for container in containers(thing):
            found = Thing("container", container["name"], container, thing.stack).get(path)
            if found != wanted:
                yield f"{container['name']}: {path} is {found!r}, not {wanted!r}"

    return check


def own_namespaces(thing: Thing) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        yield from absent(f"{POD}.{field}")(thing)


def volumes(thing: Thing) -> Iterator[str]:
    for volume in thing.items(f"{POD}.volumes"):
        yield from (f"mounts a {kind}" for kind in sorted(set(volume) - {"name"} - VOLUMES))


def no_host_ports(thing: Thing) -> Iterator[str]:
    for container in containers(thing):
        yield from (f"{container['name']}: host port" for port in container.get("ports", []) if port.get("hostPort"))


def not_root(thing: Thing) -> Iterator[str]:
    yield from equals(f"{POD}.securityContext.runAsNonRoot", True)(thing)
    users = [thing.get(f"{POD}.securityContext.runAsUser")]
    users += [container.get("securityContext", {}).get("runAsUser", 1) for container in containers(thing)]
    if not all(users):
        yield "runs as user 0"
    for container in containers(thing):
        if container.get("securityContext", {}).get("runAsNonRoot") is False:
            yield f"{container['name']} may run as root"


def not_privileged(thing: Thing) -> Iterator[str]:
    for container in containers(thing):
        context = container.get("securityContext", {})
        added = set(context.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}
        if context.get("privileged") or added or context.get("procMount", "Default") != "Default":
            yield f"{container['name']} has more than a container needs"
    yield from absent(f"{POD}.securityContext.sysctls")(thing)


def seccomp(thing: Thing) -> Iterator[str]:
    yield from equals(f"{POD}.securityContext.seccompProfile.type", "RuntimeDefault")(thing)
    for container in containers(thing):
        profile = container.get("securityContext", {}).get("seccompProfile", {}).get("type", "RuntimeDefault")
        if profile != "RuntimeDefault":
            yield f"{container['name']}: seccomp {profile}"


def by_digest(thing: Thing) -> Iterator[str]:
    for container in containers(thing):
        if not re.search(r"@sha256:[0-9a-f]{64}$", container["image"]):
            yield f"{container['name']}: {container['image']}"


def memory_limited(thing: Thing) -> Iterator[str]:
    for container in containers(thing):
        if not container.get("resources", {}).get("limits", {}).get("memory"):
            yield f"{container['name']}: no memory limit"


def no_secret_in_environment(thing: Thing) -> Iterator[str]:
    for container in containers(thing):
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"{container['name']}: {variable['name']}"
        yield from (f"{container['name']}: all of a secret" for e in container.get("envFrom", []) if "secretRef" in e)


def isolated(thing: Thing) -> Iterator[str]:
    labels = thing.fields("spec.template.metadata.labels")
    directions = {
        direction
        for policy in thing.beside("NetworkPolicy")
        if policy.get("metadata.namespace") == thing.get("metadata.namespace")
        and policy.fields("spec.podSelector.matchLabels").items() <= labels.items()
        for direction in policy.items("spec.policyTypes")
    }
    yield from (f"no policy about its {way}" for way in ("Ingress", "Egress") if way not in directions)


def narrow_peers(thing: Thing) -> Iterator[str]:
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for given in thing.items(f"spec.{direction}"):
            rule = Thing("rule", direction, given, thing.stack)
            ports = ", ".join(str(port.get("port")) for port in rule.items("ports"))
            if not ports:
                yield f"{direction} on every port"
            if not rule.items(side):
                yield f"{direction} {side} anywhere on {ports}"
            for peer in rule.items(side):
                cidr = str(peer.get("ipBlock", {}).get("cidr", ""))
                if cidr.endswith("/0"):
                    yield f"{direction} {side} {cidr} on {ports}"


def restricted(thing: Thing) -> Iterator[str]:
    level = thing.fields("metadata.labels").get("pod-security.kubernetes.io/enforce")
    if level != "restricted":
        yield f"enforces {level}"


def default_deny(thing: Thing) -> Iterator[str]:
    name = thing.get("metadata.name")
    for policy in thing.beside("kubernetes:networking.k8s.io/v1:NetworkPolicy"):
        spec = policy.get("spec")
        # One that names every pod leaves none unnamed, whatever it lets through: that is another rule's.
        if policy.get("metadata.namespace") == name and not spec.get("podSelector") and len(spec["policyTypes"]) == 2:
            return
    yield "a pod that no policy names is not isolated"


def no_secret_value(thing: Thing) -> Iterator[str]:
    """Helm keeps values in plain text (failure F26)."""
    # KEDA's chart has a switch of that name.
    if "{'secret':" in str(thing.get("values")).replace("{'secret': True}", ""):
        yield "has a secret in its values"


def cluster_only(thing: Thing) -> Iterator[str]:
    if thing.get("spec.type") != "ClusterIP" or thing.get("spec.externalIPs"):
        yield "can be reached from outside the cluster"


def nothing_secret(thing: Thing) -> Iterator[str]:
    text = str(thing.get("data"))
    yield from (f"holds {found}" for found in re.findall(r"(?i)rediss?://:[^@\s]+@|password\S*|token\S*:", text))


CONTEXT = "securityContext"
POD_RULES: Sequence[Rule] = (
    Rule("PSS; CIS 4.2.1", "Not privileged, no added capability", "chart", not_privileged),
    Rule("PSS; CIS 4.2.2 to 4.2.4", "Namespaces of its own", "chart", own_namespaces),
    Rule("PSS; CIS 4.2.5", "No privilege escalation", "chart", each(f"{CONTEXT}.allowPrivilegeEscalation", False)),
    Rule("PSS", "No capabilities", "chart", each(f"{CONTEXT}.capabilities.drop", ["ALL"])),
    Rule("PSS", "Not root", "chart", not_root),
    Rule("PSS", "Seccomp", "chart", seccomp),
    Rule("PSS", "No volume of the node", "chart", volumes),
    Rule("PSS", "No port of the node", "chart", no_host_ports),
    Rule("own K1", "Read-only root", "chart", each(f"{CONTEXT}.readOnlyRootFilesystem", True)),
    Rule("CIS 4.1.6", "No API token", "chart", equals(f"{POD}.automountServiceAccountToken", False)),
    Rule("own K2", "No addresses of other services in the environment", "chart",
         equals(f"{POD}.enableServiceLinks", False)),
    Rule("CIS 4.1.5", "A service account of its own", "chart",
         lambda thing: [] if thing.get(f"{POD}.serviceAccountName") not in (None, "default") else ["default account"]),
    Rule("CIS 4.4.1", "Secrets are files, not variables", "chart", no_secret_in_environment),
    Rule("own K3", "Images by digest", "chart, `values.schema.json`", by_digest),
    Rule("own K4", "Memory is limited", "chart", memory_limited),
    Rule("CIS 4.3.2", "Isolated by a network policy in both directions", "chart", isolated),
    Rule("CIS 4.5.3", "Not in the default namespace", "`environment.KUBERNETES_NAMESPACE`",
         lambda thing: [] if thing.get("metadata.namespace") not in (None, "default") else ["default namespace"]),
)  # fmt: skip

RULES: Mapping[str, Sequence[Rule]] = {
    "Deployment": POD_RULES,
    "DaemonSet": POD_RULES,
    "NetworkPolicy": (Rule("own K5", "Names its peers and ports", "chart", narrow_peers),),
    "Service": (Rule("own K6", "In the cluster only", "chart", cluster_only),),
    "ServiceAccount": (Rule("CIS 4.1.6", "No API token", "chart", equals("automountServiceAccountToken", False)),),
    "ConfigMap": (Rule("own S2", "Nothing secret in it", "chart", nothing_secret),),
}
"""The rules of each kind that our charts make."""

NOTHING_TO_SECURE: Mapping[str, str] = {
    "ScaledObject": "asks Prometheus, and sets how many pods of its own model there are",
    "PodDisruptionBudget": "keeps pods running, grants nothing",
    "ServiceMonitor": "names what Prometheus reads",
    "TargetGroupBinding": "joins pods with the load balancer's target group",
}
"""Kinds without rules, each with the reason."""

PROGRAM_RULES: Mapping[str, Sequence[Rule]] = {
    "kubernetes:core/v1:Namespace": (
        Rule("PSS; CIS 4.2", "The restricted profile is enforced", "`environment._create_namespace`", restricted),
        Rule("CIS 4.3.2", "A pod that no policy names is isolated", "`network_policy`", default_deny),
    ),
    "kubernetes:networking.k8s.io/v1:NetworkPolicy": (
        Rule("own K5", "Names its peers and ports", "`network_policy`", narrow_peers),
    ),
    "kubernetes:storage.k8s.io/v1:StorageClass": (
        Rule("AWS EC2.3", "Disks are encrypted", "`Monitoring._storage_class`", equals("parameters.encrypted", "true")),
    ),
    "kubernetes:helm.sh/v3:Release": (
        Rule(
            "own K7",
            "An exact version of somebody else's chart",
            "`Monitoring`, `Autoscaling`, `NodeAutoscaling`",
            present("version"),
        ),
        Rule("own S3", "No secret in Helm values", "`Monitoring`, `Autoscaling`, `NodeAutoscaling`", no_secret_value),
    ),
    "kubernetes:helm.sh/v4:Chart": (Rule("own S3", "No secret in Helm values", "`_values`", no_secret_value),),
}
"""The rules of what the program itself makes in the cluster."""
