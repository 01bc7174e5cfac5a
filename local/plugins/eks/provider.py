"""Serves the components to the Pulumi engine."""

import logging
import os
import signal
import sys
from types import FrameType

from pulumi import InputPropertiesError, Inputs, ResourceOptions
from pulumi.provider import CallResult, ConstructResult, Provider
from pulumi.provider.server import main as serve

from local.errors import LocalError
from local.plugins.eks.cluster import Cluster
from local.plugins.eks.node_group import ManagedNodeGroup
from local.plugins.interpreter import version_of
from local.plugins.lifetime import when_orphaned

COMPONENTS = {"eks:index:Cluster": Cluster, "eks:index:ManagedNodeGroup": ManagedNodeGroup}


class EksProvider(Provider):
    """A component provider: its whole work is done in `construct`."""

    def construct(
        self, name: str, resource_type: str, inputs: Inputs, options: ResourceOptions | None = None
    ) -> ConstructResult:
        """Makes a component and its children. Raises InputPropertiesError for what it can't honour."""
        component = COMPONENTS.get(resource_type)
        if component is None:
            raise _refusal(
                f"{resource_type} is not served by the local eks provider (it has {', '.join(COMPONENTS)}): "
                "use one of those, or install Pulumi's official eks plugin"
            )
        try:
            made = component(name, inputs, options or ResourceOptions())
        except LocalError as error:
            raise _refusal(str(error)) from None
        return ConstructResult(made.urn, made.state)

    def call(self, token: str, args: Inputs) -> CallResult:  # noqa: ARG002
        """Refuses every method: `Cluster.getKubeconfig` is the only one there is, and `kubeconfig` serves."""
        raise _refusal(f"{token} is not served by the local eks provider: use the `kubeconfig` output")


def _refusal(message: str) -> InputPropertiesError:
    # The SDK's server fails on this error where its list is None.
    return InputPropertiesError(message, [])


def main() -> None:
    """Serves until the engine ends this process."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # which the SDK's server takes as the end

    signal.signal(signal.SIGTERM, end)
    when_orphaned(lambda: os._exit(0))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # as in a Pulumi program: unfinished futures are no news
    serve(EksProvider(version_of("pulumi-eks")), sys.argv[1:])
    os._exit(0)  # taking the SDKs apart, object by object, takes half a second
