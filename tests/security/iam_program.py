"""The whole program without a cluster: what it puts there is left out or written to files. AWS sees no difference.

`iam_run.py` copies it beside a project file and runs it.
"""

import importlib
import os
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import providers


class Nothing(pulumi.ComponentResource):
    """Takes the place of what needs a cluster to know its kinds, or a chart repository. None of it calls AWS."""

    def __init__(self, resource_name: str, /, *, opts: pulumi.ResourceOptions, **_: Any) -> None:
        super().__init__("test:index:Nothing", resource_name, {}, opts)
        self.resources = pulumi.Output.from_input([])


def to_files(kubeconfig: pulumi.Output[str], cluster_name: str, *, parent: pulumi.Resource) -> kubernetes.Provider:
    """Take the place of `providers.kubernetes_provider`."""
    return kubernetes.Provider(
        "kubernetes",
        render_yaml_to_directory=os.environ["RENDERED"],
        opts=pulumi.ResourceOptions(depends_on=[parent]),
    )


for module, name in (
    (kubernetes.helm.v4, "Chart"),
    (kubernetes.helm.v3, "Release"),
    (kubernetes.apiextensions, "CustomResource"),
):
    setattr(module, name, Nothing)
providers.kubernetes_provider = to_files
importlib.import_module("infra.__main__").main()
