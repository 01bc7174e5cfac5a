"""Fits against worked examples, and what is said of those that fail."""

import re
import timeit
from dataclasses import replace

import pytest

from llm_serving.capacity import catalog, fit
from llm_serving.capacity.placement import Placement

VLLM_ALWAYS = {"gpt-oss-120b"}
"""Models that TGI does not run."""


def placed(model: str, instance: str, runtime: str = "tgi", gpus: int | None = None, **values: object) -> Placement:
    kind = catalog.instance(instance)
    runtime = "vllm" if model in VLLM_ALWAYS else runtime
    start = Placement(catalog.model(model), catalog.runtime(runtime), kind, gpus or kind.gpus)
    return replace(start, **values)


def found(placement: Placement) -> dict[str, fit.Finding]:
    return {finding.code: finding for finding in fit.findings(placement, fit.fit(placement))}


# Worked with 0.90 of the memory, 2.5 GiB of overhead on each GPU, and all GPUs of the instance; thousands of tokens.
FITS = [
    ("Llama-3.1-8B", None, "g5.xlarge", 21),
    ("Llama-3.1-8B", None, "g6.xlarge", 21),
    ("Llama-3.1-8B", None, "g6e.xlarge", 186),
    ("Llama-3.1-8B", None, "p5.4xlarge", 443),
    ("Llama-3.1-70B", None, "g5.48xlarge", 31),
    ("Llama-3.1-70B", None, "g6e.12xlarge", 64),
    ("Llama-3.1-70B", None, "p4d.24xlarge", 447),
    ("Llama-3.1-70B", None, "p5.48xlarge", 1383),
    ("Llama-3.1-70B", "awq", "g5.12xlarge", 109),
    ("Llama-3.1-70B", "awq", "p5.4xlarge", 105),
    ("Llama-3.1-405B", "fp8", "p5.48xlarge", 356),
    ("Llama-3.1-405B", "fp8", "p5en.48xlarge", 1266),
    ("gpt-oss-120b", None, "p5.4xlarge", 116),  # the example has 122: see below
    ("gpt-oss-120b", None, "g5.12xlarge", 140),
    ("gpt-oss-120b", None, "g6e.12xlarge", 1312),
]
DOES_NOT_FIT = [
    ("Llama-3.1-8B", None, "g4dn.xlarge", 0),
    ("Llama-3.1-70B", None, "g5.12xlarge", 0),
    ("Llama-3.1-70B", None, "g6.12xlarge", 0),
    ("Llama-3.1-70B", None, "p5.4xlarge", 0),
    ("Llama-3.1-70B", "awq", "g6e.xlarge", 2),
    ("Llama-3.1-405B", "fp8", "p4d.24xlarge", 0),
    ("gpt-oss-120b", None, "g6e.xlarge", 0),
]


@pytest.mark.parametrize(("model", "quantization", "instance", "thousands"), FITS)
def test_fits(model: str, quantization: str | None, instance: str, thousands: int) -> None:
    placement = placed(model, instance, quantization=quantization, gpu_memory_utilization=0.90)

    fitted = fit.fit(placement)

    assert fitted.fits
    # The examples are in whole thousands, some cut off: half of one more for those below 50.
    assert fitted.kv_pool_tokens == pytest.approx(1000 * thousands, rel=0.02, abs=1000)
    assert fitted.concurrent_requests == fitted.kv_pool_tokens // 8192
    assert not [finding for finding in fit.findings(placement, fitted) if finding.severity == "error"]


def test_what_an_h100_reserves_is_much_of_a_small_pool() -> None:
    # The example took the 81559 MiB that nvidia-smi totals; CUDA was measured to see 480 fewer.
    measured = placed("gpt-oss-120b", "p5.4xlarge", gpu_memory_utilization=0.90)
    example = replace(measured, instance=replace(measured.instance, gpu_memory_mib=81559))

    fewer = fit.fit(example).kv_pool_tokens - fit.fit(measured).kv_pool_tokens
    assert fit.fit(example).kv_pool_tokens == pytest.approx(122_000, rel=0.02)
    assert fewer == pytest.approx(0.9 * 480 * fit.MIB / (72 * 1024), abs=1)


