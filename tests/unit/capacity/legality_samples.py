"""A small catalog of made-up rows, and placements on it: what the tests of the rules need to say, and no more.

The rows are like the real ones, but stay as they are when those change, so that a message can be asserted whole.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from llm_serving.capacity import catalog
from llm_serving.capacity.catalog import (
    CudaRelease,
    Gpu,
    InstanceType,
    KubernetesRelease,
    NodeImage,
    RuntimeRelease,
)
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.model_shape import CheckpointQuantization, Experts, LatentAttention, ModelShape
from llm_serving.capacity.placement import Placement


def gpu(
    name: str, capability: tuple[int, int], *, nvlink: bool = False, minimum: int = 0, last: int | None = None
) -> Gpu:
    return Gpu(name, capability, None, 300.0, 100.0, nvlink, minimum, last)


GPUS = {
    each.name: each
    for each in (
        gpu("V100", (7, 0), nvlink=True, last=580),
        gpu("T4", (7, 5)),
        gpu("T4g", (7, 5)),
        gpu("A10G", (8, 6)),
        gpu("L4", (8, 9)),
        gpu("L4-fraction", (8, 9), last=580),
        gpu("A100", (8, 0), nvlink=True),
        gpu("H100", (9, 0), nvlink=True),
        gpu("B200", (10, 0), nvlink=True),
        gpu("RTXPRO4500", (12, 0), minimum=595),
    )
}


def instance(name: str, gpu_name: str, gpus: int, price: float | None, architecture: str = "x86_64") -> InstanceType:
    return InstanceType(name, 8, 32.0, GPUS[gpu_name], gpus, 24576, 0, 0, architecture, price, capacity_block=False)


INSTANCES = {
    each.name: each
    for each in (
        instance("p3.2xlarge", "V100", 1, 3.06),
        instance("p3.16xlarge", "V100", 8, 24.48),
        instance("g4dn.xlarge", "T4", 1, 0.526),
        instance("g4dn.12xlarge", "T4", 4, 3.912),
        instance("g5g.xlarge", "T4g", 1, 0.42, "arm64"),
        instance("g5.xlarge", "A10G", 1, 1.006),
        instance("g5.2xlarge", "A10G", 1, 1.212),
        instance("g5.12xlarge", "A10G", 4, 5.672),
        instance("g5.48xlarge", "A10G", 8, 16.288),
        instance("g6.xlarge", "L4", 1, 0.805),
        instance("g6.12xlarge", "L4", 4, 4.602),
        instance("g6f.xlarge", "L4-fraction", 0, 0.243),
        instance("g7.2xlarge", "RTXPRO4500", 1, 2.52),
        instance("p4d.24xlarge", "A100", 8, 21.958),
        instance("p5.48xlarge", "H100", 8, 55.04),
        instance("p6-b200.48xlarge", "B200", 8, None),
    )
}

RUNTIMES = {
    each.name: each
    for each in (
        RuntimeRelease("tgi", "3.3.7", "tgi:3.3.7", (12, 4), (12, 8), ((8, 0), (8, 6), (9, 0)), (9, 0), 15.0, 0.9),
        RuntimeRelease(
            "vllm", "0.33.0", "vllm:v0.33.0", (13, 0), (13, 0),
            ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)), None, 25.0, 0.92,
        ),
        RuntimeRelease(
            "tensorrt-llm", "1.2.1", "trt:1.2.1", (13, 0), (13, 0), ((8, 0), (8, 9), (9, 0), (10, 0)), None, 18.0, 0.9
        ),
    )
}  # fmt: skip

CUDA = {
    each.version: each
    for each in (
        CudaRelease((12, 4), (550, 54, 14), 525),
        CudaRelease((12, 8), (570, 26), 525),
        CudaRelease((13, 0), (580, 65, 6), 580),
        CudaRelease((13, 2), (595,), 580),
    )
}

AL2023 = "AL2023_x86_64_NVIDIA"
NODE_IMAGES = (
    NodeImage(AL2023, "20240909", "1.33", (535, 183, 1), has_device_plugin=False),
    NodeImage(AL2023, "20250920", "1.33", (570, 172), has_device_plugin=False),
    NodeImage(AL2023, "20260116", "1.33", (580, 105, 8), has_device_plugin=False),
    NodeImage(AL2023, "20260714", "1.33", (580, 159, 3), has_device_plugin=False),
    NodeImage("BOTTLEROCKET_x86_64_NVIDIA", "1.68.0", "1.33", (580,), has_device_plugin=True),
    NodeImage("BOTTLEROCKET_x86_64_NVIDIA", "1.70.0", "1.33", (595, 91, 7), has_device_plugin=True),
)

KUBERNETES = {
    each.version: each
    for each in (
        KubernetesRelease("1.31", "2025-11-26", "2026-11-26"),
        KubernetesRelease("1.34", "2026-12-02", "2027-12-02"),
        KubernetesRelease("1.35", "2027-03-27", "2028-03-27"),
        KubernetesRelease("1.36", "2027-08-02", "2028-08-02"),
        KubernetesRelease("1.37", None, None),
    )
}


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the small catalog in the place of the real one."""
    monkeypatch.setattr(catalog, "gpus", lambda: MappingProxyType(GPUS))
    monkeypatch.setattr(catalog, "instances", lambda: INSTANCES)
    monkeypatch.setattr(catalog, "runtimes", lambda: RUNTIMES)
    monkeypatch.setattr(catalog, "cuda_releases", lambda: CUDA)
    monkeypatch.setattr(catalog, "node_images", lambda: NODE_IMAGES)
    monkeypatch.setattr(catalog, "kubernetes_releases", lambda: KUBERNETES)
    monkeypatch.setattr(catalog, "models", lambda: {CATALOG_MODEL.name: CATALOG_MODEL})


