"""What every GPU node runs so that its GPUs can be asked for and seen: NVIDIA's device plugin and DCGM exporter."""

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from llm_serving import _checks, _values

CHART = Path(__file__).parent / "charts" / "gpu-agents"


class GpuAgentsArgs(TypedDict):
    """Arguments of `GpuAgents`."""

    dcgm_exporter_image: pulumi.Input[str]
    """Image of the DCGM exporter, by digest."""
    device_plugin_image: NotRequired[pulumi.Input[str]]
    """Image of the NVIDIA device plugin, by digest. Needed with `device_plugin_pools`."""
    device_plugin_pools: NotRequired[Sequence[str]]
    """GPU pools whose node image has no device plugin of its own: AL2023's; Bottlerocket's has. Default: none."""
    namespace: NotRequired[str]
    """Kubernetes namespace to make for them. Default: gpu-agents."""
    scrape_interval_seconds: NotRequired[int]
    """How often Prometheus asks for the GPUs' metrics. Default: 15."""


class GpuAgents(pulumi.ComponentResource):
    """The device plugin and the DCGM exporter as DaemonSets on GPU nodes, in a namespace of their own.

    The namespace admits privileged pods: both reach into the kubelet's folders. The operator's custom resources must be
    there already. Raises ValueError at construction for pools without an image, or a number out of range.
    """

    namespace: pulumi.Output[str]
    """The namespace, known when both are deployed."""

    def __init__(self, name: str, args: GpuAgentsArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:GpuAgents", name, {}, opts)
        pools = list(args.get("device_plugin_pools", []))
        if pools and "device_plugin_image" not in args:
            raise ValueError(
                f"device_plugin_image: is missing, and the nodes of {', '.join(pools)} have no device plugin without it"
            )
        values = _values.gpu_agents(
            dcgm_exporter_image=args["dcgm_exporter_image"],
            device_plugin_image=args.get("device_plugin_image", "") if pools else "",
            device_plugin_pools=pools,
            scrape_interval_seconds=_checks.whole(
                "scrape_interval_seconds", args.get("scrape_interval_seconds", 15), low=1, high=300, unit="s"
            ),
        )
        child = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": args.get("namespace", "gpu-agents"),
                "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
            },
            opts=child,
        )
        chart = kubernetes.helm.v4.Chart(
            name,
            chart=str(CHART),
            name="gpu-agents",
            namespace=namespace.metadata.name.apply(str),
            values=values,
            opts=child,
        )
        self.namespace = pulumi.Output.all(namespace.metadata.name, chart.resources).apply(lambda known: str(known[0]))
        self.register_outputs({"namespace": self.namespace})
