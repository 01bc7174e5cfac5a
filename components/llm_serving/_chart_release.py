"""A chart of others, in a namespace of its own that lets through what it needs: how controllers are installed."""

from typing import Any, NamedTuple, cast

import pulumi
import pulumi_kubernetes as kubernetes


class ChartSource(NamedTuple):
    """Where a chart comes from."""

    name: str
    """Its name in the repository; its whole address where it is in an OCI registry."""
    version: str
    repository: str | None
    release: str | None = None
    """Name of the release. None for the chart's."""


def own_namespace(
    name: str, called: str, policy_name: str, policy: dict[str, Any], opts: pulumi.ResourceOptions
) -> kubernetes.core.v1.Namespace:
    """Make the namespace `called`, restricted, with a network policy for all of its pods."""
    namespace = kubernetes.core.v1.Namespace(
        f"{name}-namespace",
        metadata={"name": called, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        opts=opts,
    )
    kubernetes.networking.v1.NetworkPolicy(
        f"{name}-traffic",
        metadata={"name": policy_name, "namespace": namespace.metadata.name},
        spec=cast(Any, policy),
        opts=opts,
    )
    return namespace


def released(
    name: str,
    source: ChartSource,
    namespace: kubernetes.core.v1.Namespace,
    values: pulumi.Input[dict[str, Any]],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[str]:
    """Install the chart; returns the namespace's name, known once what is in it runs."""
    release = kubernetes.helm.v3.Release(
        name,
        name=source.release or source.name,
        chart=source.name,
        version=source.version,
        repository_opts=None if source.repository is None else {"repo": source.repository},
        namespace=namespace.metadata.name.apply(str),
        values=values,
        # A release that fails half-way is taken back whole, rather than left to be found pending.
        atomic=True,
        timeout=600,
        opts=opts,
    )
    return pulumi.Output.all(namespace.metadata.name, release.urn).apply(lambda known: str(known[0]))
