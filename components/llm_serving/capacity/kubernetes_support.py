"""How long EKS supports a Kubernetes version, and what it costs or breaks to stay on it."""

from collections.abc import Iterator
from datetime import date

from llm_serving.capacity import catalog
from llm_serving.capacity.catalog import KubernetesRelease
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.naming import joined

CHECKS = (Check("KUBERNETES_SUPPORT", "error", "EKS no longer supports the Kubernetes version, or soon will not."),)

NOTICE_DAYS = 90
"""Days before the end of support from which a warning comes: time to plan and try an upgrade."""


def check(version: str, *, today: date, setting: str = "cluster.version") -> Iterator[Finding]:
    """Yield what the support dates of a Kubernetes version mean on a day.

    :param version: As in 1.36.
    """
    release = catalog.kubernetes_releases().get(version)
    if release is None:
        known = joined(catalog.kubernetes_releases())
        message = f"support dates of Kubernetes {version} are not in the catalog, which has {known}"
        yield Finding("KUBERNETES_SUPPORT", "unchecked", setting, message, _supported(today))
    elif release.standard_support_ends is None or release.extended_support_ends is None:
        message = f"no support dates of Kubernetes {version} on EKS were found"
        yield Finding("KUBERNETES_SUPPORT", "unchecked", setting, message)
    else:
        yield from _check_dates(release, release.standard_support_ends, release.extended_support_ends, today, setting)


def _supported(today: date) -> tuple[str, ...]:
    """The versions in standard support, the one that stays in it longest first."""
    ends = {
        each.version: each.standard_support_ends
        for each in catalog.kubernetes_releases().values()
        if each.standard_support_ends is not None and date.fromisoformat(each.standard_support_ends) >= today
    }
    return tuple(sorted(ends, key=lambda version: ends[version], reverse=True))


def _check_dates(
    release: KubernetesRelease, standard: str, extended: str, today: date, setting: str
) -> Iterator[Finding]:
    newer = _supported(today)
    nearest = f"; nearest valid: {newer[-1]}, longest supported: {newer[0]}" if newer else ""
    days = (date.fromisoformat(standard) - today).days
    if today > date.fromisoformat(extended):
        message = f"extended support of Kubernetes {release.version} on EKS ended on {extended}{nearest}"
        yield Finding("KUBERNETES_SUPPORT", "error", setting, message, newer)
    elif days < 0:
        message = (
            f"standard support of Kubernetes {release.version} on EKS ended on {standard}; until {extended} each"
            f" cluster costs more for extended support{nearest}"
        )
        yield Finding("KUBERNETES_SUPPORT", "warning", setting, message, newer)
    elif days < NOTICE_DAYS:
        later = tuple(each for each in newer if each != release.version)
        longest = f"; longest supported: {later[0]}" if later else ""
        message = (
            f"standard support of Kubernetes {release.version} on EKS ends on {standard}, in {days} days; from then on"
            f" each cluster costs more{longest}"
        )
        yield Finding("KUBERNETES_SUPPORT", "warning", setting, message, later)
