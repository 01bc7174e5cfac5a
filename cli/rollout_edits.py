"""What each step of a rollout changes in a model's settings: plain mappings as a stack file has them, edited in place.

Every function raises ValueError for a step that cannot be taken, as `key: problem` below the model.
"""

import copy
import math
from collections.abc import Mapping, MutableMapping
from typing import Any

from llm_serving.versions import CANARY, STABLE, WHOLE

Model = MutableMapping[str, Any]
SHADOW = "shadow"
"""The name of a shadow version that is given none."""
OF_THE_VERSION = ("weight", "shadow", "replicas", "autoscaling")
"""What a version keeps when it takes another one's settings: its part of the traffic, and what it needs for that."""


def start(model: Model, name: str, revision: str, weight: int, *, shadow: bool) -> None:
    """Add a version of another revision. Its weight is taken from the stable version, a shadow's from nobody."""
    versions = model.setdefault("versions", {})
    if name == STABLE:
        raise ValueError(f"versions.{name}: is what a rollout starts beside; nearest valid value: {CANARY}")
    if versions.get(name, {}).get("weight", 0):
        raise ValueError(f"versions.{name}: has a weight already; nearest valid step: set, promote or rollback")
    if STABLE not in versions and not versions:
        versions[STABLE] = {"weight": WHOLE}
    versions[name] = {"revision": revision, "weight": weight, "replicas": 1}
    if shadow:
        versions[name]["shadow"] = True
        _grow(model, name, weight)
    else:
        shift(model, {name: weight})


def shift(model: Model, weights: Mapping[str, int]) -> None:
    """Set weights; what they leave of 100 is stable's. A version gets the replicas that its share takes."""
    versions = _versions(model)
    for name, weight in weights.items():
        if name not in versions:
            known = ", ".join(versions)
            raise ValueError(f"versions.{name}: is no version of this model; nearest valid value: one of {known}")
        versions[name]["weight"] = weight
        _grow(model, name, weight)
    if STABLE in versions and STABLE not in weights:
        others = sum(each["weight"] for name, each in versions.items() if name != STABLE and not each.get("shadow"))
        versions[STABLE]["weight"] = max(0, WHOLE - others)


def promote(model: Model) -> bool:
    """Take the canary's next step: all requests, and, once it has them, its settings become the stable version's.

    Returns whether they have. The canary stays up without requests then: gateways learn of it within a minute or so.
    """
    versions = _versions(model)
    if CANARY not in versions or versions[CANARY].get("shadow"):
        raise ValueError(f"versions.{CANARY}: is missing, so there is nothing to promote; nearest valid step: start")
    if STABLE not in versions:
        raise ValueError(f"versions.{STABLE}: is missing, so there is nothing to replace")
    if not versions[CANARY]["weight"]:
        raise ValueError(f"versions.{CANARY}: has no requests that would speak for it; nearest valid step: set")
    if versions[CANARY]["weight"] < WHOLE:
        shift(model, {name: WHOLE * (name == CANARY) for name in _live(versions)})
        return False
    canary, stable = versions[CANARY], versions[STABLE]
    for key in [key for key in stable if key not in OF_THE_VERSION and key not in canary]:
        del stable[key]  # the canary has the model's own
    for key, value in canary.items():
        if key not in OF_THE_VERSION:
            (stable if key in stable else model)[key] = value
    rollback(model)
    return True


def rollback(model: Model) -> None:
    """Give all requests to the stable version again; the others stay up without any."""
    versions = _versions(model)
    if STABLE not in versions:
        raise ValueError(f"versions.{STABLE}: is missing, so there is nothing to go back to; nearest valid step: set")
    for name in _live(versions):
        versions[name]["weight"] = WHOLE * (name == STABLE)


def clean(model: Model) -> None:
    """Remove versions without requests, and the list of versions where only a stable one is left that says nothing."""
    versions = _versions(model)
    for name in [name for name, each in versions.items() if not each["weight"] and name != STABLE]:
        del versions[name]
    if dict(versions) == {STABLE: {"weight": WHOLE}}:
        del model["versions"]


def _versions(model: Model) -> Model:
    if not model.get("versions"):
        raise ValueError("versions: has none; nearest valid step: start")
    return model["versions"]


def _live(versions: Model) -> list[str]:
    return [name for name, each in versions.items() if not each.get("shadow")]


def _grow(model: Model, name: str, weight: int) -> None:
    """Give a version as many replicas as its share of the stable version's takes, where it has fewer.

    A share of autoscaled ones counts from the fewest. A version that gets all requests of an autoscaled stable version
    is autoscaled likewise; one that is autoscaled has no number to change.
    """
    if name == STABLE:
        return
    own, least, scaling = model["versions"][name], *_pods(model, STABLE)
    if scaling and weight == WHOLE:
        for key in ("replicas", "autoscaling"):
            own.pop(key, None)
        if _pods(model, name)[1] != scaling:
            own["autoscaling"] = copy.deepcopy(scaling)
        return
    replicas, scaled = _pods(model, name)
    needed = math.ceil(least * weight / WHOLE)
    if not scaled and replicas < needed:
        own["replicas"] = needed


def _pods(model: Model, name: str) -> tuple[int, Mapping[str, Any] | None]:
    """Return the fewest replicas of a version, and its autoscaling if it has any, as `ModelSettings.version` has it."""
    own = model["versions"].get(name, {})
    fixed = "replicas" in own and "autoscaling" not in own
    scaling = None if fixed else own.get("autoscaling", model.get("autoscaling"))
    if scaling:
        return scaling.get("minReplicas", 1), scaling
    return own.get("replicas", model.get("replicas", 1)), None
