"""What Amazon EKS offers: Kubernetes versions, add-on versions and node images.

Versions up to 1.35 and their dates are those of the EKS release calendar; 1.36 follows its rhythm (standard support of
14 months, then extended support of 12). Build numbers and image ids are this emulator's own.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Release:
    """A Kubernetes version on EKS."""

    version: str
    patch: str
    released: dt.date
    standard_support_until: dt.date
    extended_support_until: dt.date

    def status(self, today: dt.date) -> str:
        """Which support the version has on a day."""
        if today <= self.standard_support_until:
            return "STANDARD_SUPPORT"
        return "EXTENDED_SUPPORT" if today <= self.extended_support_until else "UNSUPPORTED"


RELEASES = (
    Release("1.32", "1.32.9", dt.date(2025, 1, 23), dt.date(2026, 3, 23), dt.date(2027, 3, 23)),
    Release("1.33", "1.33.5", dt.date(2025, 5, 29), dt.date(2026, 7, 29), dt.date(2027, 7, 29)),
    Release("1.34", "1.34.4", dt.date(2025, 10, 2), dt.date(2026, 12, 2), dt.date(2027, 12, 2)),
    Release("1.35", "1.35.3", dt.date(2026, 1, 27), dt.date(2027, 3, 27), dt.date(2028, 3, 27)),
    Release("1.36", "1.36.3", dt.date(2026, 6, 2), dt.date(2027, 8, 2), dt.date(2028, 8, 2)),
)
DEFAULT = RELEASES[-1]
IMAGE_DATE = "20261110"
"""The date in the node images' release versions."""


def release(version: str) -> Release | None:
    """The release of a `1.NN` version; None where EKS doesn't offer it."""
    return next((known for known in RELEASES if known.version == version), None)


def cluster_version(known: Release, today: dt.date) -> dict[str, Any]:
    """One entry of DescribeClusterVersions."""
    status = known.status(today)
    return {
        "clusterVersion": known.version,
        "clusterType": "eks",
        "defaultPlatformVersion": "eks.9",
        "defaultVersion": known == DEFAULT,
        "releaseDate": _epoch(known.released),
        "endOfStandardSupportDate": _epoch(known.standard_support_until),
        "endOfExtendedSupportDate": _epoch(known.extended_support_until),
        "status": status.lower().replace("_", "-"),
        "versionStatus": status,
        "kubernetesPatchVersion": known.patch,
    }


def _epoch(day: dt.date) -> float:
    return dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()


ADDONS = {
    "vpc-cni": ("networking", ("v1.21.1-eksbuild.3", "v1.20.4-eksbuild.2")),
    "coredns": ("networking", ("v1.12.4-eksbuild.1", "v1.12.1-eksbuild.2")),
    "kube-proxy": ("networking", ()),
    "eks-pod-identity-agent": ("security", ("v1.3.10-eksbuild.1", "v1.3.9-eksbuild.3")),
    "eks-node-monitoring-agent": ("observability", ("v1.4.2-eksbuild.1",)),
    "metrics-server": ("observability", ("v0.8.0-eksbuild.3",)),
    "amazon-cloudwatch-observability": ("observability", ("v6.4.0-eksbuild.1",)),
    "aws-ebs-csi-driver": ("storage", ("v1.53.0-eksbuild.1",)),
    "aws-efs-csi-driver": ("storage", ("v2.1.14-eksbuild.1",)),
    "aws-mountpoint-s3-csi-driver": ("storage", ("v2.2.0-eksbuild.1",)),
}
"""Add-ons of AWS: type and versions, newest first. kube-proxy has a version for each Kubernetes version."""


def addon_versions(name: str, kubernetes: str) -> tuple[str, ...]:
    """An add-on's versions for a Kubernetes version, the default (newest) first."""
    known = release(kubernetes)
    if known is None or name not in ADDONS:
        return ()
    if name == "kube-proxy":
        return (f"v{known.patch}-eksbuild.2", f"v{known.version}.0-eksbuild.2")
    return ADDONS[name][1]


def addon(name: str, kubernetes: str | None) -> dict[str, Any]:
    """One entry of DescribeAddonVersions: every version with the Kubernetes versions that it goes with."""
    fits: dict[str, list[dict[str, Any]]] = {}
    for known in reversed(RELEASES):
        if kubernetes in {None, known.version}:
            for index, version in enumerate(addon_versions(name, known.version)):
                fits.setdefault(version, []).append(
                    {"clusterVersion": known.version, "platformVersions": ["*"], "defaultVersion": index == 0}
                )
    return {
        "addonName": name,
        "type": ADDONS[name][0],
        "publisher": "eks",
        "owner": "aws",
        "addonVersions": [
            {
                "addonVersion": version,
                "architecture": ["amd64", "arm64"],
                "computeTypes": ["ec2", "auto", "hybrid"],
                "compatibilities": compatibilities,
                "requiresConfiguration": False,
                "requiresIamPermissions": name in {"vpc-cni", "aws-ebs-csi-driver", "aws-efs-csi-driver"},
            }
            for version, compatibilities in fits.items()
        ],
    }


def release_version(kubernetes: str) -> str:
    """The newest node image's release version, as `1.36.3-20261110`."""
    known = release(kubernetes)
    return f"{known.patch if known else kubernetes}-{IMAGE_DATE}"


def image_id(region: str, kubernetes: str, architecture: str, variant: str) -> str:
    """A stable id for a node image; every region has its own, as on AWS."""
    seed = f"{region}/{kubernetes}/{architecture}/{variant}/{IMAGE_DATE}"
    return f"ami-{hashlib.sha256(seed.encode()).hexdigest()[:17]}"
