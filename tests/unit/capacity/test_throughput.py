"""The throughput estimate against public measurements, and what must hold for every load."""

import dataclasses
import math
from statistics import median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving.capacity import catalog, throughput
from llm_serving.capacity.catalog import Gpu, InstanceType
from llm_serving.capacity.fit import fit
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.throughput import Load, NoEstimate, Throughput

LENGTHS = (
    (1000, 1000),
    (128, 128),
    (128, 2048),
    (128, 4096),
    (2048, 128),
    (2048, 2048),
    (500, 2000),
    (5000, 500),
)
"""Input and output tokens of the columns of MEASURED."""
MEASURED = """
Llama-3.1-8B   H200     fp8   1  16414 27778 22948 15583 3619 11032 19510 3787
Llama-3.1-8B   H100     fp8   1  14108 26933 18995 11815 3460  8777 14993 3258
Llama-3.1-8B   H100     fp16  1   7054 15571  9150  5368 1904  4159  7498 1708
Llama-3.1-8B   A100     fp16  1   3634  6701  4963  3011  795  2264  3945  790
Llama-3.1-8B   A100PCIe fp16  1   3165  5338  4250  2568  611  2011  3374  703
Llama-3.1-8B   L40S     fp8   1   3726  8639  5101  2774  986  2018  4065  855
Llama-3.1-70B  H100     fp8   2   4116  5194  5869  3518  697  2445  4605  886
Llama-3.1-70B  H100     fp8   4   6932  8542  9017  6431 1001  4838  9205 1313
Llama-3.1-70B  H100     fp8   8  10730 15533 15190  9168 1966  7434 13109 2444
Llama-3.1-70B  H100     fp16  4   3774  5846  4982  3083  688  2393  3781  849
Llama-3.1-70B  H100     fp16  8   5978 10649  7605  4981 1316  4023  6205 1420
Llama-3.1-70B  H200     fp8   1   2585  3897  3612  2415  458  1797  2826  533
Llama-3.1-70B  A100     fp16  4   1762  2420  2492  1685  278  1231  2096  362
Llama-3.1-70B  A100     fp16  8   3190  4572  4254  3067  550  2171  3486  670
Llama-3.1-70B  A100PCIe fp16  4    989  1272  1435  1212  150   823  1176  209
Llama-3.1-70B  A100PCIe fp16  8    959  1212  1609  1310  142   858  1306  203
Llama-3.1-70B  L40S     fp8   4   1161  1438  1763  1280  169   876  1470  236
Llama-3.1-70B  L40S     fp8   8   1188  1381  1944  1499  163  1001  1639  230
Mixtral-8x7B   H100     fp16  2   6052 15334  7409  3928 1796  3503  6023 1648
Mixtral-8x7B   H100     fp16  4  15509 27718 21293 11678 3354  9143 17087 3543
Mixtral-8x7B   A100     fp16  4   7357 11328 10929  6538 1351  4963  8930 1603
Mixtral-8x7B   A100     fp16  8  13948 17918 21058 13565 2248 10552 17034 2813
Mixtral-8x7B   L40S     fp8   4   5060  6769  7506  4958  812  3453  6434 1047
Mixtral-8x7B   L40S     fp8   8   5725  6422  9907  8271  771  4929  8130 1098
"""
"""Output tokens per second at saturation, TensorRT-LLM 0.14: docs/source/performance/perf-overview.md of
NVIDIA/TensorRT-LLM, whole numbers. FP8 rows have an FP8 cache too."""
GPUS = {
    "H200": Gpu("H200", (9, 0), 143771, 4800, 989, nvlink=True, minimum_driver=0, last_driver=None),
    "H100": Gpu("H100", (9, 0), 81559, 3350, 989, nvlink=True, minimum_driver=0, last_driver=None),
    "A100": Gpu("A100", (8, 0), 81920, 2039, 312, nvlink=True, minimum_driver=0, last_driver=None),
    "A100PCIe": Gpu("A100PCIe", (8, 0), 81920, 1935, 312, nvlink=False, minimum_driver=0, last_driver=None),
    "A100-40GB": Gpu("A100-40GB", (8, 0), 40960, 1555, 312, nvlink=True, minimum_driver=0, last_driver=None),
    "A40": Gpu("A40", (8, 6), 46068, 696, 149.7, nvlink=False, minimum_driver=0, last_driver=None),
    "RTX4090": Gpu("RTX4090", (8, 9), 24564, 1008, 165.2, nvlink=False, minimum_driver=0, last_driver=None),
    "L40S": Gpu("L40S", (8, 9), 46068, 864, 362, nvlink=False, minimum_driver=0, last_driver=None),
}
"""NVIDIA's datasheets."""


