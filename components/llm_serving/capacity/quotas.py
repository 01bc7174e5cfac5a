"""Which EC2 quota the vCPUs of an instance type count against. Pure.

Codes and names are those of Service Quotas for ec2, as its console lists them; "On-Demand Instance quotas" and "Spot
Instance quotas" of the EC2 user guide say which families share one.
"""

import re
from dataclasses import dataclass

from llm_serving.capacity import catalog


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on the vCPUs that run at once in an account and region."""

    code: str
    name: str


STANDARD = Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances")
STANDARD_SPOT = Quota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests")
G = Quota("L-DB2E81BA", "Running On-Demand G and VT instances")
G_SPOT = Quota("L-3819A6DF", "All G and VT Spot Instance Requests")
P = Quota("L-417A185B", "Running On-Demand P instances")
P4_SPOT = Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests")
P5_SPOT = Quota("L-C4BD4855", "All P5 Spot Instance Requests")
ALL = (STANDARD, STANDARD_SPOT, G, G_SPOT, P, P4_SPOT, P5_SPOT)

_SIZES = {"medium": 1, "large": 2, "xlarge": 4}
_STANDARD_CLASSES = "acdhimrtz"


def of(instance_type: str, *, spot: bool) -> Quota | None:
    """Return the quota of an instance type; None where it is not known which one counts."""
    family = instance_type.partition(".")[0]
    if re.match(r"(g|gr|vt)\d", family):
        return G_SPOT if spot else G
    if generation := re.match(r"p(\d)", family):
        if not spot:
            return P
        # Which spot quota P6 counts against, no page that was read says.
        return {"5": P5_SPOT, "6": None}.get(generation[1], P4_SPOT)
    if re.match(rf"[{_STANDARD_CLASSES}]\d", family):
        return STANDARD_SPOT if spot else STANDARD
    return None


def vcpus(instance_type: str) -> int | None:
    """Return the vCPUs of an instance type: the catalog's, else by its size's name; None where that says nothing."""
    if known := catalog.instances().get(instance_type):
        return known.vcpus
    size = instance_type.partition(".")[2]
    if size in _SIZES:
        return _SIZES[size]
    many = re.fullmatch(r"(\d+)xlarge", size)
    return 4 * int(many[1]) if many else None
