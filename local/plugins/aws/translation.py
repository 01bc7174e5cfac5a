"""One resource, function or provider as both sides have it: everything about it that is said in two languages."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct

from local.plugins.aws import paths, states
from local.plugins.aws.conversion import Converter, Direction, Dropped, text_of
from local.plugins.aws.pairing import Pairings
from local.plugins.aws.shapes import ObjectShape, Scalar
from local.plugins.aws.values import Properties, from_struct, is_secret, to_struct, within

_OF_PULUMI = ("version", "pluginDownloadURL")
"""What Pulumi itself keeps among a provider's properties."""


@dataclass(frozen=True)
class Translation:
    """Translates between the SDK's names and the bridge's."""

    pairings: Pairings
    sdk: ObjectShape
    bridge: ObjectShape

    def inputs_to_bridge(self, inputs: Properties, dropped: Dropped | None = None) -> Properties:
        """Inputs as the bridge wants them; `dropped` is told of what it doesn't know."""
        return Converter(self.pairings, Direction.TO_BRIDGE, dropped).properties(inputs, self.sdk, self.bridge)

    def inputs_to_sdk(self, inputs: Properties) -> Properties:
        """Inputs as the SDK has them."""
        return Converter(self.pairings, Direction.TO_SDK).properties(inputs, self.bridge, self.sdk)

    def inputs(self, message: Struct) -> Struct:
        """A message of inputs as the bridge wants it."""
        return to_struct(self.inputs_to_bridge(from_struct(message)))

    def inputs_message_to_sdk(self, message: Struct) -> Struct:
        """The bridge's message of inputs as the SDK has it."""
        return to_struct(self.inputs_to_sdk(from_struct(message)))

    def state(self, message: Struct) -> Struct:
        """A message of a resource's state as the bridge gave it."""
        return to_struct(states.to_bridge(from_struct(message), self.sdk, self.bridge, self.pairings))

    def state_to_sdk(self, message: Struct, region: str) -> Struct:
        """The bridge's message of a resource's state as the SDK has it. The provider's region is each resource's."""
        state = states.to_sdk(from_struct(message), self.sdk, self.bridge, self.pairings)
        if region and "region" in self.sdk.properties and state:
            state.setdefault("region", region)
        return to_struct(state)

    def result_to_sdk(self, message: Struct, region: str) -> Struct:
        """The bridge's message of a function's result as the SDK has it."""
        result = self.inputs_to_sdk(from_struct(message))
        if region and "region" in self.sdk.properties:
            result.setdefault("region", region)
        return to_struct(result)

    def name_of(self, attribute: str) -> str:
        """The SDK's name of one of Terraform's attributes; empty where it has none."""
        pairs = self.pairings.of(self.sdk, self.bridge).by_bridge_name
        return next(
            (pairs[name].sdk_name for name, found in self.bridge.properties.items()
             if found.attribute == attribute and name in pairs), "",
        )  # fmt: skip

    def path_to_sdk(self, path: str) -> str:
        """A property's path in the SDK's names."""
        return paths.convert(path, self.bridge, self.sdk, self.pairings, Direction.TO_SDK)

    def paths_to_bridge(self, given: Iterable[str]) -> list[str]:
        """Property paths in the bridge's names."""
        return [paths.convert(path, self.sdk, self.bridge, self.pairings, Direction.TO_BRIDGE) for path in given]

    def configuration(self, message: Struct, dropped: Dropped | None = None) -> Struct:
        """A message of a provider's configuration as the bridge wants it."""
        return to_struct(self.configuration_to_bridge(from_struct(message), dropped))

    def configuration_to_bridge(self, configuration: Properties, dropped: Dropped | None = None) -> Properties:
        """A provider's configuration as the bridge wants it. What isn't a string is JSON in a string on both sides."""
        nested = {key for key, found in self.sdk.properties.items() if not isinstance(found.shape, Scalar)}
        own = {key: value for key, value in configuration.items() if key in _OF_PULUMI}
        rest = {
            key: _decoded(value) if key in nested else value for key, value in configuration.items() if key not in own
        }
        converted = self.inputs_to_bridge(rest, dropped)
        return {**{key: _encoded(value) for key, value in converted.items()}, **own}


def _decoded(value: Any) -> Any:
    if is_secret(value):
        return within(value, _decoded)
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:  # unknown
            return value
    return value


def _encoded(value: Any) -> Any:
    if is_secret(value):
        return within(value, _encoded)
    if isinstance(value, bool | float):
        return text_of(value)
    return json.dumps(value) if isinstance(value, dict | list) else value