def machine(gpu: Gpu, gpus: int = 8) -> InstanceType:
    return InstanceType(
        name=f"test.{gpu.name}",
        vcpus=96,
        memory_gib=1024,
        gpu=gpu,
        gpus=gpus,
        gpu_memory_mib=gpu.cuda_memory_mib or 0,
        efa_interfaces=0,
        nvme_gb=1000,
        architecture="x86_64",
        usd_per_hour=10.0,
        capacity_block=False,
    )


def placement(model: str = "Llama-3.1-8B", gpu: str = "H100", gpus: int = 1, precision: str = "fp16") -> Placement:
    fp8 = precision == "fp8"
    return Placement(
        model=catalog.model(model),
        runtime=catalog.runtime("tensorrt-llm"),
        instance=machine(GPUS[gpu]),
        gpus=gpus,
        quantization="fp8" if fp8 else None,
        kv_cache_dtype="fp8" if fp8 else None,
        max_concurrent_requests=2048,
    )


def estimated(place: Placement, load: Load) -> Throughput:
    result = throughput.estimate(place, fit(place), load)
    assert isinstance(result, Throughput)
    return result


def measured_over_estimate() -> list[float]:
    ratios: list[float] = []
    for line in MEASURED.split("\n"):
        if not line:
            continue
        model, gpu, precision, gpus, *rates = line.split()
        place = placement(model, gpu, int(gpus), precision)
        for (tokens_in, tokens_out), rate in zip(LENGTHS, rates, strict=True):
            load = Load(1, tokens_in, tokens_out)
            ratios.append(int(rate) / estimated(place, load).peak_output_tokens_per_second)
    return ratios


def test_estimates_are_as_near_to_measurements_as_is_said() -> None:
    ratios = measured_over_estimate()
    assert len(ratios) == 192
    assert median(ratios) == pytest.approx(1.0, abs=0.03)
    deciles = quantiles(ratios, n=10)
    assert (deciles[0], deciles[-1]) == pytest.approx(throughput.SPREAD, abs=0.01)
    assert min(ratios) > 0.64
    assert max(ratios) < 1.66


QWQ_32B = ModelShape(
    name="QwQ-32B",
    family="qwen2",
    layers=64,
    hidden=5120,
    heads=40,
    kv_heads=8,
    head_dim=128,
    intermediate=27648,
    vocabulary=152064,
    context=131072,
    attention_bias=True,
)
VLLM_MEASURED = (
    # johnmusgrave.com, "vLLM throughput-latency sweep on NVIDIA A100": vLLM 0.23.
    ("Llama-3.1-8B", "A100-40GB", 1, 1024, 128, 1, 75.0),
    # yobitelcomm.github.io/bench, "concurrency sweep": vLLM 0.21, 6.48 ms for a token.
    ("Llama-3.1-8B", "H100", 1, 128, 128, 1, 154.3),
    # databasemart.com, "A40 vLLM benchmark": 443 tokens a request.
    ("Llama-3.1-8B", "A40", 1, 100, 443, 50, 1016.6),
    # mushfiqrahman.dev, "Benchmarking Mistral-7B on RTX 4090".
    ("Mistral-7B-v0.3", "RTX4090", 1, 256, 128, 4, 210.0),
    ("Mistral-7B-v0.3", "RTX4090", 1, 256, 128, 16, 644.0),
    ("Mistral-7B-v0.3", "RTX4090", 1, 256, 128, 48, 1190.0),
    # vllm-project/vllm issue 16300: vLLM 0.7.2, NVLink.
    ("QwQ-32B", "A100", 2, 1, 200, 1, 36.2),
    ("QwQ-32B", "A100", 4, 1, 200, 1, 50.0),
    ("QwQ-32B", "A100", 8, 1, 200, 1, 63.0),
    ("QwQ-32B", "A100", 2, 1, 200, 16, 528.0),
    ("QwQ-32B", "A100", 4, 1, 200, 16, 660.0),
    ("QwQ-32B", "A100", 8, 1, 200, 16, 760.0),
    ("QwQ-32B", "A100", 2, 1, 200, 128, 2300.0),
)
"""Output tokens per second of vLLM: model, GPU, GPUs, input and output tokens, requests at once, measured."""


def test_vllm_was_measured_within_what_is_said() -> None:
    ratios: list[float] = []
    for model, gpu, gpus, tokens_in, tokens_out, batch, rate in VLLM_MEASURED:
        place = Placement(
            model=QWQ_32B if model == "QwQ-32B" else catalog.model(model),
            runtime=catalog.runtime("vllm"),
            instance=machine(GPUS[gpu]),
            gpus=gpus,
            max_total_tokens=2048,
            max_concurrent_requests=batch,
        )
        ratios.append(rate / estimated(place, Load(1, tokens_in, tokens_out)).peak_output_tokens_per_second)
    assert (min(ratios), max(ratios)) == pytest.approx(throughput.VLLM_SPREAD, abs=0.01)


