"""What is said of a driver, an image's CUDA, a build of PyTorch and a GPU, before anything is computed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedder import gpu
from embedder.driver import MINIMUM_BRANCH, Facts, Gpu, judge

from llm_serving.capacity import catalog

H100 = Gpu("NVIDIA H100 80GB HBM3", (9, 0))
L40S = Gpu("NVIDIA L40S", (8, 9))
T4 = Gpu("Tesla T4", (7, 5))
V100 = Gpu("Tesla V100-SXM2-16GB", (7, 0))
B300 = Gpu("NVIDIA B300", (10, 3))
RTX = Gpu("NVIDIA GeForce RTX 5090", (12, 0))
FITS = Facts(
    driver="580.159.04",
    driver_cuda=(13, 0),
    image_cuda=(13, 0),
    torch="2.11.0+cu130",
    torch_cuda=(13, 0),
    architectures=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"),
    gpus=(H100,),
)
"""The image's parts on a node that has what they need."""


def test_what_fits_is_said_too() -> None:
    verdict = judge(FITS)

    assert verdict.fits
    assert verdict.line == (
        "driver 580.159.04 runs CUDA 13.0 of the image and CUDA 13.0 of PyTorch 2.11.0+cu130"
        " on NVIDIA H100 80GB HBM3 (9.0)"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"gpus": (T4,)},
        {"gpus": (L40S,)},  # by the machine code of 8.6
        {"gpus": (B300,)},  # by that of 10.0
        {"gpus": (H100, L40S)},
        {"gpus": (RTX,), "architectures": ("sm_90", "compute_90")},  # the driver compiles it
        {"architectures": ("sm_90a",)},
        {"image_cuda": None},
        {"driver_cuda": None},
        {"driver": "595.71.05", "driver_cuda": (13, 2)},
        {"driver": "535.183.01", "driver_cuda": (13, 0)},  # by the image's compatibility package
        {"driver": "580.159.04", "torch_cuda": (13, 2)},  # by minor-version compatibility
    ],
)
def test_what_fits(changed: dict[str, Any]) -> None:
    verdict = judge(replace(FITS, **changed))

    assert verdict.fits, verdict.line


OLD = {"driver": "570.86.10", "driver_cuda": (12, 8)}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            OLD,
            (
                "driver 570.86.10 is too old for CUDA 13.0 of the image, which needs driver 580 or newer: use a node"
                " image with such a driver, or an image with CUDA 12"
            ),
        ),
        (
            {**OLD, "image_cuda": (12, 8)},
            (
                "driver 570.86.10 is too old for CUDA 13.0 of PyTorch 2.11.0+cu130, which needs driver 580 or newer:"
                " use a node image with such a driver, or an image with CUDA 12"
            ),
        ),
        (
            {"driver": "418.226.00", "driver_cuda": None},
            (
                "driver 418.226.00 is too old for CUDA 13.0 of the image, which needs driver 580 or newer: use a node"
                " image with such a driver, or an image with an older CUDA"
            ),
        ),
        (
            {"image_cuda": (14, 0)},
            "driver 580.159.04 has CUDA up to 13.0, and the image needs 14.0: use a node image with a newer driver",
        ),
        (
            {
                "driver": None,
                "driver_cuda": None,
                "gpus": (),
                "failure": "libcuda.so.1: cannot open shared object file",
            },
            (
                "no NVIDIA driver is visible (libcuda.so.1: cannot open shared object file): ask for nvidia.com/gpu"
                " in the pod's resources, on a node with the driver and NVIDIA's container toolkit, or use"
                " the CPU image"
            ),
        ),
        (
            {"gpus": (), "failure": "CUDA_ERROR_NO_DEVICE"},
            (
                "driver 580.159.04 is there, but no GPU can be used (CUDA_ERROR_NO_DEVICE): ask for nvidia.com/gpu in"
                " the pod's resources"
            ),
        ),
        (
            {"gpus": (), "failure": "CUDA_ERROR_SYSTEM_NOT_READY"},
            (
                "driver 580.159.04 is there, but no GPU can be used (CUDA_ERROR_SYSTEM_NOT_READY): start NVIDIA's"
                " fabric manager on the node"
            ),
        ),
        (
            {"gpus": (), "failure": ""},
            "driver 580.159.04 is there, but no GPU can be used (no reason given): see the node",
        ),
        (
            {"gpus": (H100, V100)},
            (
                "PyTorch 2.11.0+cu130 has no kernels for the Tesla V100-SXM2-16GB (compute capability 7.0), only for"
                " sm_75, sm_80, sm_86, sm_90, sm_100, sm_120, compute_120: use another GPU or build"
            ),
        ),
        (
            {"gpus": (B300,), "architectures": ("sm_90a", "sm_100a")},
            (
                "PyTorch 2.11.0+cu130 has no kernels for the NVIDIA B300 (compute capability 10.3), only for sm_90a,"
                " sm_100a: use another GPU or build"
            ),
        ),
        (
            {"gpus": (RTX,), "architectures": ("sm_90", "compute_90"), "torch_cuda": (13, 2)},
            (
                "PyTorch 2.11.0+cu130 has kernels for the NVIDIA GeForce RTX 5090 (compute capability 12.0) only as"
                " code that the driver compiles, and driver 580.159.04 is older than its CUDA: use a driver with"
                " CUDA 13.2"
            ),
        ),
        (
            {"torch": "2.11.0+cpu", "torch_cuda": None},
            "PyTorch 2.11.0+cpu is built without CUDA: install the build for CUDA, or use the CPU image",
        ),
        (
            {"torch": "", "failure": "libcudnn.so.9: cannot open shared object file"},
            (
                "PyTorch cannot be imported (libcudnn.so.9: cannot open shared object file): build the image from its"
                " requirements, or use the CPU image"
            ),
        ),
    ],
)
def test_what_does_not_fit_is_one_line_with_a_way_out(changed: dict[str, Any], line: str) -> None:
    verdict = judge(replace(FITS, **changed))

    assert not verdict.fits
    assert verdict.line == line


