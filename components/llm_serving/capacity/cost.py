"""What instances cost, and what that makes a token cost. An unknown price stays unknown: it is never counted as 0."""

from dataclasses import dataclass

from llm_serving.capacity.catalog import InstanceType
from llm_serving.capacity.throughput import Load

HOURS_PER_MONTH = 730
"""As AWS's own calculator has it: 8,760 hours of a year / 12."""
UNKNOWN = "unknown"
"""What is shown where a price is not known."""

_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Cost:
    """What some instances cost while they carry a load. Every amount is None where the price is unknown."""

    usd_per_hour: float | None
    """USD per hour of all instances, on demand in us-east-1, from the catalog; nodes' GPUs and disks included only as
    far as the instance price has them."""
    usd_per_month: float | None
    """USD for 730 hours."""
    usd_per_million_output_tokens: float | None
    """USD per 10^6 output tokens at the load itself, not at the instances' capacity: idle capacity is paid for."""
    usd_per_thousand_requests: float | None
    """USD per 1,000 requests at the load itself."""


def cost(instance: InstanceType, instances: int, load: Load) -> Cost:
    """What `instances` of a type cost while they carry `load`, in USD; on-demand price of the catalog."""
    if instance.usd_per_hour is None:
        return Cost(None, None, None, None)
    hourly = instance.usd_per_hour * instances
    requests = load.requests_per_second * _SECONDS_PER_HOUR
    return Cost(
        usd_per_hour=hourly,
        usd_per_month=hourly * HOURS_PER_MONTH,
        usd_per_million_output_tokens=hourly / (requests * load.mean_output_tokens) * 1e6,
        usd_per_thousand_requests=hourly / requests * 1e3,
    )


def usd(amount: float | None) -> str:
    """`amount` of USD as text: to the cent, or to four digits below 1 USD; "unknown" for None."""
    if amount is None:
        return UNKNOWN
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"