def test_the_cache_bounds_the_batch() -> None:
    place = placement()
    pool = fit(place).kv_pool_tokens
    assert estimated(place, Load(1, 1000, 1000)).batch == pool // 2000
    assert estimated(dataclasses.replace(place, max_concurrent_requests=7), Load(1, 1000, 1000)).batch == 7


def test_sustainable_is_the_planned_part_of_the_peak() -> None:
    carried = estimated(placement(), Load(1, 1000, 200, utilization=0.5))
    assert carried.sustainable_requests_per_second == pytest.approx(carried.peak_requests_per_second / 2)


def test_a_latency_limit_takes_the_largest_batch_that_keeps_it() -> None:
    free = estimated(placement(), Load(1, 1000, 200))
    pace = free.engine.seconds_per_output_token(free.load, free.batch)
    assert estimated(placement(), Load(1, 1000, 200, max_seconds_per_output_token=pace)).batch == free.batch
    limit = pace / 2
    load = Load(1, 1000, 200, max_seconds_per_output_token=limit)
    bound = estimated(placement(), load)
    assert 1 <= bound.batch < free.batch
    assert bound.engine.seconds_per_output_token(load, bound.batch) <= limit
    assert bound.engine.seconds_per_output_token(load, bound.batch + 1) > limit


def test_a_latency_limit_that_one_request_breaks_has_no_estimate() -> None:
    place = placement()
    result = throughput.estimate(place, fit(place), Load(1, 1000, 200, max_seconds_per_output_token=0.001))
    assert isinstance(result, NoEstimate)
    assert result.reason == "one request alone takes 8 ms for an output token, above 1 ms"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bandwidth_gb_s": 0.0}, "the memory bandwidth of H100 is unknown"),
        ({"bandwidth_gb_s": math.nan}, "the memory bandwidth of H100 is unknown"),
        ({"tflops_16bit": 0.0}, "the tensor-core throughput of H100 is unknown"),
    ],
)
def test_unknown_speeds_have_no_estimate(change: dict[str, float], reason: str) -> None:
    place = placement()
    place = dataclasses.replace(place, instance=machine(dataclasses.replace(GPUS["H100"], **change)))
    assert throughput.estimate(place, fit(place), Load(1, 100, 100)) == NoEstimate(reason)


def test_pipeline_parallelism_has_no_estimate() -> None:
    place = dataclasses.replace(placement(), nodes=2)
    result = throughput.estimate(place, fit(place), Load(1, 100, 100))
    assert isinstance(result, NoEstimate)
    assert "spans 2 nodes" in result.reason


def test_a_cache_too_small_for_a_request_has_no_estimate() -> None:
    place = placement()
    pool = fit(place).kv_pool_tokens
    result = throughput.estimate(place, fit(place), Load(1, pool, 100))
    assert result == NoEstimate(f"the KV cache holds {pool} tokens, an average request {pool + 100}")


def test_nvlink_beats_pcie() -> None:
    load = Load(1, 2000, 200)
    place = placement("Llama-3.1-70B", "A100", 4)
    pcie = dataclasses.replace(place, instance=machine(dataclasses.replace(GPUS["A100"], nvlink=False)))
    assert estimated(place, load).peak_requests_per_second > 1.5 * estimated(pcie, load).peak_requests_per_second


def test_power_capped_gpus_prefill_at_what_they_hold() -> None:
    place = placement()
    capped = dataclasses.replace(place, instance=machine(dataclasses.replace(GPUS["H100"], name="L4")))
    load = Load(1, 4000, 10)
    ratio = estimated(capped, load).prefill_seconds / estimated(place, load).prefill_seconds
    assert ratio == pytest.approx(throughput.COMPUTE_EFFICIENCY / throughput.POWER_CAPPED_EFFICIENCY)


@pytest.mark.parametrize(
    ("runtime", "gpu", "faster"),
    [("tgi", "L40S", 1), ("tgi", "H100", 2), ("vllm", "L40S", 2), ("vllm", "A100", 1)],
)
def test_fp8_computes_twice_as_fast_only_where_the_kernels_do(runtime: str, gpu: str, faster: int) -> None:
    load = Load(1, 1000, 10)
    place = dataclasses.replace(placement(gpu=gpu), runtime=catalog.runtime(runtime))
    fp8 = dataclasses.replace(place, quantization="fp8")
    ratio = estimated(place, load).prefill_seconds / estimated(fp8, load).prefill_seconds
    assert ratio == pytest.approx(faster)


