"""Service Quotas: the EC2 quotas that limit how many instances run, as an account has them that serves models.

Codes and names are AWS's. A new account has 0 for the GPU families; these are what one has that asked for more.
"""

from dataclasses import dataclass
from typing import Any

from local.cloud import emulator
from local.cloud.emulator import Call, Response, refusal, reply

TARGET = "ServiceQuotasV20190624"
SERVICE_CODE = "ec2"
SERVICE_NAME = "Amazon Elastic Compute Cloud (Amazon EC2)"
NO_SERVICE = "The request failed because the specified service does not exist."
NO_QUOTA = "The request failed because the specified quota does not exist."
PAGE = 100
"""Quotas of a page, unless fewer are asked for."""


@dataclass(frozen=True)
class Quota:
    """A quota on the vCPUs of some instance families."""

    name: str
    vcpus: float


QUOTAS = {
    "L-1216C47A": Quota("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 640),
    "L-34B43A08": Quota("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 640),
    "L-DB2E81BA": Quota("Running On-Demand G and VT instances", 768),
    "L-3819A6DF": Quota("All G and VT Spot Instance Requests", 768),
    "L-417A185B": Quota("Running On-Demand P instances", 384),
    "L-7212CCBC": Quota("All P4, P3 and P2 Spot Instance Requests", 192),
    "L-C4BD4855": Quota("All P5 Spot Instance Requests", 192),
}
"""By quota code."""


def answer(call: Call) -> Response:
    """Answers GetServiceQuota and ListServiceQuotas, and refuses what isn't there."""
    if call.operation not in {"GetServiceQuota", "ListServiceQuotas"}:
        return refusal(400, "UnknownOperationException", f"{call.operation} is not emulated")
    if call.json.get("ServiceCode") != SERVICE_CODE:
        return refusal(400, "NoSuchResourceException", NO_SERVICE)
    if call.operation == "ListServiceQuotas":
        return _listed(call)
    code = str(call.json.get("QuotaCode"))
    if code not in QUOTAS:
        return refusal(400, "NoSuchResourceException", NO_QUOTA)
    return reply({"Quota": _quota(code)})


def _listed(call: Call) -> Response:
    token = str(call.json.get("NextToken") or "0")
    size = min(int(call.json.get("MaxResults") or PAGE), PAGE)
    if not token.isdigit() or size < 1:
        return refusal(400, "InvalidPaginationTokenException", "Invalid input was provided.")
    first = int(token)
    codes = list(QUOTAS)[first : first + size]
    more = {"NextToken": str(first + size)} if first + size < len(QUOTAS) else {}
    return reply({"Quotas": [_quota(code) for code in codes], **more})


def _quota(code: str) -> dict[str, Any]:
    quota = QUOTAS[code]
    return {
        "ServiceCode": SERVICE_CODE,
        "ServiceName": SERVICE_NAME,
        "QuotaArn": f"arn:aws:servicequotas:{emulator.region()}:{emulator.account()}:{SERVICE_CODE}/{code}",
        "QuotaCode": code,
        "QuotaName": quota.name,
        "Value": quota.vcpus,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "QuotaAppliedAtLevel": "ACCOUNT",
    }
