"""A resource's state, in the SDK's names, from which the bridge's own can be had again to the last byte.

The bridge keeps with each state what it needs to recover Terraform's (`__pulumi_raw_state_delta`), and refuses a state
that isn't the one that it gave. Not every conversion can be undone: of an empty list where the SDK has one object
nothing is left. What is lost is kept in the state beside the rest.
"""

from local.plugins.aws.conversion import Converter, Direction
from local.plugins.aws.pairing import Pairings
from local.plugins.aws.shapes import ObjectShape
from local.plugins.aws.values import Properties

LOST = "__bridge"
"""The key for the bridge's properties that their converted form doesn't give back."""


def to_sdk(state: Properties, sdk: ObjectShape, bridge: ObjectShape, pairings: Pairings) -> Properties:
    """The bridge's state in the SDK's names."""
    converted = Converter(pairings, Direction.STATE_TO_SDK).properties(state, bridge, sdk)
    again = Converter(pairings, Direction.TO_BRIDGE).properties(converted, sdk, bridge)
    lost = {name: value for name, value in state.items() if name not in again or again[name] != value}
    return {**converted, LOST: lost} if lost else converted


def to_bridge(state: Properties, sdk: ObjectShape, bridge: ObjectShape, pairings: Pairings) -> Properties:
    """The state that `to_sdk` was given."""
    plain = {name: value for name, value in state.items() if name != LOST}
    converted = Converter(pairings, Direction.TO_BRIDGE).properties(plain, sdk, bridge)
    return {**converted, **(state.get(LOST) or {})}
