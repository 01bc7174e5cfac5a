"""Reads what `driver` judges: the NVIDIA driver from its own libraries, the rest from the image and from PyTorch."""

import ctypes
import importlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from embedder.driver import Facts, Gpu, Version

_PROC = Path("/proc/driver/nvidia/version")
_VERSION = re.compile(r"(\d+)\.(\d+)")


def read(proc: Path = _PROC) -> Facts:
    """The facts of this process; raises nothing where something is not there."""
    failure, driver_cuda = _cuda()
    driver = _nvml() or _proc(proc)
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        # A CUDA library that is missing shows here.
        return Facts(driver, driver_cuda, image_cuda(), failure=_line(error))
    gpus, reason = _gpus(torch) if not failure else ((), failure)
    return Facts(
        driver=driver,
        driver_cuda=driver_cuda,
        image_cuda=image_cuda(),
        torch=str(torch.__version__),
        torch_cuda=version(str(torch.version.cuda or "")),
        architectures=tuple(map(str, torch.cuda.get_arch_list())),
        gpus=gpus,
        failure=reason,
    )


def image_cuda() -> Version | None:
    """The CUDA of the image: NVIDIA's base images say it in `CUDA_VERSION`."""
    return version(os.environ.get("CUDA_VERSION", ""))


def version(text: str) -> Version | None:
    """The first two numbers of a version."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2])) if match else None


def _gpus(torch: Any) -> tuple[tuple[Gpu, ...], str]:
    try:
        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError) as error:
        return (), _line(error)
    return tuple(Gpu(str(each.name), (int(each.major), int(each.minor))) for each in found), ""


def _cuda() -> tuple[str, Version | None]:
    """Why CUDA does not start ('' where it does), and the newest CUDA of the driver library."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return _line(error), None
    number = ctypes.c_int()
    known = library.cuDriverGetVersion(ctypes.byref(number)) == 0
    newest = (number.value // 1000, number.value % 1000 // 10) if known else None
    code = library.cuInit(0)
    if code == 0:
        return "", newest
    name = ctypes.c_char_p()
    library.cuGetErrorName(code, ctypes.byref(name))
    return name.value.decode() if name.value else f"CUDA error {code}", newest


def _nvml() -> str | None:
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libnvidia-ml.so.1")
        text = ctypes.create_string_buffer(96)
        if library.nvmlInit_v2() == 0 and library.nvmlSystemGetDriverVersion(text, len(text)) == 0:
            return text.value.decode()
    return None


def _proc(path: Path) -> str | None:
    with suppress(OSError):
        match = re.search(r"\s(\d{3,}(\.\d+)+)\s", path.read_text())
        return match[1] if match else None
    return None


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
