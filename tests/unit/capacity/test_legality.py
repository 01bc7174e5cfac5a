"""All rules of legality together, and on the catalog as it is."""

import re
from collections import Counter
from datetime import date

import pytest

from llm_serving.capacity import catalog, drivers, legality, parallelism
from llm_serving.capacity.naming import nearest
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.runtime_formats import DTYPES, KV_CACHE_DTYPES, QUANTIZATIONS
from tests.unit.capacity.legality_samples import LLAMA

TODAY = date(2026, 11, 25)
RUNTIMES = tuple(catalog.runtimes())


def placed(model: str, instance: str, runtime: str, gpus: int = 1) -> Placement:
    return Placement(catalog.model(model), catalog.runtime(runtime), catalog.instance(instance), gpus)


def errors(placement: Placement) -> list[str]:
    return [str(finding) for finding in legality.check(placement) if finding.severity == "error"]


def test_every_code_is_listed_once() -> None:
    codes = Counter(check.code for check in (*legality.CHECKS, *drivers.CHECKS))
    assert [code for code, times in codes.items() if times > 1] == []
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", code) for code in codes)


def test_every_runtime_of_the_catalog_has_its_formats() -> None:
    assert set(RUNTIMES) == set(QUANTIZATIONS) == set(DTYPES) == set(KV_CACHE_DTYPES)


def test_findings_are_of_a_listed_kind_and_no_worse_than_it_says() -> None:
    ranks = ("error", "warning", "unchecked")
    worst = {check.code: ranks.index(check.severity) for check in legality.CHECKS}
    for runtime in catalog.runtimes().values():
        for instance in catalog.instances().values():
            for model in catalog.models().values():
                for finding in legality.check(Placement(model, runtime, instance, 3)):
                    assert ranks.index(finding.severity) >= worst[finding.code]
                    assert finding.setting not in finding.message
                    assert finding.message == finding.message.strip()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_legal_size_of_each_model_raises_no_error_about_splitting(runtime: str) -> None:
    release, instance = catalog.runtime(runtime), catalog.instance("p5.48xlarge")
    for model in catalog.models().values():
        sizes = parallelism.legal_sizes(model, runtime, 8)
        assert sizes[0] == 1
        for gpus in range(1, 9):
            wrong = {
                finding.code
                for finding in parallelism.check(Placement(model, release, instance, gpus))
                if finding.severity == "error"
            }
            assert (gpus in sizes) == (not wrong)


@pytest.mark.parametrize(
    ("model", "instance", "runtime", "gpus"),
    [
        ("Llama-3.1-8B", "g5.xlarge", "tgi", 1),
        ("Llama-3.1-8B", "g6.xlarge", "vllm", 1),
        ("Llama-3.1-8B", "p5.4xlarge", "tensorrt-llm", 1),
        ("Llama-3.1-70B", "g5.48xlarge", "tgi", 8),
        ("Llama-3.1-70B", "p4d.24xlarge", "vllm", 8),
        ("Llama-3.1-405B", "p5.48xlarge", "vllm", 8),
        ("gpt-oss-120b", "g5.12xlarge", "vllm", 4),
        ("gpt-oss-120b", "g6e.12xlarge", "vllm", 4),
        ("Mixtral-8x7B", "p4d.24xlarge", "tgi", 8),
        ("Qwen3-32B", "g6e.12xlarge", "vllm", 4),
        ("DeepSeek-R1", "p5en.48xlarge", "vllm", 8),
    ],
)
def test_what_is_known_to_run_is_legal(model: str, instance: str, runtime: str, gpus: int) -> None:
    assert errors(placed(model, instance, runtime, gpus)) == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_runtime_runs_on_a_v100(runtime: str) -> None:
    assert any("[RUNTIME_GPU]" in error for error in errors(placed("Llama-3.1-8B", "p3.2xlarge", runtime)))


def test_settings_of_a_stack_file() -> None:
    placement = Placement(
        LLAMA,
        catalog.runtime("tgi"),
        catalog.instance("g4dn.12xlarge"),
        3,
        setting="models.chat",
        dtype="bf16",
        quantization="gguf",
        kv_cache_dtype="fp8",
        max_total_tokens=0,
    )
    assert {finding.setting for finding in legality.check(placement)} == {
        "models.chat.gpus",
        "models.chat.pool",
        "models.chat.dtype",
        "models.chat.quantization",
        "models.chat.kvCacheDtype",
        "models.chat.maxTotalTokens",
    }


def test_errors_come_first() -> None:
    severities = [finding.severity for finding in legality.check(placed("Llama-3.1-8B", "g5.12xlarge", "tgi", 3))]
    assert severities == sorted(severities)
    assert {"error", "warning"} <= set(severities)


def test_unpinned_nodes_run_what_the_catalog_knows_newest() -> None:
    image = drivers.node_image("AL2023_x86_64_NVIDIA", None, "1.36")
    assert image is not None
    for runtime in RUNTIMES:
        assert list(drivers.check(placed("Llama-3.1-8B", "p5.4xlarge", runtime), image, today=TODAY)) == []


def test_an_image_of_2025_is_too_old_for_cuda_13() -> None:
    image = drivers.node_image("AL2023_x86_64_NVIDIA", "1.33.5-20250920", "1.33")
    assert image is not None
    found = {
        finding.code: finding
        for finding in drivers.check(placed("Llama-3.1-8B", "g5.xlarge", "vllm"), image, today=TODAY)
    }
    assert found["DRIVER_CUDA"].severity == "error"
    assert found["DRIVER_CUDA"].alternatives[0] == "20260116"


@pytest.mark.parametrize(
    ("value", "best"), [("gptqq", "gptq"), ("bitsandbytes-nf", "bitsandbytes-nf4"), ("fp-8", "fp8")]
)
def test_nearest(value: str, best: str) -> None:
    assert nearest(value, QUANTIZATIONS["tgi"])[0] == best


def test_nothing_is_near() -> None:
    assert nearest("zzz", ("awq", "gptq")) == ("awq", "gptq")
