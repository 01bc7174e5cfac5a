"""Node images and Kubernetes versions: for each rule what breaks it and what doesn't."""

from collections.abc import Iterable
from datetime import date

import pytest

from llm_serving.capacity import drivers, kubernetes_support, node_images
from llm_serving.capacity.findings import Finding
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import AL2023, INSTANCES

BOTTLEROCKET = "BOTTLEROCKET_x86_64_NVIDIA"
SETTING = "cluster.gpuPools.l4.releaseVersion"


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


def said(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.severity, str(finding)) for finding in findings]


@pytest.mark.parametrize(
    ("ami_type", "release", "expected"),
    [
        (AL2023, "1.33.4-20260714", []),
        (
            AL2023,
            None,
            [
                (
                    "warning",
                    (
                        "cluster.gpuPools.l4.releaseVersion: AL2023_x86_64_NVIDIA is not pinned: nodes that come up"
                        " later may"
                        " have another driver; newest of the catalog: 20260714 [AMI_UNPINNED]"
                    ),
                )
            ],
        ),
        (
            "AL2023_ARM_64_NVIDIA",
            None,
            [
                (
                    "warning",
                    (
                        "cluster.gpuPools.l4.releaseVersion: AL2023_ARM_64_NVIDIA is not pinned: nodes that come up"
                        " later may"
                        " have another driver [AMI_UNPINNED]"
                    ),
                )
            ],
        ),
        (
            BOTTLEROCKET,
            "1.99.0-abc",
            [
                (
                    "unchecked",
                    (
                        "cluster.gpuPools.l4.releaseVersion: driver of BOTTLEROCKET_x86_64_NVIDIA 1.99.0-abc for"
                        " Kubernetes"
                        " 1.33 is not in the catalog; the catalog has 1.70.0, 1.68.0 [AMI_UNKNOWN]"
                    ),
                )
            ],
        ),
    ],
)
def test_release(ami_type: str, release: str | None, expected: list[tuple[str, str]]) -> None:
    assert said(node_images.check_release(ami_type, release, "1.33", setting=SETTING)) == expected


@pytest.mark.parametrize(
    ("ami_type", "instance", "expected"),
    [
        (AL2023, "g5.xlarge", []),
        ("AL2023_ARM_64_NVIDIA", "g5g.xlarge", []),
        ("CUSTOM", "g5.xlarge", []),
        (
            AL2023,
            "g5g.xlarge",
            [
                (
                    "error",
                    (
                        "amiType: AL2023_x86_64_NVIDIA is for x86_64, and g5g.xlarge is arm64; nearest valid:"
                        " AL2023_ARM_64_NVIDIA [AMI_ARCHITECTURE]"
                    ),
                )
            ],
        ),
        (
            "AL2023_x86_64_STANDARD",
            "g5.xlarge",
            [
                (
                    "error",
                    (
                        "amiType: AL2023_x86_64_STANDARD has no NVIDIA driver for g5.xlarge; nearest valid:"
                        " AL2023_x86_64_NVIDIA or BOTTLEROCKET_x86_64_NVIDIA [AMI_DRIVER]"
                    ),
                )
            ],
        ),
    ],
)
def test_type(ami_type: str, instance: str, expected: list[tuple[str, str]]) -> None:
    assert said(node_images.check_type(ami_type, [INSTANCES[instance]], setting="amiType")) == expected


DOUBLE_DRIVER = (
    "error",
    (
        "cluster.gpuPools: AL2023_x86_64_NVIDIA has driver and container toolkit, and the GPU operator would install"
        " both"
        " again; set driver.enabled=false and toolkit.enabled=false [DEVICE_PLUGIN]"
    ),
)
NO_PLUGIN = (
    "error",
    (
        "cluster.gpuPools: AL2023_x86_64_NVIDIA has no device plugin, so no node would offer nvidia.com/gpu; install"
        " one"
        " [DEVICE_PLUGIN]"
    ),
)
TWO_PLUGINS = (
    "error",
    (
        "cluster.gpuPools: BOTTLEROCKET_x86_64_NVIDIA has a device plugin, and a second one would conflict with it;"
        " do not"
        " install one [DEVICE_PLUGIN]"
    ),
)


@pytest.mark.parametrize(
    ("ami_type", "plugin", "driver", "expected"),
    [
        (AL2023, True, False, []),
        (AL2023, True, True, [DOUBLE_DRIVER]),
        (AL2023, False, False, [NO_PLUGIN]),
        (BOTTLEROCKET, False, False, []),
        (BOTTLEROCKET, True, False, [TWO_PLUGINS]),
        ("CUSTOM", True, True, []),
    ],
)
def test_device_plugin(ami_type: str, plugin: bool, driver: bool, expected: list[tuple[str, str]]) -> None:
    found = drivers.device_plugin(ami_type, installs_device_plugin=plugin, installs_operator_driver=driver)
    assert said(found) == expected


@pytest.mark.parametrize(
    ("version", "today", "expected"),
    [
        ("1.36", "2026-11-25", []),
        ("1.34", "2026-09-03", []),
        (
            "1.34",
            "2026-09-04",
            [
                (
                    "warning",
                    (
                        "cluster.version: standard support of Kubernetes 1.34 on EKS ends on 2026-12-02, in 89 days;"
                        " from"
                        " then on each cluster costs more; longest supported: 1.36 [KUBERNETES_SUPPORT]"
                    ),
                )
            ],
        ),
        (
            "1.34",
            "2026-12-03",
            [
                (
                    "warning",
                    (
                        "cluster.version: standard support of Kubernetes 1.34 on EKS ended on 2026-12-02; until"
                        " 2027-12-02"
                        " each cluster costs more for extended support; nearest valid: 1.35, longest supported: 1.36"
                        " [KUBERNETES_SUPPORT]"
                    ),
                )
            ],
        ),
        (
            "1.31",
            "2026-11-27",
            [
                (
                    "error",
                    (
                        "cluster.version: extended support of Kubernetes 1.31 on EKS ended on 2026-11-26; nearest"
                        " valid:"
                        " 1.34, longest supported: 1.36 [KUBERNETES_SUPPORT]"
                    ),
                )
            ],
        ),
        (
            "1.31",
            "2029-01-01",
            [
                (
                    "error",
                    (
                        "cluster.version: extended support of Kubernetes 1.31 on EKS ended on 2026-11-26"
                        " [KUBERNETES_SUPPORT]"
                    ),
                )
            ],
        ),
        (
            "1.37",
            "2026-11-25",
            [
                (
                    "unchecked",
                    "cluster.version: no support dates of Kubernetes 1.37 on EKS were found [KUBERNETES_SUPPORT]",
                )
            ],
        ),
        (
            "1.99",
            "2026-11-25",
            [
                (
                    "unchecked",
                    (
                        "cluster.version: support dates of Kubernetes 1.99 are not in the catalog, which has 1.31,"
                        " 1.34,"
                        " 1.35, 1.36, 1.37 [KUBERNETES_SUPPORT]"
                    ),
                )
            ],
        ),
    ],
)
def test_kubernetes_support(version: str, today: str, expected: list[tuple[str, str]]) -> None:
    assert said(kubernetes_support.check(version, today=date.fromisoformat(today))) == expected