@pytest.mark.parametrize(("model", "quantization", "instance", "thousands"), DOES_NOT_FIT)
def test_does_not_fit(model: str, quantization: str | None, instance: str, thousands: int) -> None:
    placement = placed(model, instance, quantization=quantization, gpu_memory_utilization=0.90)

    fitted = fit.fit(placement)

    assert not fitted.fits
    assert fitted.concurrent_requests == 0
    assert round(fitted.kv_pool_tokens / 1000) == thousands
    assert set(found(placement)) == {"FIT_KV_POOL" if thousands else "FIT_WEIGHTS"}


@pytest.mark.parametrize(("runtime", "usable"), [("tgi", 0.90), ("vllm", 0.92)])
def test_a_runtimes_own_fraction(runtime: str, usable: float) -> None:
    budget = fit.fit(placed("Llama-3.1-8B", "g6e.xlarge", runtime)).per_gpu

    assert budget.total == 45776 / 1024
    assert budget.usable == pytest.approx(usable * budget.total)
    assert budget.reserve + budget.usable == pytest.approx(budget.total)
    assert budget.weights + budget.overhead + budget.kv_cache == pytest.approx(budget.usable)
    assert budget.headroom == pytest.approx(budget.kv_cache - budget.sequence)
    assert budget.sequence == 1


def test_tensorrt_llm_takes_a_fraction_of_what_is_free() -> None:
    budget = fit.fit(placed("Llama-3.1-8B", "g6e.xlarge", "tensorrt-llm")).per_gpu

    assert budget.kv_cache == pytest.approx(0.9 * (budget.total - budget.weights - budget.overhead))
    assert budget.usable == pytest.approx(budget.weights + budget.overhead + budget.kv_cache)


def test_the_overhead_can_be_set() -> None:
    placement = placed("Llama-3.1-8B", "g6e.xlarge")

    more = fit.fit(placement, overhead_gib=3.5)
    assert fit.fit(placement).per_gpu.kv_cache - more.per_gpu.kv_cache == pytest.approx(1)
    assert fit.fit(placement).kv_pool_tokens - more.kv_pool_tokens == 8192  # of 128 KiB each


def test_several_nodes_split_layers() -> None:
    placement = placed("Llama-3.1-70B", "g5.12xlarge", "vllm")

    assert not fit.fit(placement).fits
    assert fit.fit(replace(placement, nodes=2)).fits


def test_weights_that_do_not_fit_name_instance_types_that_would_do() -> None:
    finding = found(placed("Llama-3.1-70B", "g5.12xlarge"))["FIT_WEIGHTS"]

    assert finding.setting == "--instance"
    assert "needs 32.85 GiB for weights and 2.50 GiB of overhead, and may use 20.12 of its 22.35 GiB" in finding.message
    assert "largest context that fits: 0 tokens" in finding.message
    assert "g6e.12xlarge with 4 GPUs" in finding.message
    assert 1 <= len(finding.alternatives) <= 4
    for name in finding.alternatives:
        assert fit.fit(placed("Llama-3.1-70B", name)).fits


def test_a_small_pool_names_the_largest_context() -> None:
    placement = placed("Llama-3.1-70B", "g6e.xlarge", quantization="awq", setting="models.chat")

    finding = found(placement)["FIT_KV_POOL"]

    assert finding.setting == "models.chat.maxTotalTokens"
    context = fit.fit(placement).max_context
    assert f"largest context that fits: {context} tokens" in finding.message
    assert finding.alternatives[0] == str(context)
    assert fit.fit(replace(placement, max_total_tokens=context)).fits
    assert not fit.fit(replace(placement, max_total_tokens=context + 1)).fits


def test_what_would_do_is_the_cheapest() -> None:
    finding = found(placed("Llama-3.1-8B", "g4dn.xlarge", dtype="bfloat16"))["FIT_WEIGHTS"]

    priced = [catalog.instance(name).usd_per_hour or 0 for name in finding.alternatives]
    assert finding.alternatives[0] == "g6.xlarge"
    assert priced == sorted(priced)
    assert not {catalog.instance(name).gpu.name for name in finding.alternatives} & {"T4", "T4g", "V100"}


