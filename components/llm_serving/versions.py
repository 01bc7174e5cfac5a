"""Versions of a model: how they share its requests, and what their services are called."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

STABLE = "stable"
"""The version that a model without versions has. It has the model's own name, so that adding another one leaves its
pods alone."""
CANARY = "canary"
"""The version that a rollout tries."""
WHOLE = 100
"""What the weights of a model's versions sum to, in percent."""
LONGEST_SERVICE_NAME = 51
"""Characters of a service's name: IAM takes 64 for a role, which is `-pods-` and seven random ones longer."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a version gets of a model's requests."""

    weight: int
    """Percent that it answers; of a shadow, percent that it gets a copy of."""
    shadow: bool = False


def service_name(model: str, version: str) -> str:
    """Return the name of a version's service, pods and service account."""
    return model if version == STABLE else f"{model}-{version}"


def name_problems(model: str, versions: Iterable[str]) -> Iterator[str]:
    """Yield which versions would give their service a name that is too long, each as `versions.NAME: problem`."""
    for version in versions:
        name = service_name(model, version)
        if len(name) > LONGEST_SERVICE_NAME:
            room = LONGEST_SERVICE_NAME - len(model) - 1
            yield (
                f"versions.{version}: its service {name} has a name of {len(name)} characters, above"
                f" {LONGEST_SERVICE_NAME}; nearest valid value: {version[:room].rstrip('-')}"
            )


def share_problems(shares: Mapping[str, Share]) -> Iterator[str]:
    """Yield what is wrong with a model's versions, each as `versions: problem`."""
    weights = {name: share.weight for name, share in shares.items() if not share.shadow}
    total = sum(weights.values())
    if CANARY in weights and STABLE not in weights:
        yield (
            f"versions: has a {CANARY} and no {STABLE} to compare it with and go back to;"
            f" nearest valid value: {_nearest(weights)}"
        )
    elif total != WHOLE:
        shown = " + ".join(f"{name} {weight}" for name, weight in weights.items()) or "none that isn't a shadow"
        yield f"versions: weights sum to {total}, not to {WHOLE} ({shown}); nearest valid value: {_nearest(weights)}"


def _nearest(weights: Mapping[str, int]) -> str:
    """Return weights that sum to 100: what is missing or too much is the stable or else the heaviest version's."""
    rest = max(weights, key=lambda name: weights[name], default=STABLE)
    if {STABLE, CANARY} & weights.keys():
        rest = STABLE
    fitting = dict(weights)
    room = WHOLE
    for name, weight in weights.items():
        if name != rest:
            fitting[name] = min(weight, room)
            room -= fitting[name]
    fitting[rest] = room
    return ", ".join(f"{name} {weight}" for name, weight in fitting.items())
