"""Parts of network policies that several of them have: who and on which ports. Pure, no Pulumi import."""

from typing import Any

_NAME = "kubernetes.io/metadata.name"
DNS: dict[str, Any] = {
    "namespaceSelector": {"matchLabels": {_NAME: "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
"""The pods of cluster DNS."""


def tcp(*ports: int) -> list[dict[str, Any]]:
    """Return these TCP ports."""
    return [{"protocol": "TCP", "port": port} for port in ports]


def to_dns() -> dict[str, Any]:
    """Return the rule that lets pods look names up."""
    return {"to": [DNS], "ports": [{"protocol": "UDP", "port": 53}, *tcp(53)]}


def pods_of(namespace: str) -> dict[str, Any]:
    """Return all pods of a namespace."""
    return {"namespaceSelector": {"matchLabels": {_NAME: namespace}}}
