"""Drivers against CUDA, frameworks and GPUs: for each rule a node image that breaks it and one that doesn't."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving.capacity import drivers
from llm_serving.capacity.catalog import NodeImage
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.placement import Placement
from tests.unit.capacity import legality_samples
from tests.unit.capacity.legality_samples import AL2023, CUDA, NODE_IMAGES, RUNTIMES, place

BOTTLEROCKET = "BOTTLEROCKET_x86_64_NVIDIA"
WINTER = date(2026, 1, 15)
OLD, R570, R580, NEWEST, BRANCH_ONLY, R595 = NODE_IMAGES


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    legality_samples.use(monkeypatch)


def built_with(cuda: tuple[int, int], framework: tuple[int, int]) -> Placement:
    return replace(place("vllm"), runtime=replace(RUNTIMES["vllm"], cuda=cuda, framework_cuda=framework))


RULES: list[tuple[Placement, NodeImage, str, str, NodeImage]] = [
    (
        place("vllm"),
        R570,
        "error",
        (
            "--instance: CUDA 13.0 of vLLM 0.33.0 needs driver 580 or newer, and AL2023_x86_64_NVIDIA 20250920 for"
            " Kubernetes 1.33 has driver 570.172; nearest valid: release 20260116 with driver 580.105.08; this driver"
            " has CUDA up to 12.8, enough for TGI 3.3.7 [DRIVER_CUDA]"
        ),
        R580,
    ),
    (
        place(),
        OLD,
        "warning",
        (
            "--instance: CUDA 12.4 of TGI 3.3.7 came with driver 550.54.14, and AL2023_x86_64_NVIDIA 20240909 for"
            " Kubernetes 1.33 has driver 535.183.01: it runs with limits, and a container runtime that reads"
            " NVIDIA_REQUIRE_CUDA refuses it unless NVIDIA_DISABLE_REQUIRE=1 is set; nearest valid: release 20250920"
            " with driver 570.172 [DRIVER_MINOR]"
        ),
        R570,
    ),
    (
        built_with((13, 2), (13, 2)),
        R580,
        "warning",
        (
            "--instance: CUDA 13.2 of vLLM 0.33.0 came with driver 595, and AL2023_x86_64_NVIDIA 20260116 for"
            " Kubernetes 1.33 has driver 580.105.08: it runs with limits, and a container runtime that reads"
            " NVIDIA_REQUIRE_CUDA refuses it unless NVIDIA_DISABLE_REQUIRE=1 is set; no release of the catalog has a"
            " newer one that is better; this driver has CUDA up to 13.0, enough for TGI 3.3.7, vLLM 0.33.0,"
            " TensorRT-LLM 1.2.1 [DRIVER_MINOR]"
        ),
        R595,
    ),
    (
        built_with((14, 0), (14, 0)),
        R580,
        "unchecked",
        "--instance: CUDA 14.0 of vLLM 0.33.0 is not in the catalog [DRIVER_CUDA]",
        R580,
    ),
    (
        built_with((12, 4), (13, 0)),
        R570,
        "error",
        (
            "--instance: PyTorch of vLLM 0.33.0 is built with CUDA 13.0, which needs driver 580 or newer, and"
            " AL2023_x86_64_NVIDIA 20250920 for Kubernetes 1.33 has driver 570.172; nearest valid: release 20260116"
            " with driver 580.105.08; this driver has CUDA up to 12.8, enough for TGI 3.3.7 [DRIVER_FRAMEWORK]"
        ),
        R580,
    ),
    (
        place(),
        OLD,
        "warning",
        (
            "--instance: PyTorch of TGI 3.3.7 is built with CUDA 12.8, which came with driver 570.26, and"
            " AL2023_x86_64_NVIDIA 20240909 for Kubernetes 1.33 has driver 535.183.01: it starts, but cannot compile"
            " kernels for a GPU that the image has no machine code for; nearest valid: release 20250920 with driver"
            " 570.172 [DRIVER_FRAMEWORK]"
        ),
        R570,
    ),
    (
        built_with((12, 4), (14, 0)),
        R580,
        "unchecked",
        ("--instance: PyTorch of vLLM 0.33.0 is built with CUDA 14.0, which is not in the catalog [DRIVER_FRAMEWORK]"),
        R580,
    ),
    (
        place("vllm", on="g7.2xlarge"),
        NEWEST,
        "error",
        (
            "--instance: the RTXPRO4500 of g7.2xlarge needs driver 595 or newer, and AL2023_x86_64_NVIDIA 20260714 for"
            " Kubernetes 1.33 has driver 580.159.03; no release of the catalog has it, so it takes an image of your own"
            " [DRIVER_GPU]"
        ),
        R595,
    ),
    (
        place("vllm", on="g7.2xlarge"),
        BRANCH_ONLY,
        "error",
        (
            "--instance: the RTXPRO4500 of g7.2xlarge needs driver 595 or newer, and BOTTLEROCKET_x86_64_NVIDIA 1.68.0"
            " for Kubernetes 1.33 has driver 580; nearest valid: release 1.70.0 [DRIVER_GPU]"
        ),
        R595,
    ),
    (
        place(on="p3.2xlarge"),
        R595,
        "error",
        (
            "--instance: the V100 of p3.2xlarge needs driver 580 or older, and BOTTLEROCKET_x86_64_NVIDIA 1.70.0 for"
            " Kubernetes 1.33 has driver 595.91.07; nearest valid: release 1.68.0 [DRIVER_GPU]"
        ),
        BRANCH_ONLY,
    ),
]
"""A placement, a node image that does not run it, how bad that is, what is said, and a node image that does."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[3][-30:])
def test_rule(rule: tuple[Placement, NodeImage, str, str, NodeImage]) -> None:
    placement, broken, severity, said, right = rule
    found = {str(finding): finding for finding in drivers.check(placement, broken, today=WINTER)}
    assert said in found, sorted(found)
    assert found[said].severity == severity
    if severity != "unchecked":
        assert found[said].code not in codes(drivers.check(placement, right, today=WINTER))