def test_a_limit_that_is_wrong_everywhere_speaks_against_no_instance_type() -> None:
    wrong = placed("Llama-3.1-70B", "g5.12xlarge", max_input_tokens=9000, max_total_tokens=8192)

    assert (
        found(wrong)["FIT_WEIGHTS"].alternatives
        == found(placed("Llama-3.1-70B", "g5.12xlarge"))["FIT_WEIGHTS"].alternatives
    )


def test_nothing_would_do() -> None:
    huge = replace(catalog.model("Llama-3.1-405B"), layers=5000)
    placement = replace(placed("Llama-3.1-405B", "p5.48xlarge"), model=huge)

    finding = found(placement)["FIT_WEIGHTS"]

    assert finding.message.endswith("no instance type of the catalog would do")
    assert finding.alternatives == ()


def test_longer_than_the_model() -> None:
    finding = found(placed("Mistral-7B-v0.3", "g6e.xlarge", max_total_tokens=40000))["FIT_CONTEXT"]

    assert finding.severity == "error"
    assert finding.alternatives == ("32768",)
    assert "40000 tokens are more than the 32768 that Mistral-7B-v0.3 was made for" in finding.message
    assert "FIT_CONTEXT" not in found(placed("Mistral-7B-v0.3", "g6e.xlarge", max_total_tokens=32768))


def test_the_largest_context_is_at_most_the_models_own() -> None:
    assert fit.fit(placed("Mistral-7B-v0.3", "p5.4xlarge")).max_context == 32768