def test_limits_of_a_driver_that_is_older_than_the_minor_version_are_named() -> None:
    verdict = judge(replace(FITS, torch_cuda=(13, 2), torch="2.13.0"))

    assert "CUDA 13.2 of PyTorch 2.13.0, by minor-version compatibility on" in verdict.line


def test_the_driver_branches_are_those_of_the_planners_catalog() -> None:
    known = {version[0]: release.minimum_driver for version, release in catalog.cuda_releases().items()}

    assert known == MINIMUM_BRANCH


class Cuda:
    """What of `torch.cuda` is read."""

    def __init__(self, gpus: list[Gpu], failure: Exception | None = None) -> None:
        self._gpus = gpus
        self._failure = failure

    def device_count(self) -> int:
        return len(self._gpus)

    def get_device_properties(self, index: int) -> SimpleNamespace:
        if self._failure:
            raise self._failure
        each = self._gpus[index]
        return SimpleNamespace(name=each.name, major=each.capability[0], minor=each.capability[1])

    def get_arch_list(self) -> list[str]:
        return ["sm_90"]


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = SimpleNamespace(__version__="2.11.0+cu130", version=SimpleNamespace(cuda="13.0"), cuda=Cuda([H100]))

    def import_module(_: str) -> SimpleNamespace:
        return module

    monkeypatch.setattr("importlib.import_module", import_module)
    monkeypatch.setattr(gpu, "_cuda", lambda: ("", (13, 0)))
    monkeypatch.setattr(gpu, "_nvml", lambda: "580.159.04")
    monkeypatch.setenv("CUDA_VERSION", "13.0.3")
    return module


def test_the_facts_are_the_machines(torch: SimpleNamespace) -> None:
    assert gpu.read() == replace(FITS, architectures=("sm_90",))


def test_pytorchs_reason_is_its_first_line(torch: SimpleNamespace) -> None:
    torch.cuda = Cuda([H100], RuntimeError("CUDA error: unknown\nset CUDA_LAUNCH_BLOCKING=1"))

    assert gpu.read().failure == "CUDA error: unknown"


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Oct  1 00:00:00 2026\nGCC version: gcc 12.3",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (root@host)\n",
    ],
)
def test_without_its_library_the_drivers_version_is_the_kernels(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setattr(gpu, "_nvml", lambda: None)
    (tmp_path / "version").write_text(text)

    assert gpu.read(tmp_path / "version").driver == "580.159.04"
    assert gpu.read(tmp_path / "none").driver is None


def test_a_machine_without_a_gpu_has_no_facts_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VERSION", raising=False)
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver")

    facts = gpu.read()

    assert (facts.driver, facts.image_cuda, facts.gpus) == (None, None, ())
    assert not judge(facts).fits
