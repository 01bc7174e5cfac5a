"""Autoscaling: where the operator comes from that scales the models which ask for it."""

from typing import Literal

from infra.section import Section


class AutoscalingSettings(Section):
    """KEDA, where a model has `autoscaling`."""

    operator: Literal["install", "existing"] = "install"
    """`install` brings KEDA by its chart; `existing` uses the KEDA that the cluster has."""