def test_more_requests_than_fit() -> None:
    placement = placed("Llama-3.1-8B", "g6.xlarge", "vllm", target_concurrency=20, mean_total_tokens=2000)
    tokens = fit.fit(placement).kv_pool_tokens

    finding = found(placement)["FIT_CONCURRENCY"]

    assert finding.severity == "warning"
    assert f"20 requests of 2000 tokens take 40000 tokens, and the KV cache holds {tokens}" in finding.message
    assert finding.alternatives == (str(tokens // 2000),)
    assert "FIT_CONCURRENCY" not in found(replace(placement, target_concurrency=tokens // 2000))
    assert "FIT_CONCURRENCY" in found(replace(placement, mean_total_tokens=None))


def test_little_headroom() -> None:
    tight = placed("Llama-3.1-70B", "g5.48xlarge")
    budget = fit.fit(tight).per_gpu

    finding = found(tight)["FIT_HEADROOM"]

    assert finding.severity == "warning"
    assert f"{budget.headroom:.2f} GiB of each GPU are spare" in finding.message
    assert "FIT_HEADROOM" not in found(placed("Llama-3.1-70B", "p4d.24xlarge"))


def test_bits_that_nobody_says() -> None:
    assert found(placed("Llama-3.1-8B", "g6e.xlarge", quantization="exl2"))["FIT_WEIGHT_BITS"].severity == "warning"
    assert "FIT_WEIGHT_BITS" not in found(placed("Llama-3.1-8B", "g6e.xlarge", quantization="awq"))


def with_parts(*keys: str) -> Placement:
    placement = placed("Llama-3.1-8B", "g6e.xlarge")
    return replace(placement, model=replace(placement.model, other_parts=keys))


def test_parts_that_are_not_counted() -> None:
    finding = found(with_parts("vision_config", "audio_config"))["FIT_OTHER_PARTS"]

    assert (finding.severity, finding.setting) == ("warning", "--model")
    assert "Llama-3.1-8B has vision_config, audio_config beside the language model" in finding.message
    assert "not in the 14.96 GiB that count for each GPU" in finding.message
    assert "FIT_OTHER_PARTS" not in found(with_parts())


def test_unknown_memory() -> None:
    instance = replace(catalog.instance("g6e.xlarge"), gpu_memory_mib=0)

    finding = found(replace(placed("Llama-3.1-8B", "g6e.xlarge"), instance=instance))["FIT_MEMORY_UNKNOWN"]

    assert finding.severity == "unchecked"


@pytest.mark.parametrize(
    ("values", "setting", "message"),
    [
        ({"gpus": 0}, "--tp", "0 is below 1; nearest valid value: 1"),
        ({"nodes": -1}, "--nodes", "-1 is below 1; nearest valid value: 1"),
        ({"max_total_tokens": 0}, "--max-total-tokens", "0 is below 1; nearest valid value: 1"),
        ({"max_input_tokens": -5}, "--max-input-tokens", "-5 is below 1; nearest valid value: 1"),
        ({"max_concurrent_requests": 0}, "--max-concurrent-requests", "0 is below 1; nearest valid value: 1"),
        ({"target_concurrency": 0}, "--expected-concurrency", "0 is below 1; nearest valid value: 1"),
        ({"mean_total_tokens": 0}, "--mean-total-tokens", "0 is below 1; nearest valid value: 1"),
        ({"gpu_memory_utilization": 1.5}, "--gpu-memory-utilization", "1.5 is not above 0 .*nearest valid value: 1$"),
        ({"gpu_memory_utilization": 0.0}, "--gpu-memory-utilization", "0 is not above 0 .*nearest valid value: 0.9$"),
        ({"gpu_memory_utilization": float("nan")}, "--gpu-memory-utilization", "nan is not above 0 .*: 0.9$"),
    ],
)
def test_numbers_out_of_range(values: dict[str, object], setting: str, message: str) -> None:
    placement = replace(placed("Llama-3.1-8B", "g6e.xlarge"), **values)  # pyright: ignore[reportArgumentType]

    (finding,) = fit.validate(placement)

    assert (finding.code, finding.severity, finding.setting) == ("FIT_INPUT", "error", setting)
    assert re.search(message, finding.message)
    with pytest.raises(ValueError, match="FIT_INPUT"):
        fit.fit(placement)


def test_all_numbers_out_of_range_are_named_at_once() -> None:
    placement = placed("Llama-3.1-8B", "g6e.xlarge", max_total_tokens=0, gpu_memory_utilization=2.0)

    assert len(fit.validate(placement)) == 2
    assert fit.validate(placed("Llama-3.1-8B", "g6e.xlarge")) == []


def test_every_finding_has_a_check() -> None:
    codes = {check.code: check.severity for check in fit.CHECKS}
    placements = [
        placed("Llama-3.1-70B", "g5.12xlarge"),
        placed("Llama-3.1-70B", "g6e.xlarge", quantization="awq"),
        placed("Llama-3.1-70B", "g5.48xlarge", quantization="exl2", target_concurrency=100),
        placed("Mistral-7B-v0.3", "g6e.xlarge", max_total_tokens=40000),
        with_parts("vision_config"),
        replace(
            placed("Llama-3.1-8B", "g6e.xlarge"), instance=replace(catalog.instance("g6.xlarge"), gpu_memory_mib=0)
        ),
    ]
    findings = [finding for placement in placements for finding in fit.findings(placement, fit.fit(placement))]
    findings += fit.validate(placed("Llama-3.1-8B", "g6e.xlarge", max_total_tokens=0))

    assert {finding.code: finding.severity for finding in findings} == codes


def test_speed() -> None:
    placement = placed("Llama-3.1-70B", "g6e.12xlarge")

    fit.fit(placement)
    assert min(timeit.repeat(lambda: fit.fit(placement), number=10, repeat=5)) / 10 < 0.001


def test_the_405b_model_over_two_nodes_of_eight_h100_by_hand() -> None:
    """Each node has 63 of the 126 layers, and one end of the model; each GPU an eighth of that and 1 key-value head."""
    hidden, kv, wide, vocabulary = 16_384, 1_024, 53_248, 128_256
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * wide + 2 * hidden
    end = vocabulary * hidden
    weights = 2 * (63 * layer + end) / 8
    token = 63 * 2 * 128 * 2
    whole = Placement(
        catalog.model("Llama-3.1-405B"), catalog.runtime("vllm"), catalog.instance("p5.48xlarge"), gpus=8, nodes=2
    )
    fitted = fit.fit(whole)
    assert fitted.per_gpu.weights * fit.GIB == pytest.approx(weights, rel=1e-4)
    usable = whole.instance.gpu_memory_mib * fit.MIB * 0.92
    assert fitted.kv_pool_tokens == pytest.approx((usable - weights - 2.5 * fit.GIB) / token, rel=1e-3)
    assert fitted.fits
    assert not fit.fit(replace(whole, nodes=1)).fits
