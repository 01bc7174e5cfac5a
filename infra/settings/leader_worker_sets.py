"""LeaderWorkerSets: where the controller comes from that makes the pods of replicas which span nodes."""

from typing import Literal

from infra.section import Section


class LeaderWorkerSetSettings(Section):
    """The controller of LeaderWorkerSets, where a model has `nodes` above 1."""

    controller: Literal["install", "existing"] = "install"
    """`install` brings it by its chart; `existing` uses the one that the cluster has."""