LLAMA = ModelShape("models/llama", "llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072)
CATALOG_MODEL = replace(LLAMA, name="Llama-3.1-8B")
FALCON = ModelShape("falcon-7b", "falcon", 32, 4544, 71, 1, 64, 18176, 65024, 2048)
MIXTRAL = ModelShape("mixtral", "mixtral", 32, 4096, 32, 8, 128, 14336, 32000, 32768, experts=Experts(8, 2, 14336))
QWEN3 = ModelShape("qwen3-32b", "qwen3", 64, 5120, 64, 8, 128, 25600, 151936, 40960)
QWEN3_MOE = ModelShape(
    "qwen3-moe", "qwen3_moe", 48, 2048, 32, 4, 128, 6144, 151936, 40960, experts=Experts(128, 8, 768)
)
GPT_OSS = ModelShape(
    "gpt-oss-20b", "gpt_oss", 24, 2880, 64, 8, 64, 2880, 201088, 131072, experts=Experts(32, 4, 2880),
    quantization=CheckpointQuantization("mxfp4", 4.25, 32),
)  # fmt: skip
DEEPSEEK = ModelShape(
    "deepseek", "deepseek_v3", 61, 7168, 128, 128, 192, 18432, 129280, 163840,
    experts=Experts(256, 8, 2048, shared=1, dense_layers=3),
    latent_attention=LatentAttention(512, 64, 128, 128, 1536),
    quantization=CheckpointQuantization("fp8", 8.0, block=(128, 128)),
)  # fmt: skip
GEMMA2 = ModelShape("gemma", "gemma2", 42, 3584, 16, 8, 256, 14336, 256000, 8192, sliding_window=4096)
AWQ = CheckpointQuantization("awq", 4.16, 128)
GPTQ = CheckpointQuantization("gptq", 4.16, 128)


def quantized(model: ModelShape, quantization: CheckpointQuantization) -> ModelShape:
    """The same model from a quantized checkpoint."""
    return replace(model, quantization=quantization)


def place(
    runtime: str = "tgi", on: str = "g5.xlarge", gpus: int = 1, *, model: ModelShape = LLAMA, **values: Any
) -> Placement:
    """A replica on an instance type of the small catalog."""
    return Placement(model, RUNTIMES[runtime], INSTANCES[on], gpus, **values)


Rule = tuple[Placement, str, str, Placement]
"""A placement, how bad it is, what is said of it, and one like it that does not break the same rule."""


def rule_name(rule: Rule) -> str:
    """What a rule's test is called: its code and the model's family."""
    return f"{_code(rule)}-{rule[0].runtime.name}-{rule[0].model.family}"


def _code(rule: Rule) -> str:
    return rule[2].rpartition("[")[2].rstrip("]")


def codes(rules: Iterable[Rule]) -> set[str]:
    """The codes that rules are about."""
    return {_code(rule) for rule in rules}


def assert_rule(check: Callable[[Placement], Iterable[Finding]], rule: Rule) -> None:
    """Check that a rule says exactly this of a placement that breaks it, and nothing of one that does not."""
    broken, severity, said, right = rule
    found = {str(finding): finding for finding in check(broken)}
    assert said in found, sorted(found)
    assert found[said].severity == severity
    assert _code(rule) not in {finding.code for finding in check(right)}
