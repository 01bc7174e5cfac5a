"""URNs and error messages, in which the bridge's names stand for the SDK's."""

import threading
from collections.abc import Callable

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import errors_pb2, provider_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"


def type_of(urn: str) -> str:
    """The type token of a resource's URN."""
    return urn.split("::")[2].rpartition("$")[2]


def with_type(urn: str, token: str) -> str:
    """A URN with another type token for the resource itself; its parents keep theirs."""
    stack, project, types, name = urn.split("::", 3)
    parents, dollar, _ = types.rpartition("$")
    return "::".join([stack, project, f"{parents}{dollar}{token}", name])


class Names:
    """The bridge's tokens and URNs that this plugin gave out, so that they can be told from its messages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}

    def remember(self, bridge: str, sdk: str) -> None:
        """Notes that the bridge's name stands for the SDK's."""
        with self._lock:
            self._names[bridge] = sdk

    def restore(self, text: str) -> str:
        """A message with the SDK's names in it."""
        with self._lock:
            known = [(bridge, sdk) for bridge, sdk in self._names.items() if bridge in text]
        for bridge, sdk in sorted(known, key=lambda pair: -len(pair[0])):
            text = text.replace(bridge, sdk)
        return text


Convert = Callable[[Struct], Struct]


def status_details(error: grpc.Call, restore: Callable[[str], str], inputs: Convert, state: Convert) -> bytes | None:
    """The details of a failed call. They hold the state of a resource that was made in part, which is converted."""
    found = next((value for key, value in error.trailing_metadata() or () if key == _DETAILS), None)
    if not isinstance(found, bytes):
        return None
    status = status_pb2.Status.FromString(found)
    status.message = restore(status.message)
    for detail in status.details:
        _convert(detail, restore, inputs, state)
    return status.SerializeToString()


def _convert(detail: Any, restore: Callable[[str], str], inputs: Convert, state: Convert) -> None:
    if detail.Is(provider_pb2.ErrorResourceInitFailed.DESCRIPTOR):
        failed = provider_pb2.ErrorResourceInitFailed()
        detail.Unpack(failed)
        failed.properties.CopyFrom(state(failed.properties))
        failed.inputs.CopyFrom(inputs(failed.inputs))
        failed.reasons[:] = [restore(reason) for reason in failed.reasons]
        detail.Pack(failed)
    elif detail.Is(errors_pb2.ErrorCause.DESCRIPTOR):
        cause = errors_pb2.ErrorCause()
        detail.Unpack(cause)
        cause.message = restore(cause.message)
        detail.Pack(cause)