def codes(findings: Iterable[Finding]) -> set[str]:
    return {finding.code for finding in findings}


@pytest.mark.parametrize("runtime", ["tgi", "vllm", "tensorrt-llm"])
@pytest.mark.parametrize("image", [R580, NEWEST, BRANCH_ONLY])
def test_nothing_is_wrong_with_a_driver_that_is_new_enough(runtime: str, image: NodeImage) -> None:
    assert list(drivers.check(place(runtime), image, today=WINTER)) == []


def test_a_branch_is_maintained_to_its_last_day() -> None:
    assert list(drivers.check(place(), R570, today=date(2026, 2, 28))) == []
    (finding,) = drivers.check(place(), R570, today=date(2026, 3, 1))
    assert str(finding) == (
        "--instance: AL2023_x86_64_NVIDIA 20250920 for Kubernetes 1.33 has driver 570.172, whose branch NVIDIA"
        " maintained until 2026-02-28; nearest valid: release 20260714 [DRIVER_END_OF_LIFE]"
    )
    assert finding.alternatives == ("20260714", "20260116")


def test_a_branch_that_nothing_newer_follows() -> None:
    (finding,) = drivers.check(place(), NEWEST, today=date(2028, 7, 1))
    assert finding.message.endswith("maintained until 2028-06-30; no release of the catalog has a newer one")


def test_findings_name_the_pool_of_a_stack_file() -> None:
    placement = place("vllm", setting="models.chat")
    assert {finding.setting for finding in drivers.check(placement, R570, today=WINTER)} == {"models.chat.pool"}


@given(st.sampled_from(sorted(CUDA)), st.sampled_from([OLD, R570, R580, NEWEST, R595]))
def test_what_is_named_as_nearest_runs(cuda: tuple[int, int], image: NodeImage) -> None:
    placement = built_with(cuda, cuda)
    for finding in drivers.check(placement, image, today=WINTER):
        if finding.alternatives:
            better = drivers.node_image(image.ami_type, finding.alternatives[0], image.kubernetes_version)
            assert better is not None
            assert finding.code not in codes(drivers.check(placement, better, today=WINTER))


def test_node_image() -> None:
    assert drivers.node_image(AL2023, None, "1.33") is NEWEST
    assert drivers.node_image(AL2023, "1.33.4-20250920", "1.33") is R570
    assert drivers.node_image(AL2023, "v20250920", "1.33") is R570
    assert drivers.node_image(BOTTLEROCKET, "1.68.0-0a1b2c3d", "1.33") is BRANCH_ONLY
    assert drivers.node_image(AL2023, "1.33.4-20990101", "1.33") is None
    assert drivers.node_image(AL2023, None, "1.20") is None
