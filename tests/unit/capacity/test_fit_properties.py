"""What holds of every fit, whatever the model, the machine and the settings."""

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serving.capacity import catalog, fit, kv_cache, weights
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.quantization import KV_CACHE_BYTES, WEIGHT_BITS

WHOLE = [instance for instance in catalog.instances().values() if instance.gpus > 0]

models = st.sampled_from(list(catalog.models().values()))
plain_models = models.filter(lambda shape: shape.quantization is None)
placements = st.builds(
    Placement,
    model=models,
    runtime=st.sampled_from(list(catalog.runtimes().values())),
    instance=st.sampled_from(WHOLE),
    gpus=st.sampled_from([1, 2, 4, 8]),
    nodes=st.integers(1, 4),
    quantization=st.none() | st.sampled_from(sorted(WEIGHT_BITS)),
    kv_cache_dtype=st.none() | st.sampled_from(sorted(KV_CACHE_BYTES)),
    max_total_tokens=st.integers(1, 200_000),
    gpu_memory_utilization=st.none() | st.floats(0.05, 1),
    target_concurrency=st.none() | st.integers(1, 1000),
    mean_total_tokens=st.none() | st.integers(1, 10_000),
)


@given(placements, st.integers(1, 500_000))
def test_more_memory_never_makes_it_unfit(placement: Placement, more_mib: int) -> None:
    larger = replace(placement.instance, gpu_memory_mib=placement.instance.gpu_memory_mib + more_mib)

    before, after = fit.fit(placement), fit.fit(replace(placement, instance=larger))

    assert after.kv_pool_tokens >= before.kv_pool_tokens
    assert after.fits >= before.fits
    assert after.max_context >= before.max_context


@given(placements)
def test_twice_the_gpus_never_hold_less(placement: Placement) -> None:
    assert fit.fit(replace(placement, gpus=2 * placement.gpus)).kv_pool_tokens >= fit.fit(placement).kv_pool_tokens


@given(placements)
def test_one_more_node_never_holds_less(placement: Placement) -> None:
    more = replace(placement, nodes=placement.nodes + 1)

    assert fit.fit(more).kv_pool_tokens >= fit.fit(placement).kv_pool_tokens


@given(plain_models, st.sampled_from(sorted(WEIGHT_BITS)), st.sampled_from(sorted(WEIGHT_BITS)))
def test_fewer_bits_never_need_more(shape: ModelShape, one: str, other: str) -> None:
    if "mxfp4" in one + other or "experts" in one + other:
        one, other = "fp8", "awq"
    low, high = sorted((one, other), key=WEIGHT_BITS.__getitem__)

    assert weights.weight_bytes(shape, low) <= weights.weight_bytes(shape, high) <= weights.weight_bytes(shape)
    assert weights.weight_bytes(shape) <= weights.weight_bytes(shape, dtype="float32")


@given(placements)
def test_a_smaller_cache_type_never_holds_fewer_tokens(placement: Placement) -> None:
    small, large = replace(placement, kv_cache_dtype="fp8"), replace(placement, kv_cache_dtype="bfloat16")

    assert fit.fit(small).kv_pool_tokens >= fit.fit(large).kv_pool_tokens


@given(placements)
def test_the_largest_context_fits_and_one_more_token_does_not(placement: Placement) -> None:
    fitted = fit.fit(placement)

    if fitted.kv_pool_tokens >= 1:
        assert fit.fit(replace(placement, max_total_tokens=fitted.kv_pool_tokens)).fits
    assert not fit.fit(replace(placement, max_total_tokens=fitted.kv_pool_tokens + 1)).fits


@given(placements)
def test_the_budget_adds_up(placement: Placement) -> None:
    budget = fit.fit(placement).per_gpu

    assert abs(budget.reserve + budget.usable - budget.total) < 1e-9
    spare = budget.usable - budget.weights - budget.overhead
    assert abs(budget.kv_cache - max(spare, 0)) < 1e-9
    assert abs(budget.headroom - (spare - budget.sequence)) < 1e-9
    assert budget.reserve >= -1e-9


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w.]*[a-zA-Z])", text)]


@settings(max_examples=50)
@given(placements)
def test_every_number_in_a_message_parses_back(placement: Placement) -> None:
    fitted = fit.fit(placement)
    budget, tokens = fitted.per_gpu, placement.max_total_tokens
    mean, requests = placement.mean_total_tokens or tokens, placement.target_concurrency or 0
    needed = budget.weights + budget.overhead
    expected: dict[str, tuple[float, ...]] = {
        "FIT_WEIGHTS": (budget.weights, budget.overhead, budget.usable, budget.total, 0),
        "FIT_KV_POOL": (budget.weights, budget.overhead, budget.kv_cache, budget.sequence, tokens, fitted.max_context),
        "FIT_CONTEXT": (tokens, placement.model.context),
        "FIT_CONCURRENCY": (requests, mean, requests * mean, fitted.kv_pool_tokens, fitted.kv_pool_tokens // mean),
        "FIT_HEADROOM": (budget.headroom, needed + budget.sequence, tokens),
    }

    for finding in fit.findings(placement, fitted):
        said = numbers(finding.message.partition("would do: ")[0])
        for number in expected[finding.code]:
            assert any(abs(number - each) <= 0.0051 for each in said), (number, finding.message)


@settings(max_examples=25)
@given(placements)
def test_what_would_do_does(placement: Placement) -> None:
    fitted = fit.fit(placement)

    for finding in fit.findings(placement, fitted):
        for name, gpus in re.findall(r"([\w.-]+) with (\d+) GPUs?", finding.message.partition("would do: ")[2]):
            there = replace(placement, instance=catalog.instance(name), gpus=int(gpus), nodes=1)
            assert fit.fit(there).fits
            assert int(gpus) <= there.instance.gpus


@given(placements)
def test_a_token_takes_more_than_nothing(placement: Placement) -> None:
    assert kv_cache.placement_bytes_per_token(placement) > 0
