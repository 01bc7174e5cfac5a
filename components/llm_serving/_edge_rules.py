"""What AWS takes of a firewall and of a domain name before an API, and which rules only count. Pure, no Pulumi import:
settings are checked with it too."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_serving import _checks, _cidr

WINDOW_SECONDS = 300
"""Over which a caller's requests are counted, the window that AWS WAF takes by default."""
FEWEST_REQUESTS, MOST_REQUESTS = 10, 2_000_000_000
"""Limits of a rate-based rule (AWS WAF, RateBasedStatement)."""
PLAN_REQUESTS_PER_SECOND = 10.0
"""Rate of a usage plan that names none, as in `UsagePlanArgs`."""

MANAGED_GROUPS: Mapping[str, Sequence[str]] = {
    "AWSManagedRulesAmazonIpReputationList": (
        "AWSManagedIPReputationList", "AWSManagedReconnaissanceList", "AWSManagedIPDDoSList",
    ),
    "AWSManagedRulesCommonRuleSet": (
        "NoUserAgent_HEADER", "UserAgent_BadBots_HEADER", "SizeRestrictions_QUERYSTRING",
        "SizeRestrictions_Cookie_HEADER", "SizeRestrictions_BODY", "SizeRestrictions_URIPATH", "EC2MetaDataSSRF_BODY",
        "EC2MetaDataSSRF_COOKIE", "EC2MetaDataSSRF_URIPATH", "EC2MetaDataSSRF_QUERYARGUMENTS",
        "GenericLFI_QUERYARGUMENTS", "GenericLFI_URIPATH", "GenericLFI_BODY", "RestrictedExtensions_URIPATH",
        "RestrictedExtensions_QUERYARGUMENTS", "GenericRFI_QUERYARGUMENTS", "GenericRFI_BODY", "GenericRFI_URIPATH",
        "CrossSiteScripting_COOKIE", "CrossSiteScripting_QUERYARGUMENTS", "CrossSiteScripting_BODY",
        "CrossSiteScripting_URIPATH",
    ),
    "AWSManagedRulesKnownBadInputsRuleSet": (
        "JavaDeserializationRCE_HEADER", "JavaDeserializationRCE_BODY", "JavaDeserializationRCE_URIPATH",
        "JavaDeserializationRCE_QUERYSTRING", "Host_localhost_HEADER", "PROPFIND_METHOD", "ExploitablePaths_URIPATH",
        "Log4JRCE_HEADER", "Log4JRCE_QUERYSTRING", "Log4JRCE_BODY", "Log4JRCE_URIPATH", "ReactJSRCE_BODY",
    ),
}  # fmt: skip
"""AWS's own rule groups in the order in which they look at a request, the cheapest first, with the names of their
rules (AWS WAF developer guide, baseline and IP reputation rule groups). Together 925 of the 1500 capacity units that a
web ACL has without a surcharge."""

BODY_SUFFIX = "_BODY"
"""How the names of rules end that look into a request's body.

They only count. The body is a prompt: it is often longer than the 8 KB that SizeRestrictions_BODY allows, and people
ask about HTML, file paths, addresses and exploits. WAF sees the first 16 KB only, so that such a rule would also be
easy to get around, and the gateway takes JSON and nothing else, which it neither renders nor runs.
"""
_RULES = [rule for rules in MANAGED_GROUPS.values() for rule in rules]

_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_CERTIFICATE = re.compile(r"arn:(?P<partition>aws[a-z-]*):acm:(?P<region>[a-z0-9-]+):\d{12}:certificate/[0-9a-f-]{36}")
_HOSTED_ZONE = re.compile(r"Z[0-9A-Z]{1,31}")


def counted(group: str, more: Iterable[str] = (), *, everything: bool = False) -> list[str]:
    """Return the rules of a managed group that count and never block: those of bodies, and those in `more`."""
    also = set(more)
    return [rule for rule in MANAGED_GROUPS[group] if everything or rule.endswith(BODY_SUFFIX) or rule in also]


def requests_limit(field: str, requests: float | None, plans: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the requests that one address may make in five minutes; by default twice what the fastest plan allows.

    Where callers show tokens there are no plans, and the default is that of a plan that says nothing.

    Raises ValueError outside AWS's limits, and for less than a usage plan lets one key do from a single address.
    """
    rates = {name: float(plan.get("requests_per_second", PLAN_REQUESTS_PER_SECOND)) for name, plan in plans.items()}
    fastest = max(rates, key=lambda name: rates[name], default="")
    allowed = max(FEWEST_REQUESTS, round(rates.get(fastest, PLAN_REQUESTS_PER_SECOND) * WINDOW_SECONDS))
    if requests is None:
        return 2 * allowed
    limit = _checks.whole(field, requests, low=FEWEST_REQUESTS, high=MOST_REQUESTS, unit="requests")
    if rates and limit < allowed:
        raise ValueError(
            f"{field}: {limit} is below what usage plan {fastest} lets one key send in {WINDOW_SECONDS} s"
            f" ({rates[fastest]:g} a second), and would block it; nearest valid value: {allowed}"
        )
    return limit


def check_counted(field: str, names: Iterable[str]) -> None:
    """Check that AWS's groups have rules of these names: it ignores others; raises ValueError otherwise."""
    for name in names:
        if name not in _RULES:
            raise ValueError(
                f"{field}: {name!r} is no rule of {', '.join(MANAGED_GROUPS)};"
                f" nearest valid value: {_checks.nearest(name, _RULES)}"
            )


def check_callers(field: str, cidrs: Iterable[str]) -> None:
    """Check ranges that may call: IPv4, and not everybody, which WAF doesn't take; raises ValueError otherwise."""
    for cidr in cidrs:
        _cidr.public_network(field, cidr)


def check_domain(field: str, name: str) -> None:
    """Check a domain name: lower case, no scheme, no path, no wildcard; raises ValueError otherwise."""
    if not _DOMAIN.fullmatch(name):
        host = re.sub(r"^[a-z]+://", "", name.strip().lower()).split("/")[0].removeprefix("*.").rstrip(".")
        near = host if _DOMAIN.fullmatch(host) else "llm.example.com"
        raise ValueError(f"{field}: {name!r} is no host name of a domain; nearest valid value: {near}")


def check_certificate(field: str, arn: str, region: str | None = None) -> None:
    """Check that an ARN is a certificate's of ACM, in `region` where one is given; raises ValueError otherwise."""
    found = _CERTIFICATE.fullmatch(arn)
    if not found:
        where = region or "REGION"
        raise ValueError(
            f"{field}: {arn!r} is no ARN of an ACM certificate; nearest valid value:"
            f" arn:aws:acm:{where}:ACCOUNT:certificate/ID"
        )
    if region is not None and found["region"] != region:
        near = arn.replace(f":acm:{found['region']}:", f":acm:{region}:")
        raise ValueError(
            f"{field}: the certificate is in {found['region']}, and a Regional API takes one of its own region;"
            f" nearest valid value: {near.rpartition('/')[0]}/ID"
        )


def check_hosted_zone(field: str, zone: str) -> None:
    """Check the id of a Route 53 hosted zone; raises ValueError otherwise."""
    if not _HOSTED_ZONE.fullmatch(zone):
        bare = zone.rpartition("/")[2].upper()
        near = bare if _HOSTED_ZONE.fullmatch(bare) else "Z0123456789ABCDEFGHIJ"
        raise ValueError(f"{field}: {zone!r} is no id of a hosted zone; nearest valid value: {near}")