def test_a_larger_batch_reads_more_experts() -> None:
    place = placement("Mixtral-8x7B", "H100", 2)
    engine = throughput.engine_of(place, fit(place))
    # Without caches and computing, the steps differ by what they read: 2 of 8 experts for one token, all for many.
    one, many = (
        dataclasses.replace(engine, flops_per_token=0, link_seconds_per_token=0).decode_seconds(batch, 0)
        for batch in (1, 200)
    )
    read = (many - 200 * throughput.SEQUENCE_SECONDS - one + throughput.SEQUENCE_SECONDS) * engine.bytes_per_second
    assert read == pytest.approx(engine.expert_bytes * 6 / 8)
    # 47 of Mixtral's 46.7 billion weights are in 8 experts of 32 layers: 45.1 billion of 2 bytes, on two GPUs.
    assert engine.expert_bytes == pytest.approx(8 * 32 * 3 * 4096 * 14336, rel=0.01)
    assert engine.flops_per_token == pytest.approx(12.9e9, rel=0.02)


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({"requests_per_second": 0}, ["requests_per_second: 0 is outside the numbers above 0"]),
        ({"requests_per_second": math.nan}, ["requests_per_second: nan is outside the numbers above 0"]),
        ({"requests_per_second": math.inf}, ["requests_per_second: inf is outside the numbers above 0"]),
        (
            {"mean_input_tokens": -1, "utilization": 1.5},
            [
                "mean_input_tokens: -1 is outside the numbers above 0; nearest value that works: 1",
                "utilization: 1.5 is outside 0 to 1; nearest value that works: 1",
            ],
        ),
        ({"utilization": 0}, ["utilization: 0 is outside 0 to 1; nearest value that works: 0.1"]),
        ({"max_seconds_per_output_token": 0}, ["max_seconds_per_output_token: 0 is outside the numbers above 0"]),
    ],
)
def test_loads_out_of_range_are_named_all_at_once(values: dict[str, float], problems: list[str]) -> None:
    fields = {"requests_per_second": 1.0, "mean_input_tokens": 10.0, "mean_output_tokens": 10.0} | values
    with pytest.raises(ValueError, match="nearest value that works") as error:
        Load(**fields)
    for problem in problems:
        assert problem in str(error.value)
    assert len(str(error.value).splitlines()) == len(problems)


def test_the_assumption_says_the_constants_and_the_load() -> None:
    text = throughput.assumption(Load(1, 900, 150, utilization=0.6))
    for part in ("900 input and 150 output", "60% of their peak", "75% of memory", "60% of dense", "0.82 to 1.12"):
        assert part in text


RATES = st.floats(0.01, 1.0)
TOKENS = st.integers(1, 8000)


@given(tokens_in=TOKENS, tokens_out=TOKENS, share=RATES)
def test_the_batch_that_settles_answers_at_the_rate_asked(tokens_in: int, tokens_out: int, share: float) -> None:
    load = Load(1, tokens_in, tokens_out)
    carried = estimated(placement(), load)
    rate = carried.peak_requests_per_second * share
    pace = carried.seconds_per_output_token(rate)
    # Little's law, but never faster than one request alone.
    batch = rate * tokens_out * pace
    assert batch <= max(1, carried.batch) * (1 + 1e-6)
    assert pace >= carried.engine.seconds_per_output_token(load, 1)
    assert pace <= carried.engine.seconds_per_output_token(load, carried.batch) * (1 + 1e-6)


@given(tokens_in=TOKENS, tokens_out=TOKENS)
def test_more_tokens_never_raise_the_rate(tokens_in: int, tokens_out: int) -> None:
    place = placement()
    rate = estimated(place, Load(1, tokens_in, tokens_out)).peak_requests_per_second
    assert estimated(place, Load(1, tokens_in + 100, tokens_out)).peak_requests_per_second <= rate
    assert estimated(place, Load(1, tokens_in, tokens_out + 100)).peak_requests_per_second <= rate


@given(tokens_in=TOKENS, tokens_out=TOKENS, factor=st.floats(1.0, 4.0))
def test_a_faster_gpu_is_never_slower(tokens_in: int, tokens_out: int, factor: float) -> None:
    load = Load(1, tokens_in, tokens_out)
    place = placement()
    gpu = GPUS["H100"]
    faster = dataclasses.replace(
        gpu, bandwidth_gb_s=gpu.bandwidth_gb_s * factor, tflops_16bit=gpu.tflops_16bit * factor
    )
    better = estimated(dataclasses.replace(place, instance=machine(faster)), load)
    assert better.peak_requests_per_second >= estimated(place, load).peak_requests_per_second
