"""What an AWS account says about a stack: values that `cloud` asks for and `cloud_rules` judges."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Why something could not be asked."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """An active on-demand capacity reservation or capacity block."""

    identifier: str
    instance_type: str
    zone: str
    open: bool
    """Whether instances of its type use it without naming it, as those of a node group do."""
    instances: int
    """Instances that it holds, used or not."""


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """What was asked of one account in one region."""

    quotas: Mapping[str, float] | Unchecked
    """vCPUs that may run at once, by quota code."""
    offerings: Mapping[str, frozenset[str]] | Unchecked
    """By instance type, the zones that offer it. A type that the region doesn't have is missing or empty."""
    reservations: tuple[Reservation, ...] | Unchecked
    """Capacity that is reserved for the stack's P-class instance types, in all zones of the region."""

    @classmethod
    def unchecked(cls, reason: str) -> "CloudFacts":
        """Return what is known where nothing could be asked."""
        nothing = Unchecked(reason)
        return cls(nothing, nothing, nothing)
