"""Which property of the SDK is which of the bridge, for two objects that are the same thing."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from local.plugins.aws.naming import camel, plain, plural
from local.plugins.aws.shapes import ObjectShape, Shape

RENAMED: Mapping[str, Mapping[str, str]] = {
    "aws_api_gateway_base_path_mapping": {"api_id": "restApi"},
    "aws_cloudwatch_metric_alarm": {"alarm_name": "name"},
    "aws_s3_bucket_website_configuration": {"routing_rule": "routingRuleDetails"},
}
"""Names that Pulumi gave by hand: by Terraform resource, the SDK's name of each attribute."""

_REFERENCE = re.compile(r"_(id|name|arn)$")
"""How Terraform ends the name of an attribute that names another resource, and Pulumi at times does not."""


@dataclass(frozen=True)
class Pair:
    """One property, as either side has it."""

    sdk_name: str
    bridge_name: str
    sdk_shape: Shape
    bridge_shape: Shape


class Pairing:
    """Two objects' properties in pairs. What only one side has is in no pair."""

    def __init__(self, sdk: ObjectShape, bridge: ObjectShape) -> None:
        pairs = _match(sdk, bridge)
        self.by_sdk_name = {pair.sdk_name: pair for pair in pairs}
        self.by_bridge_name = {pair.bridge_name: pair for pair in pairs}


def _match(sdk: ObjectShape, bridge: ObjectShape) -> list[Pair]:
    """Pairs names that are the same, then those that differ in number, in an ending, in spelling.

    Both sides name the same Terraform attribute by the same rule. They differ where one of them knows a list to have
    one element at most, and where Pulumi gave the attribute another name by hand.
    """
    ours, theirs = dict(sdk.properties), dict(bridge.properties)
    renamed = RENAMED.get(bridge.name, {})
    spellings: list[Callable[[str, str], str]] = [
        lambda _, attribute: renamed.get(attribute, ""),
        lambda name, _: name,
        lambda _, attribute: camel(attribute),
        lambda _, attribute: camel(plural(attribute)),
        lambda _, attribute: camel(_REFERENCE.sub("", attribute)) if attribute != "id" else "",
    ]
    pairs: list[Pair] = []

    def pair(sdk_name: str, bridge_name: str) -> None:
        pairs.append(Pair(sdk_name, bridge_name, ours.pop(sdk_name).shape, theirs.pop(bridge_name).shape))

    for spelling in spellings:
        for name, found in list(theirs.items()):
            wanted = spelling(name, found.attribute)
            if wanted in ours:
                pair(wanted, name)
    plainly = {spelling: name for name in ours for spelling in (plain(name), plain(plural(name)))}
    for name, found in list(theirs.items()):
        for spelling in (plain(name), plain(found.attribute), plain(plural(found.attribute))):
            if (wanted := plainly.get(spelling, "")) in ours:
                pair(wanted, name)
                break
    return pairs


class Pairings:
    """Pairs objects once and remembers them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[tuple[ObjectShape, ObjectShape], Pairing] = {}

    def of(self, sdk: ObjectShape, bridge: ObjectShape) -> Pairing:
        """The pairing of two objects."""
        with self._lock:
            known = self._known.get((sdk, bridge))
            if known is None:
                known = self._known[sdk, bridge] = Pairing(sdk, bridge)
            return known
