"""Every rule about whether a placement may run at all, its memory and its node's driver apart."""

from llm_serving.capacity import (
    attention,
    kernel_shapes,
    parallelism,
    precision,
    quantized_weights,
    runtime_support,
    token_limits,
)
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.placement import Placement

CHECKS: tuple[Check, ...] = (
    *runtime_support.CHECKS,
    *parallelism.CHECKS,
    *precision.CHECKS,
    *quantized_weights.CHECKS,
    *kernel_shapes.CHECKS,
    *attention.CHECKS,
    *token_limits.CHECKS,
)

_RULES = (
    runtime_support.check,
    parallelism.check,
    precision.check,
    quantized_weights.check,
    kernel_shapes.check,
    attention.check,
    token_limits.check,
)


def check(placement: Placement) -> list[Finding]:
    """Return everything that is wrong with a placement, errors first; empty where nothing is."""
    found = [finding for rule in _RULES for finding in rule(placement)]
    order = {"error": 0, "warning": 1, "unchecked": 2}
    return sorted(found, key=lambda finding: order[finding.severity])
